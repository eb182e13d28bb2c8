/* Tensors that a graph hands to an operator. Whoever wrote the graph chose their types and sizes, so
 * they are checked here before anything is copied, multiplied or asked for. */
#ifndef QSAM2_TENSOR_OP_H
#define QSAM2_TENSOR_OP_H

#include "op.h"

enum { DIMENSIONS_MAX = 8 };

/* A tensor of floats or signed codes, of at most 8 dimensions, each within 31 bits. */
typedef struct {
  const void *data;
  int is_float;
  size_t rank, sizes[DIMENSIONS_MAX], count;
} Given;

/* Look at an input when a node runs, or at a constant one when its session is made. */
OrtStatus *given_input(const OrtApi *api, const OrtKernelContext *context, size_t index,
                       Given *given);
OrtStatus *given_constant(const OrtApi *api, const OrtKernelInfo *info, size_t index, Given *given);

/* One number: a scale above 0 that is finite, a zero-point; and a vector of `length` floats. */
OrtStatus *scale_of(const OrtApi *api, const Given *given, float *scale);
OrtStatus *zero_of(const OrtApi *api, const Given *given, int *zero);
OrtStatus *floats_of(const OrtApi *api, const Given *given, size_t length, const float **floats);

/* Make the output, unless it is out of all proportion to `read`, the numbers of all inputs. */
OrtStatus *make_output(const OrtApi *api, OrtKernelContext *context, const size_t *sizes,
                       size_t rank, size_t read, void **data);

/* Multiply `product`; return 0 where that does not fit. */
int multiply(size_t *product, size_t factor);

#endif
