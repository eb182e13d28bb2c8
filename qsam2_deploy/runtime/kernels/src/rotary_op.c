/* The operator RotaryCodes: the rotary embedding of halves, and QuantizeLinear of its result.
 *
 * Inputs: x [..., n, 2h], cos and sin [n, h], floats; the scale and int8 zero-point of the output.
 * Output: codes of [a cos - b sin, a sin + b cos] for x = [a, b]; every product and sum is rounded.
 */
#include <stdlib.h>

#include "op.h"
#include "path.h"

enum { X, COS, SIN, Y_SCALE, Y_ZERO, INPUTS };
enum { RANK_MAX = 8, HALF_MAX = DEPTH_MAX / 2 };

typedef struct {
  const OrtApi *api;
  const Path *path;
} Kernel;

typedef struct {
  const Path *path;
  const float *x, *cos, *sin, *scale;
  const int8_t *zero;
  int8_t *y;
  size_t rows, places, half;
  Queue queue;
} Work;

static void rotate(const float *restrict x, const float *restrict cos, const float *restrict sin,
                   size_t half, float *restrict y) {
  for (size_t i = 0; i < half; i++) {
    const float a = x[i], b = x[half + i];
    y[i] = a * cos[i] - b * sin[i];
    y[half + i] = a * sin[i] + b * cos[i];
  }
}

static void blocks(void *data, size_t index) {
  Work *work = data;
  float y[2 * HALF_MAX];
  (void)index;
  for (size_t first; (first = next_of(&work->queue) * ROWS_MAX) < work->rows;)
    for (size_t r = first; r < first + ROWS_MAX && r < work->rows; r++) {
      const size_t place = r % work->places * work->half, start = r * 2 * work->half;
      rotate(work->x + start, work->cos + place, work->sin + place, work->half, y);
      work->path->quantize(y, 2 * work->half, *work->scale, *work->zero, work->y + start);
    }
}

static OrtStatus *read_input(const OrtApi *api, OrtKernelContext *context, size_t index,
                             const void **data, int64_t *sizes, size_t *rank) {
  const OrtValue *value = NULL;
  OrtShape *shape = NULL;
  TRY(api->kernel_context_get_input(context, index, &value));
  TRY(api->get_tensor_mutable_data((OrtValue *)value, (void **)data));
  TRY(api->get_tensor_type_and_shape(value, &shape));
  OrtStatus *status = api->get_dimensions_count(shape, rank);
  if (!status && *rank <= RANK_MAX) status = api->get_dimensions(shape, sizes, *rank);
  api->release_shape(shape);
  return status;
}

static OrtStatus *read_all(const OrtApi *api, OrtKernelContext *context, Work *work, int64_t *sizes,
                           size_t *rank) {
  const void **rest[] = {(const void **)&work->cos, (const void **)&work->sin,
                         (const void **)&work->scale, (const void **)&work->zero};
  int64_t other[RANK_MAX];
  size_t count = 0;
  TRY(read_input(api, context, X, (const void **)&work->x, sizes, rank));
  if (*rank < 2 || *rank > RANK_MAX || sizes[*rank - 1] % 2 || sizes[*rank - 1] > DEPTH_MAX)
    return wrong(api, "RotaryCodes takes rows of two halves, of at most 32768 columns");
  work->places = (size_t)sizes[*rank - 2];
  work->half = (size_t)sizes[*rank - 1] / 2;
  for (size_t i = 0; i < 4; i++) {
    TRY(read_input(api, context, COS + i, rest[i], other, &count));
    const int fits = count == 2 && (size_t)other[0] == work->places && (size_t)other[1] == work->half;
    if (i < 2 && !fits) return wrong(api, "RotaryCodes: cosines or sines do not fit the rows");
  }
  work->rows = 1;
  for (size_t i = 0; i + 1 < *rank; i++) work->rows *= (size_t)sizes[i];
  return NULL;
}

static OrtStatus *compute(void *state, OrtKernelContext *context) {
  const Kernel *kernel = state;
  const OrtApi *api = kernel->api;
  Work work = {.path = kernel->path};
  int64_t sizes[RANK_MAX];
  size_t rank = 0;
  OrtValue *value = NULL;
  TRY(read_all(api, context, &work, sizes, &rank));
  TRY(api->kernel_context_get_output(context, 0, sizes, rank, &value));
  TRY(api->get_tensor_mutable_data(value, (void **)&work.y));
  if (!work.rows) return NULL;
  return share(api, context, &work, &work.queue, (work.rows + ROWS_MAX - 1) / ROWS_MAX, blocks);
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                         void **state) {
  (void)op;
  (void)info;
  const Path *path = find_path(getenv("QSAM2_KERNEL_PATH"));
  if (!path) return wrong(api, "QSAM2_KERNEL_PATH names no path that this processor has");
  Kernel *kernel = malloc(sizeof *kernel);
  if (!kernel) return api->create_status(ORT_CODE_FAIL, "RotaryCodes: not enough memory");
  *kernel = (Kernel){api, path};
  *state = kernel;
  return NULL;
}

static void destroy(void *state) { free(state); }

static const char *get_name(const OrtCustomOp *op) {
  (void)op;
  return "RotaryCodes";
}

static int get_input_type(const OrtCustomOp *op, size_t index) {
  (void)op;
  return index == Y_ZERO ? ORT_TYPE_INT8 : ORT_TYPE_FLOAT;
}

static size_t get_input_count(const OrtCustomOp *op) {
  (void)op;
  return INPUTS;
}

static int get_output_type(const OrtCustomOp *op, size_t index) {
  (void)op;
  (void)index;
  return ORT_TYPE_INT8;
}

const OrtCustomOp rotary_op = DESCRIPTION(always_zero);
