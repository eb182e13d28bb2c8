/* NEON with the dot product of signed bytes: weights lose 128 here, which is put back at the end. */
#include "path.h"

#if defined(__aarch64__) && defined(__linux__) && defined(__GNUC__)

#include <sys/auxv.h>

#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#include <arm_neon.h>

#include "plain.h"

#define INLINE static inline __attribute__((always_inline))
#define DOT_PRODUCT (1ul << 20) /* HWCAP_ASIMDDP */

enum { LANES = 4, VECTORS = KEYS_IN_TILE / LANES, AT_A_TIME = 2 };

static int available(void) { return (getauxval(AT_HWCAP) & DOT_PRODUCT) != 0; }

INLINE void products(const uint8_t *codes, size_t step, const int8_t *tile, size_t groups,
                     const int rows, int32x4_t sums[AT_A_TIME][VECTORS]) {
  for (size_t g = 0; g < groups; g++) {
    int8x16_t x[AT_A_TIME];
    for (int i = 0; i < rows; i++) {
      int32_t four;
      memcpy(&four, codes + (size_t)i * step + g * GROUP, sizeof four);
      x[i] = vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    for (int v = 0; v < VECTORS; v++) {
      const int8x16_t columns = vld1q_s8(tile + (g * KEYS_IN_TILE + (size_t)v * LANES) * GROUP);
      for (int i = 0; i < rows; i++) sums[i][v] = vdotq_s32(sums[i][v], x[i], columns);
    }
  }
}

INLINE void load(const int32_t *from, int32x4_t sums[VECTORS]) {
  for (int v = 0; v < VECTORS; v++) sums[v] = vld1q_s32(from + v * LANES);
}

INLINE void store(int32_t *to, const int32x4_t sums[VECTORS]) {
  for (int v = 0; v < VECTORS; v++) vst1q_s32(to + v * LANES, sums[v]);
}

#define VECTOR int32x4_t
#define LARGER vmaxq_s32
#include "rows.h"

static void weights(const int32_t *sums, size_t tiles, size_t rows, float scale,
                    const float *largest, uint8_t *codes, int32_t *totals) {
  weights_plain(sums, tiles, rows, scale, largest, codes, totals, 0x80);
}

#pragma GCC pop_options

const Path path_neon = {"neon", available, 0, 0x80, quantize_plain, scores, weights, context,
                        finish_plain};

#else
static int available(void) { return 0; }
const Path path_neon = {"neon", available, 0, 0, 0, 0, 0, 0, 0};
#endif
