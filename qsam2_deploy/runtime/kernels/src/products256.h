/* Sums of products in vectors of 256 bits, for a path that defines, before including this file:
 *
 *   MULTIPLY_ADD(sum, left, right)  a function of vectors: sum of eight 32-bit numbers, the codes of
 *                                   a row four times over, and eight columns of signed codes.
 */
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, VECTORS = KEYS_IN_TILE / LANES, AT_A_TIME = 2 };

INLINE __m256i four_codes(const uint8_t *codes) {
  int32_t value;
  __builtin_memcpy(&value, codes, sizeof value);
  return _mm256_set1_epi32(value);
}

/* Sums of some rows, `step` codes apart, with all 32 columns of a tile. */
INLINE void products(const uint8_t *codes, size_t step, const int8_t *tile, size_t groups,
                     const int rows, __m256i sums[AT_A_TIME][VECTORS]) {
  for (size_t g = 0; g < groups; g++) {
    __m256i x[AT_A_TIME];
    for (int i = 0; i < rows; i++) x[i] = four_codes(codes + (size_t)i * step + g * GROUP);
    for (int v = 0; v < VECTORS; v++) {
      const int8_t *from = tile + (g * KEYS_IN_TILE + (size_t)v * LANES) * GROUP;
      const __m256i columns = _mm256_loadu_si256((const __m256i *)from);
      for (int i = 0; i < rows; i++) MULTIPLY_ADD(&sums[i][v], x[i], columns);
    }
  }
}

INLINE void load(const int32_t *from, __m256i sums[VECTORS]) {
  for (int v = 0; v < VECTORS; v++) sums[v] = _mm256_loadu_si256((const __m256i *)from + v);
}

INLINE void store(int32_t *to, const __m256i sums[VECTORS]) {
  for (int v = 0; v < VECTORS; v++) _mm256_storeu_si256((__m256i *)to + v, sums[v]);
}

INLINE void scores_of(const uint8_t *queries, size_t depth, const int8_t *tile,
                      const int32_t *start, const int rows, int32_t *sums, int32_t *largest) {
  __m256i s[AT_A_TIME][VECTORS], most[VECTORS];
  for (int i = 0; i < rows; i++) load(start, s[i]);
  products(queries, depth, tile, depth / GROUP, rows, s);
  for (int i = 0; i < rows; i++) {
    store(sums + i * KEYS_IN_TILE, s[i]);
    if (!largest) continue;
    load(largest + i * KEYS_IN_TILE, most);
    for (int v = 0; v < VECTORS; v++) most[v] = _mm256_max_epi32(most[v], s[i][v]);
    store(largest + i * KEYS_IN_TILE, most);
  }
}

static void scores(const uint8_t *queries, size_t depth, const int8_t *tile, const int32_t *start,
                   size_t rows, int32_t *sums, int32_t *largest) {
  for (size_t r = 0; r < rows; r += AT_A_TIME) {
    int32_t *most = largest ? largest + r * KEYS_IN_TILE : NULL;
    if (r + AT_A_TIME <= rows)
      scores_of(queries + r * depth, depth, tile, start, AT_A_TIME, sums + r * KEYS_IN_TILE, most);
    else
      scores_of(queries + r * depth, depth, tile, start, 1, sums + r * KEYS_IN_TILE, most);
  }
}

INLINE void context_of(const uint8_t *weights, const int8_t *values, size_t groups, const int rows,
                       size_t width, int32_t *acc) {
  __m256i s[AT_A_TIME][VECTORS];
  for (int i = 0; i < rows; i++) load(acc + (size_t)i * width, s[i]);
  products(weights, KEYS_IN_CHUNK, values, groups, rows, s);
  for (int i = 0; i < rows; i++) store(acc + (size_t)i * width, s[i]);
}

static void context(const uint8_t *weights, const int8_t *values, size_t step, size_t keys,
                    size_t rows, size_t width, int32_t *acc) {
  for (size_t c = 0; c < width; c += COLUMNS, values += step)
    for (size_t r = 0; r < rows; r += AT_A_TIME) {
      const uint8_t *w = weights + r * KEYS_IN_CHUNK;
      if (r + AT_A_TIME <= rows)
        context_of(w, values, keys / GROUP, AT_A_TIME, width, acc + r * width + c);
      else
        context_of(w, values, keys / GROUP, 1, width, acc + r * width + c);
    }
}
