/* The operator QuantizedAttention of the domain qsam2, version 1.
 *
 * Inputs: query [..., n, d], key [..., m, d], value [..., m, e] of 2 to 4 dimensions, in floats
 * that are quantized here, or in signed codes; then the scales of the three, floats, and optionally
 * the zero-point of the values, int8. Leading dimensions of size 1 of the queries serve all others.
 * Attributes inner_query, inner_key, inner_value, inner_output: 1 where a tensor of 4 dimensions has
 * its heads inside, as [batch, n, heads, d]. Output: [..., n, e], floats.
 */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "tensor_op.h"

enum { QUERY, KEY, VALUE, QUERY_SCALE, KEY_SCALE, VALUE_SCALE, VALUE_ZERO, INPUTS };
enum { FACTORS = 3, OUTPUT = 3, RANK = 4 };
/* So many products give all threads enough to do without sharing one. */
enum { PRODUCTS_APART = 64 };
enum { BATCH, HEAD, ROW, COLUMN };

typedef struct {
  const OrtApi *api;
  const Path *path;
  int64_t inner[FACTORS + 1];
} Kernel;

/* A tensor as [batch, heads, rows, columns], wherever its heads are. */
typedef struct {
  const void *data;
  size_t rank, count, sizes[RANK], steps[RANK];
  int is_float;
} Tensor;

static void set_steps(Tensor *t, int inner) {
  t->steps[COLUMN] = 1;
  t->steps[ROW] = t->sizes[COLUMN] * (inner ? t->sizes[HEAD] : 1);
  t->steps[HEAD] = t->sizes[COLUMN] * (inner ? 1 : t->sizes[ROW]);
  t->steps[BATCH] = t->sizes[HEAD] * t->sizes[ROW] * t->sizes[COLUMN];
}

static OrtStatus *read_tensor(const Kernel *kernel, const OrtKernelContext *context, size_t index,
                              Tensor *t) {
  const int inner = (int)kernel->inner[index];
  Given given;
  TRY(given_input(kernel->api, context, index, &given));
  if (given.rank < 2 || given.rank > RANK || (inner && given.rank != RANK))
    return wrong(kernel->api,
                 "QuantizedAttention takes 2 to 4 dimensions, and 4 if heads are inside");
  *t = (Tensor){.data = given.data, .rank = given.rank, .count = given.count,
                .sizes = {1, 1, 1, 1}, .is_float = given.is_float};
  for (size_t i = 0; i < given.rank; i++) t->sizes[RANK - given.rank + i] = given.sizes[i];
  /* Of three dimensions the first is the batch. */
  if (t->rank == 3) t->sizes[BATCH] = given.sizes[0], t->sizes[HEAD] = 1;
  if (inner) t->sizes[HEAD] = given.sizes[ROW], t->sizes[ROW] = given.sizes[HEAD];
  set_steps(t, inner);
  return NULL;
}

/* Optional inputs may be beyond the last one, or there without a value. */
static OrtStatus *is_given(const OrtApi *api, const OrtKernelContext *context, size_t index,
                           int *given) {
  const OrtValue *value = NULL;
  size_t count = 0;
  TRY(api->kernel_context_get_input_count(context, &count));
  if (index < count) TRY(api->kernel_context_get_input(context, index, &value));
  *given = value != NULL;
  return NULL;
}

static OrtStatus *read_steps(const OrtApi *api, const OrtKernelContext *context, Sizes *sizes) {
  float *const scales[FACTORS] = {&sizes->query_scale, &sizes->key_scale, &sizes->value_scale};
  Given given;
  int has_zero = 0;
  for (size_t i = 0; i < FACTORS; i++) {
    TRY(given_input(api, context, QUERY_SCALE + i, &given));
    TRY(scale_of(api, &given, scales[i]));
  }
  sizes->score_scale = sizes->query_scale * sizes->key_scale;
  /* Sums have up to 31 bits, and scores have to be finite, or they would weigh nothing at all. */
  if (sizes->score_scale > FLT_MAX / 0x1p31f)
    return wrong(api, "QuantizedAttention: the scales of queries and keys are too large");
  TRY(is_given(api, context, VALUE_ZERO, &has_zero));
  if (!has_zero) return NULL;
  TRY(given_input(api, context, VALUE_ZERO, &given));
  return zero_of(api, &given, &sizes->value_zero);
}

