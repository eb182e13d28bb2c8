/* Plain C: what every other path is compared with. */
#include "plain.h"

static int available(void) { return 1; }

static void scores(const uint8_t *queries, size_t depth, const int8_t *tile, const int32_t *start,
                   size_t rows, int32_t *sums, int32_t *largest) {
  for (size_t r = 0; r < rows; r++) {
    int32_t *s = sums + r * KEYS_IN_TILE;
    memcpy(s, start, KEYS_IN_TILE * sizeof *s);
    for (size_t d = 0; d < depth; d++) {
      const int8_t *k = tile + d / GROUP * GROUP * KEYS_IN_TILE + d % GROUP;
      const int q = (int8_t)queries[r * depth + d];
      for (int j = 0; j < KEYS_IN_TILE; j++) s[j] += q * k[j * GROUP];
    }
    if (!largest) continue;
    int32_t *most = largest + r * KEYS_IN_TILE;
    for (int j = 0; j < KEYS_IN_TILE; j++) most[j] = s[j] > most[j] ? s[j] : most[j];
  }
}

static void weights(const int32_t *sums, size_t tiles, size_t rows, float scale,
                    const float *largest, uint8_t *codes, int32_t *totals) {
  weights_plain(sums, tiles, rows, scale, largest, codes, totals, 0);
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

const Path path_generic = {"generic", available, 0, 0, quantize_plain, scores, weights, context,
                           finish_plain};
