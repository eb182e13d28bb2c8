/* What one kind of processor has to bring: products of codes, and the floats around them.
 *
 * Integer sums are exact, and floats follow numbers.h, so all paths give the same to the bit.
 */
#ifndef QSAM2_PATH_H
#define QSAM2_PATH_H

#include <stddef.h>
#include <stdint.h>

enum {
  KEYS_IN_TILE = 32,    /* keys, or outputs of a layer, whose sums are made at a time */
  KEYS_IN_CHUNK = 256,  /* keys whose weights are made before their values are added */
  COLUMNS = 32,         /* columns of the values that are added at a time */
  ROWS_MAX = 64,        /* rows of a block */
  GROUP = 4,            /* codes that one multiply-add takes in */
  DEPTH_MAX = 32768     /* sums of so many products of codes fit in 32 bits, with the padding */
};

enum { NO_ACTIVATION, RELU, GELU };

/* What becomes of the sums of a layer: sum * factor + bias, activation, and perhaps codes. */
typedef struct {
  const float *factors, *bias; /* of all outputs, in whole tiles */
  int activation, to_codes;
  float scale;
  int zero, lowest, highest; /* of the codes, which are cut off at these */
} Finish;

/* Call `function` with the activation and the kind of result of `how` as constants, so that
 * compilers make one piece of code of each; the other arguments are those of Path.finish. */
#define FINISH_KNOWN(function)          \
  FINISH_IF(function, NO_ACTIVATION, 0) \
  FINISH_IF(function, NO_ACTIVATION, 1) \
  FINISH_IF(function, RELU, 0)          \
  FINISH_IF(function, RELU, 1)          \
  FINISH_IF(function, GELU, 0)          \
  FINISH_IF(function, GELU, 1)
#define FINISH_IF(function, kind, codes)                     \
  if (how->activation == (kind) && how->to_codes == (codes)) \
    function(sums, rows, columns, how, first, out, step, kind, codes);

typedef struct {
  const char *name;
  int (*available)(void);
  uint8_t query_flip;  /* 0x80 where the processor multiplies unsigned rows, else 0 */
  uint8_t weight_flip; /* 0x80 where it multiplies signed weights of values, else 0 */
  /* Signed codes as QuantizeLinear gives them: divide, round half to even, saturate. */
  void (*quantize)(const float *x, size_t length, float scale, int zero, int8_t *codes);
  /* sums[row][32] of rows of codes [rows][depth] and a tile [depth/4][32][4] of keys; `start` is
   * what each key's sum begins with; largest[row][32], unless NULL,
   * is updated in any of its lanes. */
  void (*scores)(const uint8_t *queries, size_t depth, const int8_t *tile, const int32_t *start,
                 size_t rows, int32_t *sums, int32_t *largest);
  /* weights[row][KEYS_IN_CHUNK] of `tiles` tiles of sums[tile][ROWS_MAX][32]: round(exp(s - max s)
   * / (1/255)) with s = sum * scale; totals[row][32] get their sums in any of the lanes. */
  void (*weights)(const int32_t *sums, size_t tiles, size_t rows, float scale, const float *largest,
                  uint8_t *weights, int32_t *totals);
  /* acc[row][width] += weights[row][KEYS_IN_CHUNK] times values [width/32][keys/4][32][4], with
   * `step` bytes from 32 columns to the next. */
  void (*context)(const uint8_t *weights, const int8_t *values, size_t step, size_t keys,
                  size_t rows, size_t width, int32_t *acc);
  /* What `how` says with sums[row][32] of the outputs from `first`, of which `columns` are there;
   * `out` is the first of them, in floats or codes. */
  void (*finish)(const int32_t *sums, size_t rows, size_t columns, const Finish *how, size_t first,
                 void *out, size_t step);
} Path;

extern const Path path_generic, path_avx2, path_avxvnni, path_avx512vnni, path_neon;

/* The path that `name` names, or the best that this processor has where it is empty or NULL; NULL
 * if there is none such here. */
const Path *find_path(const char *name);

#endif
