/* The operators of the domain qsam2, and what they share. */
#ifndef QSAM2_OP_H
#define QSAM2_OP_H

#include <stdatomic.h>

#include "ort_abi.h"

/* An operator with one output. A letter tells of each input: f float, c code, x either of them, and
 * C a code that may be left out. */
typedef struct {
  OrtCustomOp op;
  const char *name, *inputs;
  int output;
} Operator;

extern const Operator attention_op, linear_op, linear_codes_op, rotary_op, conv_op;

#define TRY(call)               \
  do {                          \
    OrtStatus *failed = (call); \
    if (failed) return failed;  \
  } while (0)

OrtStatus *wrong(const OrtApi *api, const char *message);

/* Parts of some work, which threads take one after another. */
typedef struct {
  atomic_size_t next;
  atomic_int out_of_memory;
} Queue;

size_t next_of(Queue *queue);
void out_of_memory(Queue *queue);
OrtStatus *memory_status(const OrtApi *api, const Queue *queue);
/* Let ONNX Runtime's threads call `body(data, ...)`, which takes parts until `count` are taken. */
OrtStatus *share(const OrtApi *api, OrtKernelContext *context, void *data, Queue *queue,
                 size_t count, void (*body)(void *, size_t));

/* What ONNX Runtime asks of any of them. */
const char *name_of(const OrtCustomOp *op);
const char *cpu_provider(const OrtCustomOp *op);
size_t input_count(const OrtCustomOp *op);
int input_type(const OrtCustomOp *op, size_t index);
int input_characteristic(const OrtCustomOp *op, size_t index);
size_t one_output(const OrtCustomOp *op);
int output_type(const OrtCustomOp *op, size_t index);
int always_zero(const OrtCustomOp *op, size_t index);

/* An operator by the functions of its file: create, compute and destroy. */
#define OPERATOR(name, inputs, output)                                                         \
  {                                                                                            \
    {.version = ORT_API_VERSION_WANTED,                                                        \
     .get_name = name_of,                                                                      \
     .get_execution_provider_type = cpu_provider,                                              \
     .get_input_type = input_type,                                                             \
     .get_input_type_count = input_count,                                                      \
     .get_output_type = output_type,                                                           \
     .get_output_type_count = one_output,                                                      \
     .kernel_destroy = destroy,                                                                \
     .get_input_characteristic = input_characteristic,                                         \
     .get_output_characteristic = always_zero,                                                 \
     .get_input_memory_type = always_zero,                                                     \
     .create_kernel_v2 = create,                                                               \
     .kernel_compute_v2 = compute},                                                            \
        name, inputs, output                                                                   \
  }

#endif
