/* The constants of 255 * 2^t for t <= 0, which all paths evaluate by the same operations:
 *
 *   b = t + MAGIC; r = t - (b - MAGIC); p = (...(C5 r + C4) r + ...) r + C0, with fused
 *   multiply-adds; the result is p with the low bits of b added to its exponent.
 *
 * C is the polynomial of least relative error (7.5e-8) on [-1/2, 1/2], times 1 / fl(1 / 255).
 */
#ifndef QSAM2_EXP2_H
#define QSAM2_EXP2_H

#define EXP2_LOWEST (-30.0f)
#define EXP2_MAGIC 12582912.0f
#define LOG2_E 1.44269504088896341f
#define STEPS_IN_ONE (1.0 / (double)(1.0f / 255.0f))
#define EXP2_C0 ((float)(1.0000000716546555 * STEPS_IN_ONE))
#define EXP2_C1 ((float)(0.6931469670638658 * STEPS_IN_ONE))
#define EXP2_C2 ((float)(0.24022119723934005 * STEPS_IN_ONE))
#define EXP2_C3 ((float)(0.055507132749611554 * STEPS_IN_ONE))
#define EXP2_C4 ((float)(0.009675541330680871 * STEPS_IN_ONE))
#define EXP2_C5 ((float)(0.0013276471519570094 * STEPS_IN_ONE))

#endif
