/* AVX512-VNNI: 64 products of unsigned by signed bytes in an instruction. */
#include "numbers.h"
#include "path.h"

#if defined(__x86_64__) && defined(__GNUC__)

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

static int available(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

static void quantize(const float *x, size_t length, float scale, int zero, int8_t *codes) {
  const __m512 step = _mm512_set1_ps(scale);
  const __m512 low = _mm512_set1_ps((float)(-128 - zero));
  const __m512 high = _mm512_set1_ps((float)(127 - zero));
  const __m512i offset = _mm512_set1_epi32(zero);
  for (size_t i = 0; i < length; i += 16) {
    const size_t left = length - i;
    const __mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
    const __m512 q = _mm512_div_ps(_mm512_maskz_loadu_ps(mask, x + i), step);
    const __m512i code = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(q, low), high));
    _mm512_mask_cvtepi32_storeu_epi8(codes + i, mask, _mm512_add_epi32(code, offset));
  }
}

INLINE __m512i four_codes(const uint8_t *codes) {
  int32_t value;
  __builtin_memcpy(&value, codes, sizeof value);
  return _mm512_set1_epi32(value);
}

/* In assembly, because compilers copy every sum before and after the intrinsic. */
INLINE void multiply_add(__m512i *sum, __m512i codes, __m512i signed_codes) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(codes), "v"(signed_codes));
}

/* `step` is that of the rows of sums as of the rows of codes; all are known when it is inlined. */
INLINE void products(const uint8_t *codes, size_t step, const int8_t *tile, size_t groups,
                     const int rows, __m512i sums[8][2]) {
  for (size_t g = 0; g < groups; g++) {
    const __m512i left = _mm512_loadu_si512(tile + g * 128);
    const __m512i right = _mm512_loadu_si512(tile + g * 128 + 64);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const __m512i x = four_codes(codes + (size_t)i * step + g * GROUP);
      multiply_add(&sums[i][0], x, left);
      multiply_add(&sums[i][1], x, right);
    }
  }
}

INLINE void scores_of(const uint8_t *queries, size_t depth, const int8_t *tile,
                      const int32_t *start, const int rows, int32_t *sums, int32_t *largest) {
  __m512i s[8][2];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    s[i][0] = _mm512_loadu_si512(start);
    s[i][1] = _mm512_loadu_si512(start + 16);
  }
  products(queries, depth, tile, depth / GROUP, rows, s);
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    _mm512_storeu_si512(sums + i * KEYS_IN_TILE, s[i][0]);
    _mm512_storeu_si512(sums + i * KEYS_IN_TILE + 16, s[i][1]);
  }
  if (!largest) return;
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    int32_t *most = largest + i * KEYS_IN_TILE;
    const __m512i both = _mm512_max_epi32(s[i][0], s[i][1]);
    _mm512_storeu_si512(most, _mm512_max_epi32(_mm512_loadu_si512(most), both));
  }
}

/* Ask for the next tile of keys, and for where its sums go: they come from far and go there. */
INLINE void fetch_next(const int8_t *tile, size_t depth, const int32_t *sums, int rows) {
  const char *there = (const char *)(sums + ROWS_MAX * KEYS_IN_TILE);
  const int8_t *next = tile + depth * KEYS_IN_TILE;
  for (int i = 0; i < rows * 2; i++) __builtin_prefetch(there + i * 64, 1, 2);
  for (size_t i = 0; i < depth * KEYS_IN_TILE / ROWS_MAX * (size_t)rows; i += 64)
    __builtin_prefetch(next + i, 0, 2);
}

static void scores(const uint8_t *queries, size_t depth, const int8_t *tile, const int32_t *start,
                   size_t rows, int32_t *sums, int32_t *largest) {
  size_t r = 0;
#define PART(n)                                                                       \
  for (; r + (n) <= rows; r += (n))                                                   \
    fetch_next(tile + r * depth * KEYS_IN_TILE / ROWS_MAX, depth, sums + r * KEYS_IN_TILE, n), \
  scores_of(queries + r * depth, depth, tile, start, n, sums + r * KEYS_IN_TILE,      \
            largest ? largest + r * KEYS_IN_TILE : NULL)
  PART(8);
  PART(4);
  PART(1);
#undef PART
}

INLINE __m512i codes_of(const int32_t *sums, __m512 scale, __m512 largest) {
  const __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums)), scale);
  const __m512 shifted = _mm512_sub_ps(score, largest);
  const __m512 t = _mm512_max_ps(_mm512_mul_ps(shifted, _mm512_set1_ps(LOG2_E)),
                                 _mm512_set1_ps(EXP2_LOWEST));
  const __m512 b = _mm512_add_ps(t, _mm512_set1_ps(MAGIC));
  const __m512 r = _mm512_sub_ps(t, _mm512_sub_ps(b, _mm512_set1_ps(MAGIC)));
  __m512 p = _mm512_set1_ps(EXP2_C5);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP2_C4));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP2_C3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP2_C2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP2_C1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP2_C0));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(b), 23);
  const __m512i e = _mm512_add_epi32(_mm512_castps_si512(p), exponent);
  return _mm512_cvtps_epi32(_mm512_castsi512_ps(e));
}

/* Bytes of 64 codes in order, from four vectors of 16. */
INLINE __m512i bytes_of(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i mixed = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
  return _mm512_permutexvar_epi32(order, mixed);
}

