/* The float operations whose order all paths share, so that they agree to the bit.
 *
 * 255 * 2^t for t <= 0:  b = t + MAGIC; r = t - (b - MAGIC); p = (...(C5 r + C4) r + ...) r + C0,
 * and the low bits of b are added to the exponent of p. C is the polynomial of least relative error
 * (7.5e-8) on [-1/2, 1/2], times 1 / fl(1 / 255).
 *
 * erf(x): c = min(max(x, -4), 4), u = c * c, c * P(u) / Q(u), off by at most 4e-7.
 *
 * Adding and taking away MAGIC = 1.5 * 2^23 rounds half to even. Polynomials are of fused
 * multiply-adds; nothing else is fused.
 */
#ifndef QSAM2_NUMBERS_H
#define QSAM2_NUMBERS_H

#define MAGIC 12582912.0f

#define EXP2_LOWEST (-30.0f)
#define LOG2_E 1.44269504088896341f
#define STEPS_IN_ONE (1.0 / (double)(1.0f / 255.0f))
#define EXP2_C0 ((float)(1.0000000716546555 * STEPS_IN_ONE))
#define EXP2_C1 ((float)(0.6931469670638658 * STEPS_IN_ONE))
#define EXP2_C2 ((float)(0.24022119723934005 * STEPS_IN_ONE))
#define EXP2_C3 ((float)(0.055507132749611554 * STEPS_IN_ONE))
#define EXP2_C4 ((float)(0.009675541330680871 * STEPS_IN_ONE))
#define EXP2_C5 ((float)(0.0013276471519570094 * STEPS_IN_ONE))

#define ERF_END 4.0f
#define ERF_P0 1.1283786772496889f
#define ERF_P1 0.21394450573716867f
#define ERF_P2 0.05243344184561062f
#define ERF_P3 0.004293039731532598f
#define ERF_P4 0.0001555361222555125f
#define ERF_P5 (-1.9903111177814525e-06f)
#define ERF_P6 1.9217081366481403e-08f
#define ERF_Q0 1.0f
#define ERF_Q1 0.5229310381298611f
#define ERF_Q2 0.12079954029326732f
#define ERF_Q3 0.015551070631743368f
#define ERF_Q4 0.0010980335581987672f
#define SQRT_HALF 0.70710678118654752f

#endif
