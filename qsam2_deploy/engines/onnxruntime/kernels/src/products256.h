/* Sums of products in vectors of 256 bits, for a path that defines, before including this file:
 *
 *   AT_A_TIME                      rows whose sums are made together
 *   MULTIPLY_ADD(sum, left, right)  a function of vectors: sum of eight 32-bit numbers, the codes of
 *                                   a row four times over, and eight columns of signed codes.
 */
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, VECTORS = KEYS_IN_TILE / LANES };

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

#define VECTOR __m256i
#define LARGER _mm256_max_epi32
#include "rows.h"
