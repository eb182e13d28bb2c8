/* Compare a path of the kernels with the plain one, to the bit; for processors that are emulated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "linear.h"

static uint32_t state = 1;

static int code(void) {
  state = state * 1664525u + 1013904223u;
  return (int)(state >> 24) - 128;
}

static int8_t *codes(size_t count) {
  int8_t *made = malloc(count);
  for (size_t i = 0; i < count; i++) made[i] = (int8_t)code();
  return made;
}

static float *floats(size_t count) {
  float *made = malloc(count * sizeof *made);
  for (size_t i = 0; i < count; i++) made[i] = (float)code() * 0.037f + (float)code() * 1e-4f;
  return made;
}

static void attend_all(const Path *path, const Sizes *z, const float *q, const int8_t *k,
                       const int8_t *v, float *out) {
  void *keys = aligned_alloc(64, packed_keys_bytes(z));
  void *values = aligned_alloc(64, packed_values_bytes(z));
  void *scratch = aligned_alloc(64, padded(scratch_bytes(z), 64));
  for (size_t i = 0; i < chunks_of(z); i++) {
    pack_keys(path, z, (Rows){k, z->depth, 0}, i, keys);
    pack_values(path, z, (Rows){v, z->width, 0}, i, values);
  }
  for (size_t r = 0; r < z->queries; r += ROWS_MAX) {
    const size_t rows = z->queries - r < ROWS_MAX ? z->queries - r : ROWS_MAX;
    attend(path, z, (Rows){q, z->depth, 1}, keys, values, r, rows, out + r * z->width, z->width,
           scratch);
  }
  free(keys);
  free(values);
  free(scratch);
}

static int attention_differs(const Path *path, size_t queries, size_t keys, size_t depth,
                             size_t width) {
  const Sizes z = {queries, keys, depth, width, 3e-4f, 0.021f, 0.03f, 0.05f, -7};
  const size_t bytes = queries * width * sizeof(float);
  float *q = floats(queries * depth), *a = malloc(bytes), *b = malloc(bytes);
  int8_t *k = codes(keys * depth), *v = codes(keys * width);
  attend_all(path, &z, q, k, v, a);
  attend_all(&path_generic, &z, q, k, v, b);
  const int differs = memcmp(a, b, bytes) != 0;
  free(q), free(a), free(b), free(k), free(v);
  return differs;
}

static int layer_differs(const Path *path, size_t rows, size_t depth, size_t outputs,
                         int activation, int to_codes, int lowest, int highest) {
  const size_t bytes = rows * outputs * sizeof(float);
  float *x = floats(rows * depth), *factors = floats(outputs + 32), *bias = floats(outputs + 32);
  int8_t *weight = codes(depth * outputs);
  void *out[2] = {calloc(bytes, 1), calloc(bytes, 1)};
  for (size_t i = 0; i < outputs; i++) factors[i] *= 1e-4f;
  for (int i = 0; i < 2; i++) {
    const Path *used = i ? &path_generic : path;
    const Finish how = {factors, bias, activation, to_codes, 0.011f, 3, lowest, highest};
    const Grid grid = {0.03f, -5, lowest, highest};
    Packed packed;
    pack_weight(used, weight, depth, outputs, -5, &packed);
    void *scratch = aligned_alloc(64, linear_scratch_bytes(&packed));
    linear_block(used, &packed, x, &grid, rows, &how, out[i], scratch);
    free(scratch);
    free_weight(&packed);
  }
  const int differs = memcmp(out[0], out[1], bytes) != 0;
  free(x), free(factors), free(bias), free(weight), free(out[0]), free(out[1]);
  return differs;
}

int main(int count, char **names) {
  const Path *path = find_path(count > 1 ? names[1] : NULL);
  int wrong = 0;
  if (!path) return puts("no such path here"), 2;
  for (size_t i = 1; i < 40; i += 3) {
    wrong += attention_differs(path, i * 5 % 71 + 1, i * 37 % 600 + 1, i * 11 % 70 + 1, i * 3);
    for (int kind = 0; kind < 12; kind++)
      wrong += layer_differs(path, i * 7 % 64 + 1, i * 13 % 90 + 1, i * 5, kind / 2 % 3, kind % 2,
                             kind < 6 ? -128 : -7, kind < 6 ? 127 : 8);
  }
  printf("%s: %d differ\n", path->name, wrong);
  return wrong != 0;
}
