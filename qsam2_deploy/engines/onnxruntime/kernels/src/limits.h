#ifndef QSAM2_LIMITS_H
#define QSAM2_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* Cut codes off at limits that are narrower than those of 8 bits. */
static inline void limit_codes(int8_t *codes, size_t length, int lowest, int highest) {
  if (lowest <= INT8_MIN && highest >= INT8_MAX) return;
  const int8_t low = (int8_t)lowest, high = (int8_t)highest;
  for (size_t i = 0; i < length; i++) {
    const int8_t code = codes[i] < low ? low : codes[i];
    codes[i] = code > high ? high : code;
  }
}

#endif
