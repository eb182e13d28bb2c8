#include <string.h>

#include "path.h"

static const Path *const paths[] = {&path_avx512vnni, &path_avxvnni, &path_avx2, &path_neon,
                                    &path_generic};

const Path *find_path(const char *name) {
  const int any = name == NULL || *name == '\0';
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
    if ((any || strcmp(name, paths[i]->name) == 0) && paths[i]->available()) return paths[i];
  return NULL;
}

/* For callers without an engine: the name of the path, or NULL. */
__attribute__((visibility("default"))) const char *qsam2_path_name(const char *name);
const char *qsam2_path_name(const char *name) {
  const Path *path = find_path(name);
  return path ? path->name : NULL;
}
