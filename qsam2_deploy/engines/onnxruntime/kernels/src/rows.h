/* Scores and contexts, some rows at a time, for a path that defines, before including this file:
 *
 *   VECTOR, LARGER(a, b)           sums in a vector, and the larger ones of two
 *   VECTORS, AT_A_TIME, INLINE     vectors of a tile, rows at a time, how functions are inlined
 *   load(from, sums), store(to, sums), products(codes, step, tile, groups, rows, sums)
 */
INLINE void scores_of(const uint8_t *queries, size_t depth, const int8_t *tile,
                      const int32_t *start, const int rows, int32_t *sums, int32_t *largest) {
  VECTOR s[AT_A_TIME][VECTORS], most[VECTORS];
  for (int i = 0; i < rows; i++) load(start, s[i]);
  products(queries, depth, tile, depth / GROUP, rows, s);
  for (int i = 0; i < rows; i++) {
    store(sums + i * KEYS_IN_TILE, s[i]);
    if (!largest) continue;
    load(largest + i * KEYS_IN_TILE, most);
    for (int v = 0; v < VECTORS; v++) most[v] = LARGER(most[v], s[i][v]);
    store(largest + i * KEYS_IN_TILE, most);
  }
}

static void scores(const uint8_t *queries, size_t depth, const int8_t *tile, const int32_t *start,
                   size_t rows, int32_t *sums, int32_t *largest) {
  size_t r = 0;
#define PART(n)                                                                      \
  for (; r + (n) <= rows; r += (n))                                                  \
  scores_of(queries + r * depth, depth, tile, start, n, sums + r * KEYS_IN_TILE,     \
            largest ? largest + r * KEYS_IN_TILE : NULL)
  PART(AT_A_TIME);
  PART(1);
#undef PART
}

INLINE void context_of(const uint8_t *weights, const int8_t *values, size_t groups, const int rows,
                       size_t width, int32_t *acc) {
  VECTOR s[AT_A_TIME][VECTORS];
  for (int i = 0; i < rows; i++) load(acc + (size_t)i * width, s[i]);
  products(weights, KEYS_IN_CHUNK, values, groups, rows, s);
  for (int i = 0; i < rows; i++) store(acc + (size_t)i * width, s[i]);
}

static void context(const uint8_t *weights, const int8_t *values, size_t step, size_t keys,
                    size_t rows, size_t width, int32_t *acc) {
  for (size_t c = 0; c < width; c += COLUMNS, values += step) {
    size_t r = 0;
#define PART(n)                                                                            \
  for (; r + (n) <= rows; r += (n))                                                        \
  context_of(weights + r * KEYS_IN_CHUNK, values, keys / GROUP, n, width, acc + r * width + c)
    PART(AT_A_TIME);
    PART(1);
#undef PART
  }
}
