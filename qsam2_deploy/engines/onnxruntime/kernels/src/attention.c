#include "attention.h"

#include <string.h>

size_t padded(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

static size_t depth_of(const Sizes *sizes) { return padded(sizes->depth, GROUP); }
static size_t width_of(const Sizes *sizes) { return padded(sizes->width, COLUMNS); }

size_t chunks_of(const Sizes *sizes) { return padded(sizes->keys, KEYS_IN_CHUNK) / KEYS_IN_CHUNK; }

/* Keys that a chunk has room for. */
static size_t room_of(const Sizes *sizes) {
  return chunks_of(sizes) > 1 ? KEYS_IN_CHUNK : padded(sizes->keys, KEYS_IN_TILE);
}

static size_t room_of_all(const Sizes *sizes) { return chunks_of(sizes) * room_of(sizes); }

static void codes_of_row(const Path *path, Rows rows, size_t row, size_t length, float scale,
                         int zero, int8_t *codes) {
  if (rows.is_float)
    path->quantize((const float *)rows.data + row * rows.step, length, scale, zero, codes);
  else
    memcpy(codes, (const int8_t *)rows.data + row * rows.step, length);
}

/* Packed keys: tiles [depth/4][32][4], then the starts of the sums, one for each key. */
static int32_t *starts_of(const Sizes *sizes, void *packed) {
  return (int32_t *)(void *)((int8_t *)packed + room_of_all(sizes) * depth_of(sizes));
}

size_t packed_keys_bytes(const Sizes *sizes) {
  return padded(room_of_all(sizes) * (depth_of(sizes) + sizeof(int32_t)), 64);
}

void pack_keys(const Path *path, const Sizes *sizes, Rows keys, size_t chunk, void *packed) {
  const size_t depth = depth_of(sizes), first = chunk * KEYS_IN_CHUNK;
  const int zero = path->query_flip;
  int32_t *starts = starts_of(sizes, packed);
  int8_t row[DEPTH_MAX];
  memset(row + sizes->depth, 0, depth - sizes->depth);
  for (size_t n = first; n < first + room_of(sizes); n++) {
    int8_t *tile = (int8_t *)packed + n / KEYS_IN_TILE * KEYS_IN_TILE * depth;
    int32_t *groups = (int32_t *)(void *)tile + n % KEYS_IN_TILE;
    const int there = n < sizes->keys;
    int32_t sum = 0;
    if (there)
      codes_of_row(path, keys, n, sizes->depth, sizes->key_scale, 0, row);
    else
      memset(row, 0, depth);
    for (size_t d = 0; d < depth; d++) sum += row[d];
    for (size_t g = 0; g < depth / GROUP; g++) memcpy(groups + g * KEYS_IN_TILE, row + g * GROUP, GROUP);
    starts[n] = there ? -zero * sum : NO_KEY;
  }
}

/* Packed values: chunks [width/32][room/4][32][4], then for each chunk the sums of its columns. */
static int32_t *column_sums_of(const Sizes *sizes, void *packed) {
  return (int32_t *)(void *)((int8_t *)packed + room_of_all(sizes) * width_of(sizes));
}

size_t packed_values_bytes(const Sizes *sizes) {
  return padded(width_of(sizes) * (room_of_all(sizes) + chunks_of(sizes) * sizeof(int32_t)), 64);
}

/* Four rows become columns of four. */
static void interleave(int8_t rows[GROUP][DEPTH_MAX], size_t start, int8_t *out) {
  const int8_t *a = rows[0] + start, *b = rows[1] + start, *c = rows[2] + start, *d = rows[3] + start;
  for (size_t i = 0; i < COLUMNS; i++) {
    out[i * GROUP] = a[i];
    out[i * GROUP + 1] = b[i];
    out[i * GROUP + 2] = c[i];
    out[i * GROUP + 3] = d[i];
  }
}

void pack_values(const Path *path, const Sizes *sizes, Rows values, size_t chunk, void *packed) {
  const size_t width = width_of(sizes), first = chunk * KEYS_IN_CHUNK, room = room_of(sizes);
  int32_t *sums = column_sums_of(sizes, packed) + chunk * width;
  int8_t *out = (int8_t *)packed + first * width;
  int8_t rows[GROUP][DEPTH_MAX];
  for (int i = 0; i < GROUP; i++) memset(rows[i] + sizes->width, 0, width - sizes->width);
  memset(sums, 0, width * sizeof *sums);
  for (size_t n = 0; n < room; n += GROUP) {
    for (size_t i = 0; i < GROUP; i++) {
      if (first + n + i < sizes->keys)
        codes_of_row(path, values, first + n + i, sizes->width, sizes->value_scale,
                     sizes->value_zero, rows[i]);
      else
        memset(rows[i], 0, width);
    }
    for (size_t c = 0; c < width; c += COLUMNS) interleave(rows, c, out + c * room + n * COLUMNS);
    if (path->weight_flip)
      for (size_t c = 0; c < width; c++) sums[c] += rows[0][c] + rows[1][c] + rows[2][c] + rows[3][c];
  }
}

/* What one thread needs besides. */
typedef struct {
  uint8_t *queries;  /* [ROWS_MAX][depth] */
  int32_t *sums;     /* [tiles][ROWS_MAX][32] */
  uint8_t *weights;  /* [ROWS_MAX][KEYS_IN_CHUNK] */
  int32_t *acc;      /* [ROWS_MAX][width] */
  int32_t *lanes;    /* [ROWS_MAX][32]: largest sums, later the sums of the weights */
} Scratch;

static size_t divide(const Sizes *sizes, Scratch *s, uint8_t *start) {
  const size_t lengths[] = {
      ROWS_MAX * depth_of(sizes),
      room_of_all(sizes) * ROWS_MAX * sizeof(int32_t),
      ROWS_MAX * KEYS_IN_CHUNK,
      ROWS_MAX * width_of(sizes) * sizeof(int32_t),
      ROWS_MAX * KEYS_IN_TILE * sizeof(int32_t),
  };
  size_t places[6] = {0};
  for (int i = 0; i < 5; i++) places[i + 1] = places[i] + padded(lengths[i], 64);
  if (s) {
    s->queries = start + places[0];
    s->sums = (int32_t *)(void *)(start + places[1]);
    s->weights = start + places[2];
    s->acc = (int32_t *)(void *)(start + places[3]);
    s->lanes = (int32_t *)(void *)(start + places[4]);
  }
  return places[5];
}

size_t scratch_bytes(const Sizes *sizes) { return divide(sizes, NULL, NULL); }

static void quantize_queries(const Path *path, const Sizes *sizes, Rows queries, size_t first,
                             size_t rows, uint8_t *out) {
  const size_t depth = depth_of(sizes);
  for (size_t r = 0; r < rows; r++, out += depth) {
    codes_of_row(path, queries, first + r, sizes->depth, sizes->query_scale, 0, (int8_t *)out);
    memset(out + sizes->depth, 0, depth - sizes->depth);
    for (size_t d = 0; d < depth; d++) out[d] ^= path->query_flip;
  }
}

static void score_all(const Path *path, const Sizes *sizes, const void *keys, size_t rows,
                      const Scratch *s) {
  const size_t depth = depth_of(sizes);
  const int32_t *starts = starts_of(sizes, (void *)keys);
  for (size_t i = 0; i < rows * KEYS_IN_TILE; i++) s->lanes[i] = INT32_MIN;
  for (size_t n = 0; n < sizes->keys; n += KEYS_IN_TILE)
    path->scores(s->queries, depth, (const int8_t *)keys + n * depth, starts + n, rows,
                 s->sums + n * ROWS_MAX, s->lanes);
}

static void largest_scores(const Sizes *sizes, size_t rows, const int32_t *lanes, float *largest) {
  for (size_t r = 0; r < rows; r++) {
    int32_t most = INT32_MIN;
    for (size_t j = 0; j < KEYS_IN_TILE; j++) {
      const int32_t sum = lanes[r * KEYS_IN_TILE + j];
      most = sum > most ? sum : most;
    }
    largest[r] = (float)most * sizes->score_scale;
  }
}

static void weigh_values(const Path *path, const Sizes *sizes, const void *values, size_t rows,
                         const float *largest, const Scratch *s) {
  const size_t width = width_of(sizes);
  memset(s->acc, 0, rows * width * sizeof *s->acc);
  memset(s->lanes, 0, rows * KEYS_IN_TILE * sizeof *s->lanes);
  for (size_t n = 0; n < sizes->keys; n += KEYS_IN_CHUNK) {
    const size_t left = padded(sizes->keys - n, KEYS_IN_TILE);
    const size_t keys = left < KEYS_IN_CHUNK ? left : KEYS_IN_CHUNK;
    path->weights(s->sums + n * ROWS_MAX, keys / KEYS_IN_TILE, rows, sizes->score_scale, largest,
                  s->weights, s->lanes);
    path->context(s->weights, (const int8_t *)values + n * width, room_of(sizes) * COLUMNS, keys,
                  rows, width, s->acc);
  }
}

/* Divide as the graph does: sum / total, then times the step; each is rounded to a float. */
static void normalise(const Path *path, const Sizes *sizes, const void *values, size_t rows,
                      const Scratch *s, float *out, size_t out_step) {
  const size_t width = width_of(sizes);
  const int32_t *sums = column_sums_of(sizes, (void *)values);
  for (size_t r = 0; r < rows; r++, out += out_step) {
    int32_t total = 0;
    for (size_t j = 0; j < KEYS_IN_TILE; j++) total += s->lanes[r * KEYS_IN_TILE + j];
    for (size_t c = 0; c < sizes->width; c++) {
      int32_t sum = s->acc[r * width + c] - sizes->value_zero * total;
      if (path->weight_flip)
        for (size_t i = 0; i < chunks_of(sizes); i++) sum += path->weight_flip * sums[i * width + c];
      out[c] = (float)sum / (float)total * sizes->value_scale;
    }
  }
}

void attend(const Path *path, const Sizes *sizes, Rows queries, const void *keys,
            const void *values, size_t first, size_t rows, float *out, size_t out_step,
            void *scratch) {
  Scratch s;
  float largest[ROWS_MAX];
  divide(sizes, &s, scratch);
  quantize_queries(path, sizes, queries, first, rows, s.queries);
  score_all(path, sizes, keys, rows, &s);
  largest_scores(sizes, rows, s.lanes, largest);
  weigh_values(path, sizes, values, rows, largest, &s);
  normalise(path, sizes, values, rows, &s, out, out_step);
}
