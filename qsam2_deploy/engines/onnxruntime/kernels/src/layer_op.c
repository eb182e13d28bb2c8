#include "layer_op.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static const char *const X_LIMITS[2] = {"x_lowest", "x_highest"};
static const char *const Y_LIMITS[2] = {"y_lowest", "y_highest"};

/* The scale and the zero-point of codes, at `index` and after it. */
static OrtStatus *scalars(const OrtApi *api, const OrtKernelInfo *info, size_t index, float *scale,
                          int *zero) {
  Given given;
  TRY(given_constant(api, info, index, &given));
  TRY(scale_of(api, &given, scale));
  TRY(given_constant(api, info, index + 1, &given));
  return zero_of(api, &given, zero);
}

static OrtStatus *vector(const OrtApi *api, const OrtKernelInfo *info, size_t index, size_t length,
                         const float **data) {
  Given given;
  TRY(given_constant(api, info, index, &given));
  return floats_of(api, &given, length, data);
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
  if (low < INT8_MIN || low > high || high > INT8_MAX)
    return wrong(api, "quantized layers take limits of codes within those of 8 bits");
  *lowest = (int)low;
  *highest = (int)high;
  return NULL;
}

static OrtStatus *check_weight(const OrtApi *api, const Given *weight, int64_t activation) {
  if (weight->rank != 2 || weight->is_float || !weight->count || weight->sizes[0] > DEPTH_MAX ||
      activation < NO_ACTIVATION || activation > GELU)
    return wrong(api, "quantized layers take a weight [k, n] with k up to 32768, activation 0, 1 or 2");
  return NULL;
}

/* Multiply the scales of inputs and weights; what is not finite would only come out of a graph that
 * is broken, and would be told much later by numbers that are none. */
static OrtStatus *set_factors(Layer *layer, const float *scales, const float *bias,
                              size_t outputs) {
  for (size_t n = 0; n < outputs; n++) {
    layer->factors[n] = layer->grid.scale * scales[n];
    layer->bias[n] = bias[n];
    if (!(scales[n] > 0 && layer->factors[n] <= FLT_MAX && fabsf(bias[n]) <= FLT_MAX))
      return wrong(layer->api, "quantized layers take scales above 0 and biases, all finite");
  }
  return NULL;
}

static OrtStatus *pack(Layer *layer, const Given *weight, const float *scales, const float *bias) {
  const size_t depth = weight->sizes[0], outputs = weight->sizes[1];
  layer->factors = calloc(outputs + KEYS_IN_TILE, sizeof(float));
  layer->bias = calloc(outputs + KEYS_IN_TILE, sizeof(float));
  if (!layer->factors || !layer->bias ||
      !pack_weight(layer->path, weight->data, depth, outputs, layer->grid.zero, &layer->weight))
    return layer->api->create_status(ORT_CODE_FAIL, "a quantized layer has not enough memory");
  layer->how.factors = layer->factors;
  layer->how.bias = layer->bias;
  return set_factors(layer, scales, bias, outputs);
}

static OrtStatus *fill(Layer *layer, const OrtKernelInfo *info) {
  const OrtApi *api = layer->api;
  const float *scales = NULL, *bias = NULL;
  const int64_t activation = option(api, info, "activation", NO_ACTIVATION);
  Grid *grid = &layer->grid;
  Finish *how = &layer->how;
  Given weight;
  TRY(given_constant(api, info, WEIGHT, &weight));
  TRY(check_weight(api, &weight, activation));
  how->activation = (int)activation;
  TRY(scalars(api, info, X_SCALE, &grid->scale, &grid->zero));
  TRY(limits(api, info, X_LIMITS, &grid->lowest, &grid->highest));
  TRY(limits(api, info, Y_LIMITS, &how->lowest, &how->highest));
  TRY(vector(api, info, WEIGHT_SCALES, weight.sizes[1], &scales));
  TRY(vector(api, info, BIAS, weight.sizes[1], &bias));
  if (how->to_codes)
    TRY(scalars(api, info, Y_SCALE, &how->scale, &how->zero));
  return pack(layer, &weight, scales, bias);
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
