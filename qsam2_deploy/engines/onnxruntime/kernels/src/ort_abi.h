/* The part of ONNX Runtime's C interface that a library of custom operators needs.
 *
 * The interface is a table of functions that only ever grows at its end, so a function keeps its
 * place for good (onnxruntime.ai/docs, "Custom operators" and "C API"). Only the functions that are
 * called have names here; the gaps between them are counted, and the counts are checked below.
 * RegisterCustomOps asks for version ORT_API_VERSION_WANTED, which every later release serves.
 */
#ifndef QSAM2_ORT_ABI_H
#define QSAM2_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION_WANTED 18u

enum { ORT_CODE_FAIL = 1, ORT_CODE_INVALID_ARGUMENT = 2 };
enum {
  ORT_TYPE_ANY = 0,
  ORT_TYPE_FLOAT = 1,
  ORT_TYPE_UINT8 = 2,
  ORT_TYPE_INT8 = 3,
};
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtShape OrtShape;
typedef struct OrtDomain OrtDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOp OrtCustomOp;
typedef void (*OrtUnused)(void);

typedef struct OrtApi {
  OrtStatus *(*create_status)(int code, const char *message);
  OrtUnused from_1[25];
  OrtStatus *(*create_custom_op_domain)(const char *name, OrtDomain **domain);
  OrtStatus *(*custom_op_domain_add)(OrtDomain *domain, const OrtCustomOp *op);
  OrtStatus *(*add_custom_op_domain)(OrtSessionOptions *options, OrtDomain *domain);
  OrtUnused from_29[22];
  OrtStatus *(*get_tensor_mutable_data)(OrtValue *value, void **data);
  OrtUnused from_52[8];
  OrtStatus *(*get_tensor_element_type)(const OrtShape *shape, int *type);
  OrtStatus *(*get_dimensions_count)(const OrtShape *shape, size_t *count);
  OrtStatus *(*get_dimensions)(const OrtShape *shape, int64_t *sizes, size_t count);
  OrtUnused from_63[2];
  OrtStatus *(*get_tensor_type_and_shape)(const OrtValue *value, OrtShape **shape);
  OrtUnused from_66[20];
  OrtStatus *(*kernel_info_get_int64)(const OrtKernelInfo *info, const char *name, int64_t *value);
  OrtUnused from_87[1];
  OrtStatus *(*kernel_context_get_input_count)(const OrtKernelContext *context, size_t *count);
  OrtUnused from_89[1];
  OrtStatus *(*kernel_context_get_input)(const OrtKernelContext *context, size_t index,
                                         const OrtValue **value);
  OrtStatus *(*kernel_context_get_output)(OrtKernelContext *context, size_t index,
                                          const int64_t *sizes, size_t count, OrtValue **value);
  OrtUnused from_92[1];
  void (*release_status)(OrtStatus *status);
  OrtUnused from_94[5];
  void (*release_shape)(OrtShape *shape);
  OrtUnused from_100[149];
  OrtStatus *(*kernel_info_get_constant_input)(const OrtKernelInfo *info, size_t index,
                                               int *is_constant, const OrtValue **value);
  OrtUnused from_250[24];
  OrtStatus *(*kernel_context_parallel_for)(const OrtKernelContext *context,
                                            void (*body)(void *data, size_t index), size_t total,
                                            size_t batches, void *data);
} OrtApi;

#define QSAM2_PLACE(member, place) \
  _Static_assert(offsetof(OrtApi, member) == (place) * sizeof(void *), #member)
QSAM2_PLACE(create_custom_op_domain, 26);
QSAM2_PLACE(get_tensor_mutable_data, 51);
QSAM2_PLACE(get_tensor_element_type, 60);
QSAM2_PLACE(get_tensor_type_and_shape, 65);
QSAM2_PLACE(kernel_info_get_int64, 86);
QSAM2_PLACE(kernel_context_get_input_count, 88);
QSAM2_PLACE(kernel_context_get_output, 91);
QSAM2_PLACE(release_status, 93);
QSAM2_PLACE(release_shape, 99);
QSAM2_PLACE(kernel_info_get_constant_input, 249);
QSAM2_PLACE(kernel_context_parallel_for, 274);

typedef struct OrtApiBase {
  const OrtApi *(*get_api)(uint32_t version);
  const char *(*get_version_string)(void);
} OrtApiBase;

/* What describes an operator. `version` says how much of the table there is. */
struct OrtCustomOp {
  uint32_t version;
  void *(*create_kernel)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info);
  const char *(*get_name)(const OrtCustomOp *op);
  const char *(*get_execution_provider_type)(const OrtCustomOp *op);
  int (*get_input_type)(const OrtCustomOp *op, size_t index);
  size_t (*get_input_type_count)(const OrtCustomOp *op);
  int (*get_output_type)(const OrtCustomOp *op, size_t index);
  size_t (*get_output_type_count)(const OrtCustomOp *op);
  void (*kernel_compute)(void *kernel, OrtKernelContext *context);
  void (*kernel_destroy)(void *kernel);
  int (*get_input_characteristic)(const OrtCustomOp *op, size_t index);
  int (*get_output_characteristic)(const OrtCustomOp *op, size_t index);
  int (*get_input_memory_type)(const OrtCustomOp *op, size_t index);
  int (*get_variadic_input_min_arity)(const OrtCustomOp *op);
  int (*get_variadic_input_homogeneity)(const OrtCustomOp *op);
  int (*get_variadic_output_min_arity)(const OrtCustomOp *op);
  int (*get_variadic_output_homogeneity)(const OrtCustomOp *op);
  OrtStatus *(*create_kernel_v2)(const OrtCustomOp *op, const OrtApi *api,
                                 const OrtKernelInfo *info, void **kernel);
  OrtStatus *(*kernel_compute_v2)(void *kernel, OrtKernelContext *context);
  OrtStatus *(*infer_output_shape)(const OrtCustomOp *op, void *context);
  int (*get_start_version)(const OrtCustomOp *op);
  int (*get_end_version)(const OrtCustomOp *op);
  size_t (*get_may_inplace)(int **inputs, int **outputs);
  void (*release_may_inplace)(int *inputs, int *outputs);
  size_t (*get_alias_map)(int **inputs, int **outputs);
  void (*release_alias_map)(int *inputs, int *outputs);
};

#endif
