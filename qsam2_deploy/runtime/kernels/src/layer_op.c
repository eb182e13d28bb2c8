#include "layer_op.h"

#include <stdlib.h>
#include <string.h>

static const char *const X_LIMITS[2] = {"x_lowest", "x_highest"};
static const char *const Y_LIMITS[2] = {"y_lowest", "y_highest"};

static OrtStatus *constant(const OrtApi *api, const OrtKernelInfo *info, size_t index,
                           const void **data, int64_t *sizes, size_t *rank) {
  const OrtValue *value = NULL;
  OrtShape *shape = NULL;
  int is_constant = 0;
  TRY(api->kernel_info_get_constant_input(info, index, &is_constant, &value));
  if (!is_constant || !value)
    return wrong(api, "quantized layers take constants for all but its first input");
  TRY(api->get_tensor_mutable_data((OrtValue *)value, (void **)data));
  TRY(api->get_tensor_type_and_shape(value, &shape));
  OrtStatus *status = api->get_dimensions_count(shape, rank);
  if (!status && *rank <= 2) status = api->get_dimensions(shape, sizes, *rank);
  api->release_shape(shape);
  return status;
}

static OrtStatus *vector(const OrtApi *api, const OrtKernelInfo *info, size_t index, size_t length,
                         const float **data) {
  int64_t size = 0;
  size_t rank = 0;
  TRY(constant(api, info, index, (const void **)data, &size, &rank));
  if (rank != 1 || (size_t)size != length)
    return wrong(api, "quantized layers take a scale and a bias for each output");
  return NULL;
}

static OrtStatus *scalars(const OrtApi *api, const OrtKernelInfo *info, size_t index, float *scale,
                          int *zero) {
  const void *data[2];
  int64_t sizes[2];
  size_t rank = 0;
  for (size_t i = 0; i < 2; i++) TRY(constant(api, info, index + i, &data[i], sizes, &rank));
  *scale = *(const float *)data[0];
  *zero = *(const int8_t *)data[1];
  return NULL;
}

/* An attribute that may be left out. */
static int64_t option(const OrtApi *api, const OrtKernelInfo *info, const char *name,
                      int64_t otherwise) {
  int64_t value = otherwise;
  OrtStatus *missing = api->kernel_info_get_int64(info, name, &value);
  if (!missing) return value;
  api->release_status(missing);
  return otherwise;
}

static OrtStatus *limits(const OrtApi *api, const OrtKernelInfo *info, const char *const names[2],
                         int *lowest, int *highest) {
  const int64_t low = option(api, info, names[0], INT8_MIN);
  const int64_t high = option(api, info, names[1], INT8_MAX);
  if (low < INT8_MIN || high > INT8_MAX || low > high)
    return wrong(api, "quantized layers take limits of codes within those of 8 bits");
  *lowest = (int)low;
  *highest = (int)high;
  return NULL;
}

static OrtStatus *fill(Layer *layer, const OrtKernelInfo *info) {
  const OrtApi *api = layer->api;
  const void *weight = NULL;
  const float *scales = NULL, *bias = NULL;
  const int64_t activation = option(api, info, "activation", NO_ACTIVATION);
  int64_t sizes[2] = {0, 0};
  size_t rank = 0;
  TRY(constant(api, info, WEIGHT, &weight, sizes, &rank));
  const size_t depth = (size_t)sizes[0], outputs = (size_t)sizes[1];
  if (rank != 2 || depth > DEPTH_MAX || !depth || activation < NO_ACTIVATION || activation > GELU)
    return wrong(api, "quantized layers take a weight [k, n] with k up to 32768, activation 0, 1 or 2");
  Grid *grid = &layer->grid;
  Finish *how = &layer->how;
  TRY(scalars(api, info, X_SCALE, &grid->scale, &grid->zero));
  TRY(limits(api, info, X_LIMITS, &grid->lowest, &grid->highest));
  TRY(limits(api, info, Y_LIMITS, &how->lowest, &how->highest));
  TRY(vector(api, info, WEIGHT_SCALES, outputs, &scales));
  TRY(vector(api, info, BIAS, outputs, &bias));
  if (how->to_codes)
    TRY(scalars(api, info, Y_SCALE, &how->scale, &how->zero));
  layer->factors = calloc(outputs + KEYS_IN_TILE, sizeof(float));
  layer->bias = calloc(outputs + KEYS_IN_TILE, sizeof(float));
  if (!layer->factors || !layer->bias ||
      !pack_weight(layer->path, weight, depth, outputs, grid->zero, &layer->weight))
    return api->create_status(ORT_CODE_FAIL, "a quantized layer has not enough memory");
  for (size_t n = 0; n < outputs; n++) layer->factors[n] = grid->scale * scales[n];
  memcpy(layer->bias, bias, outputs * sizeof *bias);
  how->activation = (int)activation;
  how->factors = layer->factors;
  how->bias = layer->bias;
  return NULL;
}

void free_layer(Layer *layer) {
  free_weight(&layer->weight);
  free(layer->factors);
  free(layer->bias);
}

OrtStatus *make_layer(const OrtApi *api, const OrtKernelInfo *info, int to_codes, Layer *layer) {
  const Path *path = find_path(getenv("QSAM2_KERNEL_PATH"));
  if (!path) return wrong(api, "QSAM2_KERNEL_PATH names no path that this processor has");
  *layer = (Layer){.api = api, .path = path, .how = {.to_codes = to_codes}};
  OrtStatus *status = fill(layer, info);
  if (status) free_layer(layer);
  return status;
}
