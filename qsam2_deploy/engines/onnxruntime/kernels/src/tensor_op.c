#include "tensor_op.h"

#include <float.h>

/* Layers widen a row by up to 16 times, and convolutions by less. Small outputs are always made. */
enum { WIDENING_MAX = 64, ALWAYS_MADE = 1 << 24 };

int multiply(size_t *product, size_t factor) {
  if (factor && *product > SIZE_MAX / factor) return 0;
  *product *= factor;
  return 1;
}

static OrtStatus *take_sizes(const OrtApi *api, const int64_t *sizes, Given *given) {
  given->count = 1;
  for (size_t i = 0; i < given->rank; i++) {
    if (sizes[i] < 0 || sizes[i] > INT32_MAX)
      return wrong(api, "operators of qsam2 take dimensions of at most 31 bits");
    given->sizes[i] = (size_t)sizes[i];
    if (!multiply(&given->count, given->sizes[i]))
      return wrong(api, "operators of qsam2 take tensors whose sizes fit in memory");
  }
  return NULL;
}

static OrtStatus *take_shape(const OrtApi *api, const OrtShape *shape, Given *given) {
  int64_t sizes[DIMENSIONS_MAX] = {0};
  int type = 0;
  TRY(api->get_tensor_element_type(shape, &type));
  if (type != ORT_TYPE_FLOAT && type != ORT_TYPE_INT8)
    return wrong(api, "operators of qsam2 take floats or int8");
  given->is_float = type == ORT_TYPE_FLOAT;
  TRY(api->get_dimensions_count(shape, &given->rank));
  if (given->rank > DIMENSIONS_MAX)
    return wrong(api, "operators of qsam2 take at most 8 dimensions");
  TRY(api->get_dimensions(shape, sizes, given->rank));
  return take_sizes(api, sizes, given);
}

static OrtStatus *look_at(const OrtApi *api, const OrtValue *value, Given *given) {
  OrtShape *shape = NULL;
  void *data = NULL;
  *given = (Given){0};
  if (!value) return wrong(api, "an input of an operator of qsam2 was left out");
  TRY(api->get_tensor_type_and_shape(value, &shape));
  OrtStatus *status = take_shape(api, shape, given);
  api->release_shape(shape);
  if (status) return status;
  TRY(api->get_tensor_mutable_data((OrtValue *)value, &data));
  given->data = data;
  return NULL;
}

OrtStatus *given_input(const OrtApi *api, const OrtKernelContext *context, size_t index,
                       Given *given) {
  const OrtValue *value = NULL;
  TRY(api->kernel_context_get_input(context, index, &value));
  return look_at(api, value, given);
}

OrtStatus *given_constant(const OrtApi *api, const OrtKernelInfo *info, size_t index,
                          Given *given) {
  const OrtValue *value = NULL;
  int is_constant = 0;
  TRY(api->kernel_info_get_constant_input(info, index, &is_constant, &value));
  if (!is_constant)
    return wrong(api, "quantized layers take constants for all but their first input");
  return look_at(api, value, given);
}

OrtStatus *scale_of(const OrtApi *api, const Given *given, float *scale) {
  if (given->count != 1 || !given->is_float)
    return wrong(api, "operators of qsam2 take one float as a scale");
  *scale = *(const float *)given->data;
  if (!(*scale > 0 && *scale <= FLT_MAX)) /* so that it is false for NaN */
    return wrong(api, "operators of qsam2 take scales that are finite and above 0");
  return NULL;
}

OrtStatus *zero_of(const OrtApi *api, const Given *given, int *zero) {
  if (given->count != 1 || given->is_float)
    return wrong(api, "operators of qsam2 take one int8 as a zero-point");
  *zero = *(const int8_t *)given->data;
  return NULL;
}

OrtStatus *floats_of(const OrtApi *api, const Given *given, size_t length, const float **floats) {
  if (given->rank != 1 || given->count != length || !given->is_float)
    return wrong(api, "quantized layers take a scale and a bias for each output");
  *floats = given->data;
  return NULL;
}

OrtStatus *make_output(const OrtApi *api, OrtKernelContext *context, const size_t *sizes,
                       size_t rank, size_t read, void **data) {
  int64_t wanted[DIMENSIONS_MAX];
  size_t count = 1;
  int fits = 1;
  for (size_t i = 0; i < rank; i++) {
    fits = fits && sizes[i] <= INT32_MAX && multiply(&count, sizes[i]);
    wanted[i] = (int64_t)sizes[i];
  }
  if (!fits || (count > ALWAYS_MADE && count / WIDENING_MAX > read))
    return wrong(api, "the output of an operator of qsam2 would be far larger than its inputs");
  OrtValue *value = NULL;
  TRY(api->kernel_context_get_output(context, 0, wanted, rank, &value));
  return api->get_tensor_mutable_data(value, data);
}
