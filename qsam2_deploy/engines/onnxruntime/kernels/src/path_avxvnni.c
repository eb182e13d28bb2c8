/* AVX-VNNI: 32 products of unsigned by signed bytes in an instruction, without AVX512. */
#include "path.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include <immintrin.h>

#include "plain.h"

/* Processors with AVX512-VNNI have the same instruction in another encoding, to try this out with. */
#ifdef QSAM2_OTHER_ENCODING
#define ENCODING ""
#else
#define ENCODING "%{vex%} "
#endif

/* In assembly, because compilers copy every sum around the intrinsic, and older ones have none. */
static inline __attribute__((always_inline)) void multiply_add(__m256i *sum, __m256i codes,
                                                               __m256i signed_codes) {
  __asm__(ENCODING "vpdpbusd %2, %1, %0" : "+x"(*sum) : "x"(codes), "x"(signed_codes));
}

/* Twelve sums, which with four other vectors take all registers, hide the time of an instruction. */
enum { AT_A_TIME = 3 };
#define MULTIPLY_ADD multiply_add
#include "products256.h"

static int available(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
#ifdef QSAM2_OTHER_ENCODING
  return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static void weights(const int32_t *sums, size_t tiles, size_t rows, float scale,
                    const float *largest, uint8_t *codes, int32_t *totals) {
  weights_plain(sums, tiles, rows, scale, largest, codes, totals, 0);
}

#pragma GCC pop_options

const Path path_avxvnni = {"avxvnni", available, 0x80, 0, quantize_plain, scores, weights,
                           context, finish_plain};

#else
static int available(void) { return 0; }
const Path path_avxvnni = {"avxvnni", available, 0, 0, 0, 0, 0, 0, 0};
#endif
