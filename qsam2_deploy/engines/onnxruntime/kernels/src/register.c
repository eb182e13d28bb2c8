/* The entry that ONNX Runtime calls when the library is registered with a session. */
#include "op.h"

#define DOMAIN "qsam2"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);

static const Operator *const ops[] = {&attention_op, &linear_op, &linear_codes_op, &rotary_op,
                                      &conv_op};

/* A status can only be made by a table of functions, and the first one is in all versions. */
static OrtStatus *refused(const OrtApiBase *base) {
  const OrtApi *oldest = base->get_api(1);
  const char *message =
      "the operators of qsam2 need version 18 of ONNX Runtime's C interface, which this release "
      "does not offer; install onnxruntime 1.20 or newer";
  return oldest ? oldest->create_status(ORT_CODE_FAIL, message) : NULL;
}

/* The domain belongs to the session, whose end nobody tells, so it is never given back. */
OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  const OrtApi *api = base->get_api(ORT_API_VERSION_WANTED);
  if (!api) return refused(base);
  OrtDomain *domain = NULL;
  OrtStatus *status = api->create_custom_op_domain(DOMAIN, &domain);
  for (size_t i = 0; !status && i < sizeof ops / sizeof *ops; i++)
    status = api->custom_op_domain_add(domain, &ops[i]->op);
  if (!status) status = api->add_custom_op_domain(options, domain);
  return status;
}
