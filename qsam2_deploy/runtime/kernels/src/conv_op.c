/* The operator QuantizedConv: a convolution of one group, with the channels last in its output.
 *
 * Inputs: x [b, c, h, w] in floats that are quantized here, or in signed codes; then as for
 * QuantizedLinear, with the weight [c * kernel_h * kernel_w, n]. Attributes kernel_h, kernel_w,
 * stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right. Output: [b, h', w', n], floats.
 */
#include <stdlib.h>
#include <string.h>

#include "layer_op.h"

enum { RANK = 4, ROW_BLOCK = 16 };

typedef struct {
  int64_t kernel_h, kernel_w, stride_h, stride_w, top, left, bottom, right;
} Window;

typedef struct {
  Layer layer;
  Window window;
} Kernel;

typedef struct {
  const Kernel *kernel;
  const void *x;
  int8_t *made; /* codes of x, if it is floats */
  const int8_t *codes;
  float *y;
  int64_t channels, height, width, out_height, out_width;
  size_t lines, pixels; /* lines of all channels of x, pixels of y */
  Queue queue;
} Work;

static void quantize_lines(void *data, size_t index) {
  Work *work = data;
  const Layer *layer = &work->kernel->layer;
  const size_t width = (size_t)work->width;
  (void)index;
  for (size_t first; (first = next_of(&work->queue) * ROW_BLOCK) < work->lines;) {
    const size_t left = work->lines - first, lines = left < ROW_BLOCK ? left : ROW_BLOCK;
    quantize_on(layer->path, &layer->grid, (const float *)work->x + first * width, lines * width,
                work->made + first * width);
  }
}

/* One line of a window: codes from column `start`, with the zero-point beyond the edges. */
static int8_t *take_line(const int8_t *line, int64_t start, int64_t width, int64_t count, int zero,
                         int8_t *out) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t column = start + i;
    out[i] = column >= 0 && column < width ? line[column] : (int8_t)zero;
  }
  return out + count;
}

static void take_window(const Work *work, size_t pixel, int8_t *out) {
  const Window *w = &work->kernel->window;
  const int zero = work->kernel->layer.grid.zero;
  const int64_t across = (int64_t)pixel % work->out_width, rest = (int64_t)pixel / work->out_width;
  const int64_t y = rest % work->out_height * w->stride_h - w->top;
  const int64_t x = across * w->stride_w - w->left, batch = rest / work->out_height;
  const int inside = x >= 0 && x + w->kernel_w <= work->width;
  for (int64_t c = 0; c < work->channels; c++)
    for (int64_t j = y; j < y + w->kernel_h; j++) {
      const int8_t *line =
          work->codes + ((batch * work->channels + c) * work->height + j) * work->width;
      if (j < 0 || j >= work->height) {
        memset(out, zero, (size_t)w->kernel_w);
        out += w->kernel_w;
      } else if (inside) {
        for (int64_t i = 0; i < w->kernel_w; i++) *out++ = line[x + i];
      } else {
        out = take_line(line, x, work->width, w->kernel_w, zero, out);
      }
    }
}

static void some_pixels(const Work *work, size_t first, int8_t *windows, void *scratch) {
  const Layer *layer = &work->kernel->layer;
  const size_t left = work->pixels - first, pixels = left < ROWS_MAX ? left : ROWS_MAX;
  for (size_t i = 0; i < pixels; i++)
    take_window(work, first + i, windows + i * layer->weight.depth);
  linear_block(layer->path, &layer->weight, windows, NULL, pixels, &layer->how,
               work->y + first * layer->weight.outputs, scratch);
}

static void convolve(void *data, size_t index) {
  Work *work = data;
  const Packed *weight = &work->kernel->layer.weight;
  const size_t windows = (ROWS_MAX * weight->depth + 63) / 64 * 64;
  int8_t *scratch = NULL;
  (void)index;
  for (size_t first; (first = next_of(&work->queue) * ROWS_MAX) < work->pixels;) {
    if (!scratch) scratch = aligned_alloc(64, windows + linear_scratch_bytes(weight));
    if (!scratch) {
      out_of_memory(&work->queue);
      return;
    }
    some_pixels(work, first, scratch, scratch + windows);
  }
  free(scratch);
}

static OrtStatus *read_x(const OrtApi *api, OrtKernelContext *context, Work *work, int64_t *sizes,
                         int *type) {
  const OrtValue *value = NULL;
  OrtShape *shape = NULL;
  size_t rank = 0;
  TRY(api->kernel_context_get_input(context, X, &value));
  TRY(api->get_tensor_mutable_data((OrtValue *)value, (void **)&work->x));
  TRY(api->get_tensor_type_and_shape(value, &shape));
  OrtStatus *status = api->get_tensor_element_type(shape, type);
  if (!status) status = api->get_dimensions_count(shape, &rank);
  if (!status && rank == RANK) status = api->get_dimensions(shape, sizes, rank);
  api->release_shape(shape);
  if (status) return status;
  if (rank != RANK || (*type != ORT_TYPE_FLOAT && *type != ORT_TYPE_INT8))
    return wrong(api, "QuantizedConv takes floats or int8 of 4 dimensions");
  return NULL;
}

