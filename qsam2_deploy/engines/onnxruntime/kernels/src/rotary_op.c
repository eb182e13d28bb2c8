/* The operator RotaryCodes: the rotary embedding of halves, and QuantizeLinear of its result.
 *
 * Inputs: x [..., n, 2h], cos and sin [n, h], floats; the scale and int8 zero-point of the output.
 * Output: codes of [a cos - b sin, a sin + b cos] for x = [a, b]; every product and sum is rounded.
 */
#include <stdlib.h>

#include "path.h"
#include "tensor_op.h"

enum { X, COS, SIN, Y_SCALE, Y_ZERO, INPUTS };
enum { HALF_MAX = DEPTH_MAX / 2 };

typedef struct {
  const OrtApi *api;
  const Path *path;
} Kernel;

typedef struct {
  const Path *path;
  const float *x, *cos, *sin;
  float scale;
  int zero;
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
      work->path->quantize(y, 2 * work->half, work->scale, work->zero, work->y + start);
    }
}

/* Read cosines or sines, a number for each place of a half row. */
static OrtStatus *read_table(const OrtApi *api, const OrtKernelContext *context, size_t index,
                             const Work *work, const float **table) {
  Given given;
  TRY(given_input(api, context, index, &given));
  if (given.rank != 2 || !given.is_float || given.sizes[0] != work->places ||
      given.sizes[1] != work->half)
    return wrong(api, "RotaryCodes: cosines or sines do not fit the rows");
  *table = given.data;
  return NULL;
}

static OrtStatus *read_all(const OrtApi *api, const OrtKernelContext *context, Work *work,
                           Given *x) {
  Given given;
  TRY(given_input(api, context, X, x));
  const size_t columns = x->rank < 2 ? 0 : x->sizes[x->rank - 1];
  if (!columns || columns % 2 || columns > DEPTH_MAX || !x->is_float)
    return wrong(api, "RotaryCodes takes rows of two halves, of at most 32768 columns");
  work->x = x->data;
  work->places = x->sizes[x->rank - 2];
  work->half = columns / 2;
  work->rows = x->count / columns;
  TRY(read_table(api, context, COS, work, &work->cos));
  TRY(read_table(api, context, SIN, work, &work->sin));
  TRY(given_input(api, context, Y_SCALE, &given));
  TRY(scale_of(api, &given, &work->scale));
  TRY(given_input(api, context, Y_ZERO, &given));
  return zero_of(api, &given, &work->zero);
}

static OrtStatus *compute(void *state, OrtKernelContext *context) {
  const Kernel *kernel = state;
  const OrtApi *api = kernel->api;
  Work work = {.path = kernel->path};
  Given x;
  TRY(read_all(api, context, &work, &x));
  TRY(make_output(api, context, x.sizes, x.rank, x.count, (void **)&work.y));
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

const Operator rotary_op = OPERATOR("RotaryCodes", "ffffc", ORT_TYPE_INT8);
