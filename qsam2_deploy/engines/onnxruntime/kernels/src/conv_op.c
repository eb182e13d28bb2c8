/* The operator QuantizedConv: a convolution of one group, with the channels last in its output.
 *
 * Inputs: x [b, c, h, w] in floats that are quantized here, or in signed codes; then as for
 * QuantizedLinear, with the weight [c * kernel_h * kernel_w, n]. Attributes kernel_h, kernel_w,
 * stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right. Output: [b, h', w', n], floats.
 */
#include <stdlib.h>
#include <string.h>

#include "layer_op.h"

enum { RANK = 4, WINDOW_SIZES = 8, ROW_BLOCK = 16 };
enum { BATCH, CHANNELS, HEIGHT, WIDTH };

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

/* Take the sizes of x, and turn them into those of y. */
static OrtStatus *set_sizes(const OrtApi *api, Work *work, const Given *x, size_t *out) {
  const Window *w = &work->kernel->window;
  const Packed *weight = &work->kernel->layer.weight;
  if (x->rank != RANK) return wrong(api, "QuantizedConv takes floats or int8 of 4 dimensions");
  work->channels = (int64_t)x->sizes[CHANNELS];
  work->height = (int64_t)x->sizes[HEIGHT];
  work->width = (int64_t)x->sizes[WIDTH];
  /* All of these have at most 31 bits, and a window has at most 2 * 15. */
  const int64_t down = work->height + w->top + w->bottom - w->kernel_h;
  const int64_t across = work->width + w->left + w->right - w->kernel_w;
  const int64_t depth = work->channels * (w->kernel_h * w->kernel_w);
  if (!work->height || !work->width || down < 0 || across < 0 || (size_t)depth != weight->depth)
    return wrong(api, "QuantizedConv: the input does not fit the weight");
  work->lines = x->count / x->sizes[WIDTH];
  work->out_height = down / w->stride_h + 1;
  work->out_width = across / w->stride_w + 1;
  out[BATCH] = x->sizes[BATCH];
  out[1] = (size_t)work->out_height;
  out[2] = (size_t)work->out_width;
  out[3] = weight->outputs;
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
  size_t sizes[RANK];
  Given x;
  TRY(given_input(api, context, X, &x));
  TRY(set_sizes(api, &work, &x, sizes));
  TRY(make_output(api, context, sizes, RANK, x.count, (void **)&work.y));
  work.x = x.data;
  work.pixels = sizes[BATCH] * sizes[1] * sizes[2];
  return work.pixels ? run(api, context, &work, x.is_float) : NULL;
}

/* The sizes of a window of more codes than a weight may have would not fit any, so neither kernel nor
 * padding need be larger; that bounds the output, too. */
static OrtStatus *read_window(const OrtApi *api, const OrtKernelInfo *info, Window *window) {
  static const char *const names[] = {"kernel_h", "kernel_w", "stride_h",   "stride_w",
                                      "pad_top",  "pad_left", "pad_bottom", "pad_right"};
  int64_t *const values[] = {&window->kernel_h, &window->kernel_w, &window->stride_h,
                             &window->stride_w, &window->top,      &window->left,
                             &window->bottom,   &window->right};
  for (int i = 0; i < WINDOW_SIZES; i++) {
    TRY(api->kernel_info_get_int64(info, names[i], values[i]));
    if (*values[i] < (i < 4) || *values[i] > DEPTH_MAX)
      return wrong(api, "QuantizedConv: a kernel, stride or padding is wrong");
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

const Operator conv_op = OPERATOR("QuantizedConv", "xcfcff", ORT_TYPE_FLOAT);
