/* Plain C: what every other path is compared with. */
#include <math.h>
#include <string.h>

#include "attention.h"
#include "exp2.h"

static int available(void) { return 1; }

void quantize_generic(const float *x, size_t length, float scale, int zero, int8_t *codes) {
  const float low = (float)(-128 - zero), high = (float)(127 - zero);
  for (size_t i = 0; i < length; i++) {
    float q = x[i] / scale;
    q = q > low ? q : low;
    q = q < high ? q : high;
    /* Adding and taking away 1.5 * 2^23 rounds half to even; compilers make vectors of it. */
    codes[i] = (int8_t)((int)((q + EXP2_MAGIC) - EXP2_MAGIC) + zero);
  }
}

static void scores(const uint8_t *queries, size_t depth, const int8_t *tile, const int32_t *start,
                   size_t rows, int32_t *sums, int32_t *largest) {
  for (size_t r = 0; r < rows; r++) {
    int32_t *s = sums + r * KEYS_IN_TILE, *most = largest + r * KEYS_IN_TILE;
    memcpy(s, start, KEYS_IN_TILE * sizeof *s);
    for (size_t d = 0; d < depth; d++) {
      const int8_t *k = tile + d / GROUP * GROUP * KEYS_IN_TILE + d % GROUP;
      const int q = (int8_t)queries[r * depth + d];
      for (int j = 0; j < KEYS_IN_TILE; j++) s[j] += q * k[j * GROUP];
    }
    for (int j = 0; j < KEYS_IN_TILE; j++) most[j] = s[j] > most[j] ? s[j] : most[j];
  }
}

static int32_t code_of(int32_t sum, float scale, float largest) {
  const float score = (float)sum * scale;
  const float shifted = score - largest;
  float t = shifted * LOG2_E;
  t = t > EXP2_LOWEST ? t : EXP2_LOWEST;
  const float b = t + EXP2_MAGIC;
  const float r = t - (b - EXP2_MAGIC);
  float p = EXP2_C5;
  p = fmaf(p, r, EXP2_C4);
  p = fmaf(p, r, EXP2_C3);
  p = fmaf(p, r, EXP2_C2);
  p = fmaf(p, r, EXP2_C1);
  p = fmaf(p, r, EXP2_C0);
  uint32_t exponent, bits;
  memcpy(&exponent, &b, sizeof exponent);
  memcpy(&bits, &p, sizeof bits);
  bits += exponent << 23;
  memcpy(&p, &bits, sizeof p);
  return (int32_t)lrintf(p);
}

static void weights(const int32_t *sums, size_t tiles, size_t rows, float scale,
                    const float *largest, uint8_t *weights, int32_t *totals) {
  for (size_t r = 0; r < rows; r++)
    for (size_t t = 0; t < tiles; t++)
      for (int j = 0; j < KEYS_IN_TILE; j++) {
        const int32_t sum = sums[(t * ROWS_MAX + r) * KEYS_IN_TILE + (size_t)j];
        const int32_t code = code_of(sum, scale, largest[r]);
        weights[r * KEYS_IN_CHUNK + t * KEYS_IN_TILE + (size_t)j] = (uint8_t)code;
        totals[r * KEYS_IN_TILE + (size_t)j] += code;
      }
}

static void context(const uint8_t *weights, const int8_t *values, size_t step, size_t keys,
                    size_t rows, size_t width, int32_t *acc) {
  for (size_t c = 0; c < width; c += COLUMNS, values += step)
    for (size_t r = 0; r < rows; r++)
      for (size_t k = 0; k < keys; k++) {
        const int8_t *v = values + k / GROUP * GROUP * COLUMNS + k % GROUP;
        const int w = weights[r * KEYS_IN_CHUNK + k];
        for (int j = 0; j < COLUMNS; j++) acc[r * width + c + (size_t)j] += w * v[j * GROUP];
      }
}

const Path path_generic = {"generic", available, 0, 0, quantize_generic, scores, weights, context};