static OrtStatus *check(const OrtApi *api, const Tensor *t, const Sizes *sizes) {
  const Tensor *q = &t[QUERY], *k = &t[KEY], *v = &t[VALUE];
  const int64_t value_most = 128 + (sizes->value_zero < 0 ? -sizes->value_zero : sizes->value_zero);
  if (q->rank != k->rank || k->rank != v->rank)
    return wrong(api, "QuantizedAttention: the ranks differ");
  for (int i = BATCH; i <= HEAD; i++)
    if (k->sizes[i] != v->sizes[i] || (q->sizes[i] != k->sizes[i] && q->sizes[i] != 1))
      return wrong(api, "QuantizedAttention: batches or heads do not fit");
  if (q->sizes[COLUMN] != k->sizes[COLUMN] || k->sizes[ROW] != v->sizes[ROW])
    return wrong(api, "QuantizedAttention: queries, keys and values do not fit");
  if (!sizes->depth || sizes->depth > DEPTH_MAX || sizes->width > DEPTH_MAX)
    return wrong(api, "QuantizedAttention: no columns, or more than 32768");
  if (!sizes->keys || (int64_t)sizes->keys * 255 * value_most > INT32_MAX)
    return wrong(api, "QuantizedAttention: no keys, or so many that their sums pass 32 bits");
  return NULL;
}

/* All that the threads share. */
typedef struct {
  const Kernel *kernel;
  Sizes sizes;
  Tensor tensors[FACTORS + 1];
  size_t heads, products, blocks, chunks; /* products: batches times heads; per product the rest */
  uint8_t *keys, *values;
  size_t keys_bytes, values_bytes;
  Queue queue;
} Work;

static Rows rows_of(const Work *work, int index, size_t product) {
  const Tensor *t = &work->tensors[index];
  const size_t batch = t->sizes[BATCH] == 1 ? 0 : product / work->heads;
  const size_t head = t->sizes[HEAD] == 1 ? 0 : product % work->heads;
  const size_t start = batch * t->steps[BATCH] + head * t->steps[HEAD];
  const size_t bytes = t->is_float ? sizeof(float) : 1;
  return (Rows){(const char *)t->data + start * bytes, t->steps[ROW], t->is_float};
}

static void pack(void *data, size_t index) {
  Work *work = data;
  (void)index;
  for (size_t i; (i = next_of(&work->queue)) < work->products * work->chunks;) {
    const size_t product = i / work->chunks, chunk = i % work->chunks;
    pack_keys(work->kernel->path, &work->sizes, rows_of(work, KEY, product), chunk,
              work->keys + product * work->keys_bytes);
    pack_values(work->kernel->path, &work->sizes, rows_of(work, VALUE, product), chunk,
                work->values + product * work->values_bytes);
  }
}

static void attend_block(const Work *work, size_t product, size_t block, const void *keys,
                         const void *values, void *scratch) {
  const Sizes *sizes = &work->sizes;
  const Rows out = rows_of(work, OUTPUT, product);
  const size_t first = block * ROWS_MAX, left = sizes->queries - first;
  const size_t rows = left < ROWS_MAX ? left : ROWS_MAX;
  attend(work->kernel->path, sizes, rows_of(work, QUERY, product),
         keys, values, first, rows, (float *)out.data + first * out.step, out.step, scratch);
}

/* Some queries of one product, whose keys and values are packed. */
static void attend_packed(const Work *work, size_t i, uint8_t *scratch) {
  const size_t product = i / work->blocks;
  attend_block(work, product, i % work->blocks, work->keys + product * work->keys_bytes,
               work->values + product * work->values_bytes, scratch);
}

/* One product with its own packing, which stays in this processor's cache. */
static void attend_whole(const Work *work, size_t product, uint8_t *scratch) {
  const Path *path = work->kernel->path;
  uint8_t *keys = scratch + padded(scratch_bytes(&work->sizes), 64);
  uint8_t *values = keys + work->keys_bytes;
  const Rows key_rows = rows_of(work, KEY, product), value_rows = rows_of(work, VALUE, product);
  for (size_t i = 0; i < work->chunks; i++) {
    pack_keys(path, &work->sizes, key_rows, i, keys);
    pack_values(path, &work->sizes, value_rows, i, values);
  }
  for (size_t i = 0; i < work->blocks; i++) attend_block(work, product, i, keys, values, scratch);
}

static void attend_some(void *data, size_t index) {
  Work *work = data;
  const size_t all = work->keys ? work->products * work->blocks : work->products;
  const size_t more = work->keys ? 0 : work->keys_bytes + work->values_bytes;
  uint8_t *scratch = NULL;
  (void)index;
  for (size_t i; (i = next_of(&work->queue)) < all;) {
    if (!scratch) scratch = aligned_alloc(64, padded(scratch_bytes(&work->sizes), 64) + more);
    if (!scratch) {
      out_of_memory(&work->queue);
      return;
    }
    if (work->keys)
      attend_packed(work, i, scratch);
    else
      attend_whole(work, i, scratch);
  }
  free(scratch);
}

