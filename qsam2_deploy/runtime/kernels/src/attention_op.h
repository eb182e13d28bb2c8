#ifndef QSAM2_ATTENTION_OP_H
#define QSAM2_ATTENTION_OP_H

#include "ort_abi.h"

extern const OrtCustomOp attention_op;

#endif
