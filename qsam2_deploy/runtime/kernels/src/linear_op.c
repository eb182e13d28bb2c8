/* The operators QuantizedLinear, with floats as output, and QuantizedLinearCodes, with signed codes.
 *
 * Inputs: x [..., k] in floats that are quantized here, or in signed codes; a constant weight of
 * signed codes [k, n]; the scale and int8 zero-point of x; the scales [n] of the weight; the bias
 * [n]; and, for codes, the scale and int8 zero-point of the output. Attributes: `activation`, 0 none,
 * 1 max(y, 0), 2 the exact GELU; `x_lowest` and `x_highest`, `y_lowest` and `y_highest`, limits of
 * the codes that are made here, where they are narrower than 8 bits. Output: [..., n].
 */
#include <stdlib.h>

#include "layer_op.h"

enum { RANK_MAX = 8 };

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                         void **state) {
  Layer *layer = malloc(sizeof *layer);
  if (!layer) return api->create_status(ORT_CODE_FAIL, "QuantizedLinear: not enough memory");
  OrtStatus *status = make_layer(api, info, op == &linear_codes_op, layer);
  if (status)
    free(layer);
  else
    *state = layer;
  return status;
}

static void destroy(void *state) {
  free_layer(state);
  free(state);
}

typedef struct {
  const Layer *layer;
  const char *x;
  char *y;
  size_t rows;
  int x_is_float;
  Queue queue;
} Work;

static void some_rows(const Work *work, size_t first, void *scratch) {
  const Layer *layer = work->layer;
  const size_t left = work->rows - first, rows = left < ROWS_MAX ? left : ROWS_MAX;
  const size_t x_bytes = work->x_is_float ? sizeof(float) : 1;
  const size_t y_bytes = layer->how.to_codes ? 1 : sizeof(float);
  linear_block(layer->path, &layer->weight, work->x + first * layer->weight.depth * x_bytes,
               work->x_is_float ? &layer->grid : NULL, rows, &layer->how,
               work->y + first * layer->weight.outputs * y_bytes, scratch);
}

static void blocks(void *data, size_t index) {
  Work *work = data;
  void *scratch = NULL;
  (void)index;
  for (size_t first; (first = next_of(&work->queue) * ROWS_MAX) < work->rows;) {
    if (!scratch) scratch = aligned_alloc(64, linear_scratch_bytes(&work->layer->weight));
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
  if (!*rank || *rank > RANK_MAX || (size_t)sizes[*rank - 1] != work->layer->weight.depth)
    return wrong(api, "QuantizedLinear: the input does not fit the weight");
  return NULL;
}

static OrtStatus *compute(void *state, OrtKernelContext *context) {
  const Layer *layer = state;
  const OrtApi *api = layer->api;
  Work work = {.layer = layer, .rows = 1};
  int64_t sizes[RANK_MAX];
  size_t rank = 0;
  OrtValue *value = NULL;
  TRY(read_x(api, context, &work, sizes, &rank));
  for (size_t i = 0; i + 1 < rank; i++) work.rows *= (size_t)sizes[i];
  sizes[rank - 1] = (int64_t)layer->weight.outputs;
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

const OrtCustomOp linear_op = DESCRIPTION(always_zero);
const OrtCustomOp linear_codes_op = DESCRIPTION(always_zero);
