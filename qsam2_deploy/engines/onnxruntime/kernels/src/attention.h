/* Quantized attention of one head: packing keys and values, and attending with some queries. */
#ifndef QSAM2_ATTENTION_H
#define QSAM2_ATTENTION_H

#include "path.h"

/* Start of the sums of keys that are not there: far below all sums, and their weights are 0. */
#define NO_KEY (-(1 << 30))

/* Sizes of one product, and its steps. */
typedef struct {
  size_t queries, keys, depth, width; /* depth and width are those of the tensors */
  float score_scale;                  /* step of the queries times that of the keys */
  float query_scale, key_scale, value_scale;
  int value_zero;
} Sizes;

/* Rows of one head in a tensor: `step` elements from one to the next, floats or signed codes. */
typedef struct {
  const void *data;
  size_t step;
  int is_float;
} Rows;

size_t padded(size_t value, size_t multiple);

/* Bytes of the packed keys and their starts, and of the packed values and their sums. */
size_t packed_keys_bytes(const Sizes *sizes);
size_t packed_values_bytes(const Sizes *sizes);
/* Keys are packed in so many chunks of KEYS_IN_CHUNK, of which the only one may be smaller. */
size_t chunks_of(const Sizes *sizes);
/* Pack a chunk of KEYS_IN_CHUNK keys, and of values. */
void pack_keys(const Path *path, const Sizes *sizes, Rows keys, size_t chunk, void *packed);
void pack_values(const Path *path, const Sizes *sizes, Rows values, size_t chunk, void *packed);

/* Scratch of one thread that attends, and attending with rows [first, first + rows). */
size_t scratch_bytes(const Sizes *sizes);
void attend(const Path *path, const Sizes *sizes, Rows queries, const void *keys,
            const void *values, size_t first, size_t rows, float *out, size_t out_step,
            void *scratch);

#endif
