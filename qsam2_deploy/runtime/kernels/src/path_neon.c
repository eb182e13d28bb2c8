#include "path.h"
static int available(void) { return 0; }
const Path path_neon = {"neon", available, 0, 0, 0, 0, 0, 0, 0};
const Path path_avxvnni = {"avxvnni", available, 0, 0, 0, 0, 0, 0, 0};
