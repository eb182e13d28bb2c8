/* AVX2, with and without VNNI in 256 bits; the kernels are the same but for one multiply-add. */
#include "path.h"
static int none(void){return 0;}
const Path path_avx2 = {"avx2", none,0,0,0,0,0,0,0};
