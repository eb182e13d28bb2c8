/* Quantized attention of one head, and what one kind of processor has to bring for it.
 *
 * Integer sums are exact. A weight is round(exp(s - max s) / (1/255)), with s = sum * scale rounded
 * to a float as ONNX Runtime does; exp2 is a polynomial whose relative error is below 2e-7, and all
 * paths evaluate it by the same operations, so that they agree to the bit.
 */
#ifndef QSAM2_ATTENTION_H
#define QSAM2_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

enum {
  KEYS_IN_TILE = 32,    /* keys whose scores are summed at a time */
  KEYS_IN_CHUNK = 256,  /* keys whose weights are made before their values are added */
  COLUMNS = 32,         /* columns of the values that are added at a time */
  ROWS_MAX = 64,        /* queries of a block */
  GROUP = 4,            /* codes that one multiply-add takes in */
  DEPTH_MAX = 32768,    /* sums of so many products of codes fit in 32 bits, with the padding */
  KEYS_MAX = 65536
};

/* Start of the sums of keys that are not there: far below all sums, and their weights are 0. */
#define NO_KEY (-(1 << 30))

typedef struct {
  const char *name;
  int (*available)(void);
  uint8_t query_flip;  /* 0x80 where the processor multiplies unsigned queries, else 0 */
  uint8_t weight_flip; /* 0x80 where it multiplies signed weights, else 0 */
  /* Signed codes as QuantizeLinear gives them: divide, round half to even, saturate. */
  void (*quantize)(const float *x, size_t length, float scale, int zero, int8_t *codes);
  /* sums[row][32] of rows of codes [rows][depth] and a tile [depth/4][32][4] of keys; `start` is
   * what each key's sum begins with; largest[row][32] is updated in any of its lanes. */
  void (*scores)(const uint8_t *queries, size_t depth, const int8_t *tile, const int32_t *start,
                 size_t rows, int32_t *sums, int32_t *largest);
  /* weights[row][KEYS_IN_CHUNK] of `tiles` tiles of sums[tile][ROWS_MAX][32]; totals[row][32] get
   * their sums in any of the lanes. */
  void (*weights)(const int32_t *sums, size_t tiles, size_t rows, float scale, const float *largest,
                  uint8_t *weights, int32_t *totals);
  /* acc[row][width] += weights[row][KEYS_IN_CHUNK] times values [width/32][keys/4][32][4], with
   * `step` bytes from 32 columns to the next. */
  void (*context)(const uint8_t *weights, const int8_t *values, size_t step, size_t keys,
                  size_t rows, size_t width, int32_t *acc);
} Path;

/* The same in plain C. */
void quantize_generic(const float *x, size_t length, float scale, int zero, int8_t *codes);

extern const Path path_generic, path_avx2, path_avxvnni, path_avx512vnni, path_neon;

/* The path that `name` names, or the best that this processor has where it is empty or NULL; NULL
 * if there is none such here. */
const Path *find_path(const char *name);

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