/* A tile, and the one after it where there is one; without, the bytes in its place are 0. */
INLINE void weights_of(const int32_t *sums, size_t rows, float scale, const float *largest,
                       uint8_t *weights, int32_t *totals, const int both) {
  const __m512 factor = _mm512_set1_ps(scale);
  const __m512i one = _mm512_set1_epi8(1), none = _mm512_setzero_si512();
  for (size_t r = 0; r < rows; r++) {
    const int32_t *first = sums + r * KEYS_IN_TILE, *second = first + ROWS_MAX * KEYS_IN_TILE;
    int32_t *total = totals + r * KEYS_IN_TILE;
    const __m512 most = _mm512_set1_ps(largest[r]);
    const __m512i codes = bytes_of(
        codes_of(first, factor, most), codes_of(first + 16, factor, most),
        both ? codes_of(second, factor, most) : none,
        both ? codes_of(second + 16, factor, most) : none);
    __m512i sum = _mm512_loadu_si512(total);
    multiply_add(&sum, codes, one);
    _mm512_storeu_si512(total, sum);
    _mm512_storeu_si512(weights + r * KEYS_IN_CHUNK, codes);
  }
}

static void weights(const int32_t *sums, size_t tiles, size_t rows, float scale,
                    const float *largest, uint8_t *weights, int32_t *totals) {
  size_t t = 0;
  for (; t + 2 <= tiles; t += 2)
    weights_of(sums + t * ROWS_MAX * KEYS_IN_TILE, rows, scale, largest,
               weights + t * KEYS_IN_TILE, totals, 1);
  if (t < tiles)
    weights_of(sums + t * ROWS_MAX * KEYS_IN_TILE, rows, scale, largest,
               weights + t * KEYS_IN_TILE, totals, 0);
}

INLINE void context_of(const uint8_t *weights, const int8_t *values, size_t groups, const int rows,
                       size_t width, int32_t *acc) {
  __m512i s[8][2];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    s[i][0] = _mm512_loadu_si512(acc + i * width);
    s[i][1] = _mm512_loadu_si512(acc + i * width + 16);
  }
  products(weights, KEYS_IN_CHUNK, values, groups, rows, s);
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    _mm512_storeu_si512(acc + i * width, s[i][0]);
    _mm512_storeu_si512(acc + i * width + 16, s[i][1]);
  }
}

static void context(const uint8_t *weights, const int8_t *values, size_t step, size_t keys,
                    size_t rows, size_t width, int32_t *acc) {
  const size_t groups = keys / GROUP;
  for (size_t c = 0; c < width; c += COLUMNS, values += step) {
    size_t r = 0;
#define PART(n)                     \
  for (; r + (n) <= rows; r += (n)) \
  context_of(weights + r * KEYS_IN_CHUNK, values, groups, n, width, acc + r * width + c)
    PART(8);
    PART(4);
    PART(1);
#undef PART
  }
}

INLINE __m512 erf_of(__m512 x) {
  const __m512 end = _mm512_set1_ps(ERF_END);
  const __m512 c = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-ERF_END)), end);
  const __m512 u = _mm512_mul_ps(c, c);
  __m512 p = _mm512_set1_ps(ERF_P6), q = _mm512_set1_ps(ERF_Q4);
  p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(ERF_P5));
  p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(ERF_P4));
  p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(ERF_P3));
  p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(ERF_P2));
  p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(ERF_P1));
  p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(ERF_P0));
  q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(ERF_Q3));
  q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(ERF_Q2));
  q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(ERF_Q1));
  q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(ERF_Q0));
  return _mm512_div_ps(_mm512_mul_ps(c, p), q);
}

INLINE __m512 activated(__m512 x, const int activation) {
  if (activation == RELU) return _mm512_max_ps(x, _mm512_setzero_ps());
  if (activation != GELU) return x;
  const __m512 erf = erf_of(_mm512_mul_ps(x, _mm512_set1_ps(SQRT_HALF)));
  return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5f)),
                       _mm512_add_ps(erf, _mm512_set1_ps(1.0f)));
}

INLINE void finish_as(const int32_t *sums, size_t rows, size_t columns, const Finish *how,
                      size_t first, char *out, size_t step, const int activation,
                      const int to_codes) {
  const __m512 scale = _mm512_set1_ps(how->scale);
  const __m512 low = _mm512_set1_ps((float)(how->lowest - how->zero));
  const __m512 high = _mm512_set1_ps((float)(how->highest - how->zero));
  const __m512i zero = _mm512_set1_epi32(how->zero);
  const size_t bytes = to_codes ? 1 : sizeof(float);
  for (size_t c = 0; c < columns; c += 16) {
    const size_t left = columns - c;
    const __mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
    const __m512 factor = _mm512_loadu_ps(how->factors + first + c);
    const __m512 bias = _mm512_loadu_ps(how->bias + first + c);
    for (size_t r = 0; r < rows; r++) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + r * KEYS_IN_TILE + c));
      const __m512 y = activated(_mm512_add_ps(_mm512_mul_ps(sum, factor), bias), activation);
      char *there = out + (r * step + c) * bytes;
      if (to_codes) {
        const __m512 q = _mm512_min_ps(_mm512_max_ps(_mm512_div_ps(y, scale), low), high);
        const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(q), zero);
        _mm512_mask_cvtepi32_storeu_epi8(there, mask, code);
      } else {
        _mm512_mask_storeu_ps(there, mask, y);
      }
    }
  }
}

static void finish(const int32_t *sums, size_t rows, size_t columns, const Finish *how,
                   size_t first, void *out, size_t step) {
  FINISH_KNOWN(finish_as)
}

#pragma GCC pop_options

const Path path_avx512vnni = {"avx512vnni", available, 0x80, 0, quantize, scores, weights, context,
                              finish};

#else
static int available(void) { return 0; }
const Path path_avx512vnni = {"avx512vnni", available, 0, 0, 0, 0, 0, 0, 0};
#endif
