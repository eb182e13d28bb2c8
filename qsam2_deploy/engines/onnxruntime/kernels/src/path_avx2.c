/* AVX2: unsigned by signed bytes as products of 16 bits, which never saturate. */
#include "path.h"

#if defined(__x86_64__) && defined(__GNUC__)

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include <immintrin.h>

#include "plain.h"

/* Even and odd bytes apart: each product of 16 bits has one code, and pairs are added in 32. */
static inline __attribute__((always_inline)) void multiply_add(__m256i *sum, __m256i codes,
                                                               __m256i signed_codes) {
  const __m256i low = _mm256_set1_epi16(0xff);
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, low),
                                         _mm256_srai_epi16(_mm256_slli_epi16(signed_codes, 8), 8));
  const __m256i odd =
      _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(signed_codes, 8));
  *sum = _mm256_add_epi32(*sum, _mm256_add_epi32(even, odd));
}

/* What is made of a tile's codes serves all rows; some sums wait in memory, which costs less. */
enum { AT_A_TIME = 4 };
#define MULTIPLY_ADD multiply_add
#include "products256.h"

static int available(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static void weights(const int32_t *sums, size_t tiles, size_t rows, float scale,
                    const float *largest, uint8_t *codes, int32_t *totals) {
  weights_plain(sums, tiles, rows, scale, largest, codes, totals, 0);
}

#pragma GCC pop_options

const Path path_avx2 = {"avx2", available, 0x80, 0, quantize_plain, scores, weights, context,
                        finish_plain};

#else
static int available(void) { return 0; }
const Path path_avx2 = {"avx2", available, 0, 0, 0, 0, 0, 0, 0};
#endif
