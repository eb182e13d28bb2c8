#include "op.h"

#include <string.h>

OrtStatus *wrong(const OrtApi *api, const char *message) {
  return api->create_status(ORT_CODE_INVALID_ARGUMENT, message);
}

size_t next_of(Queue *queue) { return atomic_fetch_add(&queue->next, 1); }

void out_of_memory(Queue *queue) { atomic_store(&queue->out_of_memory, 1); }

OrtStatus *memory_status(const OrtApi *api, const Queue *queue) {
  if (!atomic_load(&queue->out_of_memory)) return NULL;
  return api->create_status(ORT_CODE_FAIL, "an operator of qsam2 has not enough memory");
}

OrtStatus *share(const OrtApi *api, OrtKernelContext *context, void *data, Queue *queue,
                 size_t count, void (*body)(void *, size_t)) {
  /* How many threads there are is not known; calls that find nothing left cost little. */
  const size_t calls = count < 64 ? count : 64;
  atomic_store(&queue->next, 0);
  return api->kernel_context_parallel_for(context, body, calls, 0, data);
}

/* The description comes first in an operator, so that the one's address is the other's. */
static char input_of(const OrtCustomOp *op, size_t index) {
  return ((const Operator *)op)->inputs[index];
}

const char *name_of(const OrtCustomOp *op) { return ((const Operator *)op)->name; }

size_t input_count(const OrtCustomOp *op) { return strlen(((const Operator *)op)->inputs); }

int input_type(const OrtCustomOp *op, size_t index) {
  const char input = input_of(op, index);
  if (input == 'x') return ORT_TYPE_ANY;
  return input == 'f' ? ORT_TYPE_FLOAT : ORT_TYPE_INT8;
}

int input_characteristic(const OrtCustomOp *op, size_t index) {
  return input_of(op, index) == 'C' ? ORT_OPTIONAL : ORT_REQUIRED;
}

int output_type(const OrtCustomOp *op, size_t index) {
  (void)index;
  return ((const Operator *)op)->output;
}

const char *cpu_provider(const OrtCustomOp *op) {
  (void)op;
  return "CPUExecutionProvider";
}

size_t one_output(const OrtCustomOp *op) {
  (void)op;
  return 1;
}

int always_zero(const OrtCustomOp *op, size_t index) {
  (void)op;
  (void)index;
  return 0;
}
