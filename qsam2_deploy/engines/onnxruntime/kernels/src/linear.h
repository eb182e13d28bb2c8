/* A quantized linear layer: y = (x - zero) W with signed codes, then what a Finish says. */
#ifndef QSAM2_LINEAR_H
#define QSAM2_LINEAR_H

#include "path.h"

/* The weight, packed once: tiles [depth/4][32][4] of outputs, and the starts of their sums. */
typedef struct {
  size_t depth, outputs;
  int8_t *tiles;
  int32_t *starts;
} Packed;

/* How floats become codes: divided by the scale, plus the zero-point, cut off at the limits. */
typedef struct {
  float scale;
  int zero, lowest, highest;
} Grid;

/* Quantize floats. */
void quantize_on(const Path *path, const Grid *grid, const float *x, size_t length, int8_t *codes);

/* Pack codes [depth][outputs] for inputs with this zero-point; return 0 if there is no memory. */
int pack_weight(const Path *path, const int8_t *weight, size_t depth, size_t outputs, int zero,
                Packed *packed);
void free_weight(Packed *packed);

/* Bytes of scratch of one thread. */
size_t linear_scratch_bytes(const Packed *packed);

/* `rows` of at most ROWS_MAX rows: x [rows][depth] in floats, or in codes if there is no grid; out
 * [rows][outputs] in floats or codes. */
void linear_block(const Path *path, const Packed *packed, const void *x, const Grid *grid,
                  size_t rows, const Finish *how, void *out, void *scratch);

#endif
