#include "linear.h"

#include <stdlib.h>
#include <string.h>

#include "limits.h"

static size_t up_to(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

static size_t depth_of(const Packed *packed) { return up_to(packed->depth, GROUP); }

int pack_weight(const Path *path, const int8_t *weight, size_t depth, size_t outputs, int zero,
                Packed *packed) {
  const size_t columns = up_to(outputs, KEYS_IN_TILE);
  *packed = (Packed){depth, outputs, NULL, NULL};
  packed->tiles = aligned_alloc(64, up_to(columns * depth_of(packed), 64));
  packed->starts = calloc(columns, sizeof(int32_t));
  if (!packed->tiles || !packed->starts) return 0;
  memset(packed->tiles, 0, columns * depth_of(packed));
  for (size_t d = 0; d < depth; d++)
    for (size_t n = 0; n < outputs; n++) {
      const int8_t code = weight[d * outputs + n];
      int8_t *tile = packed->tiles + n / KEYS_IN_TILE * KEYS_IN_TILE * depth_of(packed);
      tile[d / GROUP * GROUP * KEYS_IN_TILE + n % KEYS_IN_TILE * GROUP + d % GROUP] = code;
      packed->starts[n] -= (path->query_flip + zero) * code;
    }
  return 1;
}

void free_weight(Packed *packed) {
  free(packed->tiles);
  free(packed->starts);
}

/* Codes [ROWS_MAX][depth], and sums [ROWS_MAX][32]. */
size_t linear_scratch_bytes(const Packed *packed) {
  return up_to(ROWS_MAX * depth_of(packed), 64) + ROWS_MAX * KEYS_IN_TILE * sizeof(int32_t);
}

void quantize_on(const Path *path, const Grid *grid, const float *x, size_t length, int8_t *codes) {
  path->quantize(x, length, grid->scale, grid->zero, codes);
  limit_codes(codes, length, grid->lowest, grid->highest);
}

static void codes_of_rows(const Path *path, const Packed *packed, const void *x, const Grid *grid,
                          size_t rows, uint8_t *codes) {
  const size_t depth = depth_of(packed);
  for (size_t r = 0; r < rows; r++, codes += depth) {
    if (grid)
      quantize_on(path, grid, (const float *)x + r * packed->depth, packed->depth,
                  (int8_t *)codes);
    else
      memcpy(codes, (const int8_t *)x + r * packed->depth, packed->depth);
    memset(codes + packed->depth, 0, depth - packed->depth);
    for (size_t d = 0; d < depth; d++) codes[d] ^= path->query_flip;
  }
}

void linear_block(const Path *path, const Packed *packed, const void *x, const Grid *grid,
                  size_t rows, const Finish *how, void *out, void *scratch) {
  const size_t depth = depth_of(packed), bytes = how->to_codes ? 1 : sizeof(float);
  uint8_t *codes = scratch;
  int32_t *sums = (int32_t *)(void *)(codes + up_to(ROWS_MAX * depth, 64));
  codes_of_rows(path, packed, x, grid, rows, codes);
  for (size_t n = 0; n < packed->outputs; n += KEYS_IN_TILE) {
    const size_t left = packed->outputs - n, columns = left < KEYS_IN_TILE ? left : KEYS_IN_TILE;
    path->scores(codes, depth, packed->tiles + n * depth, packed->starts + n, rows, sums, NULL);
    path->finish(sums, rows, columns, how, n, (char *)out + n * bytes, packed->outputs);
  }
}
