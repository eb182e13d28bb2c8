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

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                         void **state) {
  Layer *layer = malloc(sizeof *layer);
  if (!layer) return api->create_status(ORT_CODE_FAIL, "QuantizedLinear: not enough memory");
  OrtStatus *status = make_layer(api, info, op == &linear_codes_op.op, layer);
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
  void *y;
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
               (char *)work->y + first * layer->weight.outputs * y_bytes, scratch);
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

static OrtStatus *compute(void *state, OrtKernelContext *context) {
  const Layer *layer = state;
  const OrtApi *api = layer->api;
  Work work = {.layer = layer};
  Given x;
  TRY(given_input(api, context, X, &x));
  if (!x.rank || x.sizes[x.rank - 1] != layer->weight.depth)
    return wrong(api, "QuantizedLinear: the input does not fit the weight");
  work.x = x.data;
  work.x_is_float = x.is_float;
  work.rows = x.count / layer->weight.depth;
  x.sizes[x.rank - 1] = layer->weight.outputs;
  TRY(make_output(api, context, x.sizes, x.rank, x.count, &work.y));
  if (!work.rows) return NULL;
  TRY(share(api, context, &work, &work.queue, (work.rows + ROWS_MAX - 1) / ROWS_MAX, blocks));
  return memory_status(api, &work.queue);
}

const Operator linear_op = OPERATOR("QuantizedLinear", "xcfcff", ORT_TYPE_FLOAT);
const Operator linear_codes_op = OPERATOR("QuantizedLinearCodes", "xcfcfffc", ORT_TYPE_INT8);
