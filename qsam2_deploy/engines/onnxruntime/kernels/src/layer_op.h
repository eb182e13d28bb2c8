/* What the operators of layers share: constants that are packed when a session is made. */
#ifndef QSAM2_LAYER_OP_H
#define QSAM2_LAYER_OP_H

#include "linear.h"
#include "tensor_op.h"

enum { X, WEIGHT, X_SCALE, X_ZERO, WEIGHT_SCALES, BIAS, Y_SCALE, Y_ZERO };
typedef struct {
  const OrtApi *api;
  const Path *path;
  Packed weight;
  Finish how;
  float *factors, *bias; /* in whole tiles */
  Grid grid; /* of the inputs */
} Layer;

/* Make a layer of the constants of a node: its weight [k, n], scales, zero-point and bias, for codes
 * those of the output, and its activation, which may be left out. */
OrtStatus *make_layer(const OrtApi *api, const OrtKernelInfo *info, int to_codes, Layer *layer);
void free_layer(Layer *layer);

#endif