static OrtStatus *set_sizes(const OrtApi *api, Work *work, int64_t *sizes) {
  const Kernel *kernel = work->kernel;
  const Window *w = &kernel->window;
  work->channels = sizes[1];
  work->height = sizes[2];
  work->width = sizes[3];
  const int64_t down = work->height + w->top + w->bottom - w->kernel_h;
  const int64_t across = work->width + w->left + w->right - w->kernel_w;
  const int64_t depth = work->channels * w->kernel_h * w->kernel_w;
  if (down < 0 || across < 0 || (size_t)depth != kernel->layer.weight.depth)
    return wrong(api, "QuantizedConv: the input does not fit the weight");
  work->lines = (size_t)(sizes[0] * work->channels * work->height);
  sizes[1] = work->out_height = down / w->stride_h + 1;
  sizes[2] = work->out_width = across / w->stride_w + 1;
  sizes[3] = (int64_t)kernel->layer.weight.outputs;
  work->pixels = (size_t)(sizes[0] * sizes[1] * sizes[2]);
  return NULL;
}

static OrtStatus *run(const OrtApi *api, OrtKernelContext *context, Work *work, int is_float) {
  const size_t blocks = (work->pixels + ROWS_MAX - 1) / ROWS_MAX;
  OrtStatus *status = NULL;
  work->codes = work->x;
  if (is_float) {
    work->codes = work->made = malloc(work->lines * (size_t)work->width);
    if (!work->made) return api->create_status(ORT_CODE_FAIL, "QuantizedConv: not enough memory");
    status = share(api, context, work, &work->queue, (work->lines + ROW_BLOCK - 1) / ROW_BLOCK,
                   quantize_lines);
  }
  if (!status) status = share(api, context, work, &work->queue, blocks, convolve);
  free(work->made);
  return status ? status : memory_status(api, &work->queue);
}

static OrtStatus *compute(void *state, OrtKernelContext *context) {
  const Kernel *kernel = state;
  const OrtApi *api = kernel->layer.api;
  Work work = {.kernel = kernel};
  int64_t sizes[RANK];
  int type = 0;
  OrtValue *value = NULL;
  TRY(read_x(api, context, &work, sizes, &type));
  TRY(set_sizes(api, &work, sizes));
  TRY(api->kernel_context_get_output(context, 0, sizes, RANK, &value));
  TRY(api->get_tensor_mutable_data(value, (void **)&work.y));
  return work.pixels ? run(api, context, &work, type == ORT_TYPE_FLOAT) : NULL;
}

static OrtStatus *read_window(const OrtApi *api, const OrtKernelInfo *info, Window *window) {
  static const char *const names[] = {"kernel_h", "kernel_w", "stride_h",   "stride_w",
                                      "pad_top",  "pad_left", "pad_bottom", "pad_right"};
  int64_t *const values[] = {&window->kernel_h, &window->kernel_w, &window->stride_h,
                             &window->stride_w, &window->top,      &window->left,
                             &window->bottom,   &window->right};
  for (int i = 0; i < 8; i++) {
    TRY(api->kernel_info_get_int64(info, names[i], values[i]));
    if (*values[i] < (i < 4)) return wrong(api, "QuantizedConv: a kernel, stride or padding is wrong");
  }
  return NULL;
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                         void **state) {
  Kernel *kernel = malloc(sizeof *kernel);
  (void)op;
  if (!kernel) return api->create_status(ORT_CODE_FAIL, "QuantizedConv: not enough memory");
  OrtStatus *status = read_window(api, info, &kernel->window);
  if (!status) status = make_layer(api, info, 0, &kernel->layer);
  if (status)
    free(kernel);
  else
    *state = kernel;
  return status;
}

static void destroy(void *state) {
  free_layer(&((Kernel *)state)->layer);
  free(state);
}

static const char *get_name(const OrtCustomOp *op) {
  (void)op;
  return "QuantizedConv";
}

static int get_input_type(const OrtCustomOp *op, size_t index) {
  (void)op;
  if (index == X) return ORT_TYPE_ANY;
  return index == WEIGHT || index == X_ZERO ? ORT_TYPE_INT8 : ORT_TYPE_FLOAT;
}

static size_t get_input_count(const OrtCustomOp *op) {
  (void)op;
  return BIAS + 1;
}

static int get_output_type(const OrtCustomOp *op, size_t index) {
  (void)op;
  (void)index;
  return ORT_TYPE_FLOAT;
}

const OrtCustomOp conv_op = DESCRIPTION(always_zero);
