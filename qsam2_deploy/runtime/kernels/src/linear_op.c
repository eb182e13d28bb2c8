/* The operators QuantizedLinear, with floats as output, and QuantizedLinearCodes, with signed codes.
 *
 * Inputs: x [..., k] in floats that are quantized here, or in signed codes; a constant weight of
 * signed codes [k, n]; the scale and int8 zero-point of x; the scales [n] of the weight; the bias
 * [n]; and, for codes, the scale and int8 zero-point of the output. Attribute `activation`: 0 none,
 * 1 max(y, 0), 2 the exact GELU. Output: [..., n].
 */
#include <stdlib.h>
#include <string.h>

#include "linear.h"
#include "op.h"

enum { X, WEIGHT, X_SCALE, X_ZERO, WEIGHT_SCALES, BIAS, Y_SCALE, Y_ZERO };
enum { RANK_MAX = 8 };

typedef struct {
  const OrtApi *api;
  const Path *path;
  Packed weight;
  Finish how;
  float *factors, *bias; /* in whole tiles */
  float x_scale;
  int x_zero;
} Kernel;

static OrtStatus *constant(const OrtApi *api, const OrtKernelInfo *info, size_t index,
                           const void **data, int64_t *sizes, size_t *rank) {
  const OrtValue *value = NULL;
  OrtShape *shape = NULL;
  int is_constant = 0;
  TRY(api->kernel_info_get_constant_input(info, index, &is_constant, &value));
  if (!is_constant || !value)
    return wrong(api, "QuantizedLinear takes constants for all but its first input");
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
    return wrong(api, "QuantizedLinear takes a scale and a bias for each output");
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

static OrtStatus *fill(Kernel *kernel, const OrtKernelInfo *info) {
  const OrtApi *api = kernel->api;
  const void *weight = NULL;
  const float *scales = NULL, *bias = NULL;
  int64_t sizes[2] = {0, 0}, activation = 0;
  size_t rank = 0;
  TRY(api->kernel_info_get_int64(info, "activation", &activation));
  TRY(constant(api, info, WEIGHT, &weight, sizes, &rank));
  const size_t depth = (size_t)sizes[0], outputs = (size_t)sizes[1];
  if (rank != 2 || depth > DEPTH_MAX || !depth || activation < NO_ACTIVATION || activation > GELU)
    return wrong(api, "QuantizedLinear: a weight [k, n] with k up to 32768, activation 0, 1 or 2");
  TRY(scalars(api, info, X_SCALE, &kernel->x_scale, &kernel->x_zero));
  TRY(vector(api, info, WEIGHT_SCALES, outputs, &scales));
  TRY(vector(api, info, BIAS, outputs, &bias));
  if (kernel->how.to_codes)
    TRY(scalars(api, info, Y_SCALE, &kernel->how.scale, &kernel->how.zero));
  kernel->factors = calloc(outputs + KEYS_IN_TILE, sizeof(float));
  kernel->bias = calloc(outputs + KEYS_IN_TILE, sizeof(float));
  if (!kernel->factors || !kernel->bias ||
      !pack_weight(kernel->path, weight, depth, outputs, kernel->x_zero, &kernel->weight))
    return api->create_status(ORT_CODE_FAIL, "QuantizedLinear: not enough memory");
  for (size_t n = 0; n < outputs; n++) kernel->factors[n] = kernel->x_scale * scales[n];
  memcpy(kernel->bias, bias, outputs * sizeof *bias);
  kernel->how.activation = (int)activation;
  kernel->how.factors = kernel->factors;
  kernel->how.bias = kernel->bias;
  return NULL;
}

static void destroy(void *state) {
  Kernel *kernel = state;
  free_weight(&kernel->weight);
  free(kernel->factors);
  free(kernel->bias);
  free(kernel);
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                         void **state) {
  const Path *path = find_path(getenv("QSAM2_KERNEL_PATH"));
  if (!path) return wrong(api, "QSAM2_KERNEL_PATH names no path that this processor has");
  Kernel *kernel = calloc(1, sizeof *kernel);
  if (!kernel) return api->create_status(ORT_CODE_FAIL, "QuantizedLinear: not enough memory");
  kernel->api = api;
  kernel->path = path;
  kernel->how.to_codes = op == &linear_codes_op;
  OrtStatus *status = fill(kernel, info);
  if (status)
    destroy(kernel);
  else
    *state = kernel;
  return status;
}

typedef struct {
  const Kernel *kernel;
  const char *x;
  char *y;
  size_t rows;
  int x_is_float;
  Queue queue;
} Work;

static void some_rows(const Work *work, size_t first, void *scratch) {
  const Kernel *kernel = work->kernel;
  const size_t left = work->rows - first, rows = left < ROWS_MAX ? left : ROWS_MAX;
  const size_t x_bytes = work->x_is_float ? sizeof(float) : 1;
  const size_t y_bytes = kernel->how.to_codes ? 1 : sizeof(float);
  linear_block(kernel->path, &kernel->weight, work->x + first * kernel->weight.depth * x_bytes,
               work->x_is_float ? kernel->x_scale : 0.0f, kernel->x_zero, rows, &kernel->how,
               work->y + first * kernel->weight.outputs * y_bytes, scratch);
}

static void blocks(void *data, size_t index) {
  Work *work = data;
  void *scratch = NULL;
  (void)index;
  for (size_t first; (first = next_of(&work->queue) * ROWS_MAX) < work->rows;) {
    if (!scratch) scratch = aligned_alloc(64, linear_scratch_bytes(&work->kernel->weight));
    if (!scratch) {
      out_of_memory(&work->queue);
      return;
    }
    some_rows(work, first, scratch);
  }
  free(scratch);
}

static OrtStatus *read_x(const OrtApi *api, OrtKernelContext *context, Work *work, int64_t *sizes,
                         size_t *rank) {
  const OrtValue *value = NULL;
  OrtShape *shape = NULL;
  int type = 0;
  TRY(api->kernel_context_get_input(context, X, &value));
  TRY(api->get_tensor_mutable_data((OrtValue *)value, (void **)&work->x));
  TRY(api->get_tensor_type_and_shape(value, &shape));
  OrtStatus *status = api->get_tensor_element_type(shape, &type);
  if (!status) status = api->get_dimensions_count(shape, rank);
  if (!status && *rank <= RANK_MAX) status = api->get_dimensions(shape, sizes, *rank);
  api->release_shape(shape);
  if (status) return status;
  if (type != ORT_TYPE_FLOAT && type != ORT_TYPE_INT8)
    return wrong(api, "QuantizedLinear takes floats or int8");
  work->x_is_float = type == ORT_TYPE_FLOAT;
  if (!*rank || *rank > RANK_MAX || (size_t)sizes[*rank - 1] != work->kernel->weight.depth)
    return wrong(api, "QuantizedLinear: the input does not fit the weight");
  return NULL;
}

static OrtStatus *compute(void *state, OrtKernelContext *context) {
  const Kernel *kernel = state;
  const OrtApi *api = kernel->api;
  Work work = {.kernel = kernel, .rows = 1};
  int64_t sizes[RANK_MAX];
  size_t rank = 0;
  OrtValue *value = NULL;
  TRY(read_x(api, context, &work, sizes, &rank));
  for (size_t i = 0; i + 1 < rank; i++) work.rows *= (size_t)sizes[i];
  sizes[rank - 1] = (int64_t)kernel->weight.outputs;
  TRY(api->kernel_context_get_output(context, 0, sizes, rank, &value));
  TRY(api->get_tensor_mutable_data(value, (void **)&work.y));
  if (!work.rows) return NULL;
  TRY(share(api, context, &work, &work.queue, (work.rows + ROWS_MAX - 1) / ROWS_MAX, blocks));
  return memory_status(api, &work.queue);
}

static const char *get_name(const OrtCustomOp *op) {
  return op == &linear_codes_op ? "QuantizedLinearCodes" : "QuantizedLinear";
}

static int get_input_type(const OrtCustomOp *op, size_t index) {
  (void)op;
  if (index == X) return ORT_TYPE_ANY;
  return index == WEIGHT || index == X_ZERO || index == Y_ZERO ? ORT_TYPE_INT8 : ORT_TYPE_FLOAT;
}

static size_t get_input_count(const OrtCustomOp *op) {
  return op == &linear_codes_op ? Y_ZERO + 1 : Y_SCALE;
}

static int get_output_type(const OrtCustomOp *op, size_t index) {
  (void)index;
  return op == &linear_codes_op ? ORT_TYPE_INT8 : ORT_TYPE_FLOAT;
}

#define DESCRIPTION                                                                              \
  {                                                                                              \
    .version = ORT_API_VERSION_WANTED, .get_name = get_name,                                     \
    .get_execution_provider_type = cpu_provider, .get_input_type = get_input_type,               \
    .get_input_type_count = get_input_count, .get_output_type = get_output_type,                 \
    .get_output_type_count = one_output, .kernel_destroy = destroy,                              \
    .get_input_characteristic = always_zero, .get_output_characteristic = always_zero,           \
    .get_input_memory_type = always_zero, .create_kernel_v2 = create, .kernel_compute_v2 = compute, \
  }

const OrtCustomOp linear_op = DESCRIPTION;
const OrtCustomOp linear_codes_op = DESCRIPTION;
