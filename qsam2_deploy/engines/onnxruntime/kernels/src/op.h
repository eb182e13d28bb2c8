/* The operators of the domain qsam2, and what they share. */
#ifndef QSAM2_OP_H
#define QSAM2_OP_H

#include <stdatomic.h>

#include "ort_abi.h"

extern const OrtCustomOp attention_op, linear_op, linear_codes_op, rotary_op, conv_op;

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

/* Parts of the descriptions. */
const char *cpu_provider(const OrtCustomOp *op);
size_t one_output(const OrtCustomOp *op);
int always_zero(const OrtCustomOp *op, size_t index);

/* The description of an operator by the functions of its file: get_name, get_input_type,
 * get_input_count, get_output_type, create, compute and destroy. */
#define DESCRIPTION(input_characteristic)                                                      \
  {                                                                                            \
    .version = ORT_API_VERSION_WANTED, .get_name = get_name,                                   \
    .get_execution_provider_type = cpu_provider, .get_input_type = get_input_type,             \
    .get_input_type_count = get_input_count, .get_output_type = get_output_type,               \
    .get_output_type_count = one_output, .kernel_destroy = destroy,                            \
    .get_input_characteristic = input_characteristic,                                          \
    .get_output_characteristic = always_zero, .get_input_memory_type = always_zero,            \
    .create_kernel_v2 = create, .kernel_compute_v2 = compute,                                  \
  }

#endif
