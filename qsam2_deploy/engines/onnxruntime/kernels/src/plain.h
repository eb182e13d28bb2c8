/* Quantizing, weighing and finishing in plain C. A path that includes this file compiles it for its
 * own processor, and compilers make vectors of these loops. */
#ifndef QSAM2_PLAIN_H
#define QSAM2_PLAIN_H

#include <math.h>
#include <string.h>

#include "limits.h"
#include "numbers.h"
#include "path.h"

static inline float clamped(float x, float low, float high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}

static inline int8_t code_of(float x, float scale, int zero) {
  const float q = clamped(x / scale, (float)(-128 - zero), (float)(127 - zero));
  return (int8_t)((int)((q + MAGIC) - MAGIC) + zero);
}

static void quantize_plain(const float *x, size_t length, float scale, int zero, int8_t *codes) {
  for (size_t i = 0; i < length; i++) codes[i] = code_of(x[i], scale, zero);
}

static inline int32_t weight_of(int32_t sum, float scale, float largest) {
  const float score = (float)sum * scale;
  const float shifted = score - largest;
  float t = shifted * LOG2_E;
  t = t > EXP2_LOWEST ? t : EXP2_LOWEST;
  const float b = t + MAGIC;
  const float r = t - (b - MAGIC);
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
  return (int32_t)((p + MAGIC) - MAGIC);
}

static inline void weights_plain(const int32_t *sums, size_t tiles, size_t rows, float scale,
                                 const float *largest, uint8_t *weights, int32_t *totals,
                                 uint8_t flip) {
  for (size_t r = 0; r < rows; r++)
    for (size_t t = 0; t < tiles; t++) {
      const int32_t *s = sums + (t * ROWS_MAX + r) * KEYS_IN_TILE;
      uint8_t *w = weights + r * KEYS_IN_CHUNK + t * KEYS_IN_TILE;
      int32_t *total = totals + r * KEYS_IN_TILE, codes[KEYS_IN_TILE];
      const float most = largest[r];
      for (int j = 0; j < KEYS_IN_TILE; j++) codes[j] = weight_of(s[j], scale, most);
      for (int j = 0; j < KEYS_IN_TILE; j++) total[j] += codes[j];
      for (int j = 0; j < KEYS_IN_TILE; j++) w[j] = (uint8_t)codes[j] ^ flip;
    }
}

static inline float erf_of(float x) {
  const float c = clamped(x, -ERF_END, ERF_END), u = c * c;
  float p = ERF_P6, q = ERF_Q4;
  p = fmaf(p, u, ERF_P5);
  p = fmaf(p, u, ERF_P4);
  p = fmaf(p, u, ERF_P3);
  p = fmaf(p, u, ERF_P2);
  p = fmaf(p, u, ERF_P1);
  p = fmaf(p, u, ERF_P0);
  q = fmaf(q, u, ERF_Q3);
  q = fmaf(q, u, ERF_Q2);
  q = fmaf(q, u, ERF_Q1);
  q = fmaf(q, u, ERF_Q0);
  return c * p / q;
}

static inline float activated(float x, int activation) {
  if (activation == RELU) return x > 0.0f ? x : 0.0f;
  if (activation == GELU) return x * 0.5f * (erf_of(x * SQRT_HALF) + 1.0f);
  return x;
}

/* With the activation and the kind of result known, compilers make vectors of all of it. */
static inline __attribute__((always_inline)) void finish_rows(
    const int32_t *sums, size_t rows, size_t columns, const Finish *how, size_t first, void *out,
    size_t step, const int activation, const int to_codes) {
  const float *factors = how->factors + first, *bias = how->bias + first;
  const float scale = how->scale;
  const int zero = how->zero;
  for (size_t r = 0; r < rows; r++, sums += KEYS_IN_TILE) {
    float y[KEYS_IN_TILE];
    for (int j = 0; j < KEYS_IN_TILE; j++) {
      const float product = (float)sums[j] * factors[j];
      y[j] = activated(product + bias[j], activation);
    }
    if (to_codes) {
      int8_t codes[KEYS_IN_TILE];
      for (int j = 0; j < KEYS_IN_TILE; j++) codes[j] = code_of(y[j], scale, zero);
      limit_codes(codes, KEYS_IN_TILE, how->lowest, how->highest);
      memcpy((int8_t *)out + r * step, codes, columns);
    } else
      memcpy((float *)out + r * step, y, columns * sizeof *y);
  }
}

static void finish_plain(const int32_t *sums, size_t rows, size_t columns, const Finish *how,
                         size_t first, void *out, size_t step) {
  FINISH_KNOWN(finish_rows)
}

#endif