static OrtStatus *run(const OrtApi *api, OrtKernelContext *context, Work *work) {
  OrtStatus *status = NULL;
  if (work->products >= PRODUCTS_APART) {
    status = share(api, context, work, &work->queue, work->products, attend_some);
  } else {
    work->keys = aligned_alloc(64, work->products * work->keys_bytes);
    work->values = aligned_alloc(64, work->products * work->values_bytes);
    if (work->keys && work->values) {
      status = share(api, context, work, &work->queue, work->products * work->chunks, pack);
      if (!status) status = share(api, context, work, &work->queue, work->products * work->blocks, attend_some);
    } else {
      out_of_memory(&work->queue);
    }
    free(work->keys);
    free(work->values);
  }
  if (!status) status = memory_status(api, &work->queue);
  return status;
}

static OrtStatus *make_result(const OrtApi *api, OrtKernelContext *context, Work *work) {
  Tensor *out = &work->tensors[OUTPUT];
  const Tensor *query = &work->tensors[QUERY], *key = &work->tensors[KEY];
  const Tensor *value = &work->tensors[VALUE];
  const int inner = (int)work->kernel->inner[OUTPUT];
  if (inner && query->rank != RANK)
    return wrong(api, "QuantizedAttention takes 2 to 4 dimensions, and 4 if heads are inside");
  *out = (Tensor){.rank = query->rank, .is_float = 1};
  for (int i = BATCH; i <= HEAD; i++) out->sizes[i] = key->sizes[i];
  out->sizes[ROW] = query->sizes[ROW];
  out->sizes[COLUMN] = value->sizes[COLUMN];
  set_steps(out, inner);
  size_t sizes[RANK];
  memcpy(sizes, out->sizes, sizeof sizes);
  if (inner) sizes[1] = out->sizes[ROW], sizes[2] = out->sizes[HEAD];
  if (out->rank == 3) sizes[1] = sizes[0];
  return make_output(api, context, sizes + (RANK - out->rank), out->rank,
                     query->count + key->count + value->count, (void **)&out->data);
}

static OrtStatus *compute(void *state, OrtKernelContext *context) {
  const Kernel *kernel = state;
  const OrtApi *api = kernel->api;
  Work work = {.kernel = kernel};
  Sizes *sizes = &work.sizes;
  for (size_t i = 0; i < FACTORS; i++) TRY(read_tensor(kernel, context, i, &work.tensors[i]));
  TRY(read_steps(api, context, sizes));
  sizes->queries = work.tensors[QUERY].sizes[ROW];
  sizes->depth = work.tensors[QUERY].sizes[COLUMN];
  sizes->keys = work.tensors[KEY].sizes[ROW];
  sizes->width = work.tensors[VALUE].sizes[COLUMN];
  TRY(check(api, work.tensors, sizes));
  TRY(make_result(api, context, &work));
  work.heads = work.tensors[KEY].sizes[HEAD];
  work.products = work.heads * work.tensors[KEY].sizes[BATCH];
  work.blocks = padded(sizes->queries, ROWS_MAX) / ROWS_MAX;
  work.chunks = chunks_of(sizes);
  work.keys_bytes = packed_keys_bytes(sizes);
  work.values_bytes = packed_values_bytes(sizes);
  return work.products && work.blocks && sizes->width ? run(api, context, &work) : NULL;
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                         void **state) {
  static const char *const names[] = {"inner_query", "inner_key", "inner_value", "inner_output"};
  (void)op;
  const Path *path = find_path(getenv("QSAM2_KERNEL_PATH"));
  if (!path) return wrong(api, "QSAM2_KERNEL_PATH names no path that this processor has");
  Kernel made = {.api = api, .path = path};
  for (int i = 0; i <= FACTORS; i++) {
    OrtStatus *missing = api->kernel_info_get_int64(info, names[i], &made.inner[i]);
    if (missing) api->release_status(missing);
    if (made.inner[i] < 0 || made.inner[i] > 1)
      return wrong(api, "QuantizedAttention: heads are inside, 1, or not, 0");
  }
  Kernel *kernel = malloc(sizeof *kernel);
  if (!kernel) return api->create_status(ORT_CODE_FAIL, "QuantizedAttention: not enough memory");
  *kernel = made;
  *state = kernel;
  return NULL;
}

static void destroy(void *state) { free(state); }

const Operator attention_op = OPERATOR("QuantizedAttention", "xxxfffC", ORT_TYPE_FLOAT);
