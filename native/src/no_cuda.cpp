/* The CUDA backend of a build without CUDA: it has no device, and every call fails with the reason. */
#include "abi.h"
#include "cuda_backend.h"

namespace teamtr {
namespace cuda {

static int32_t none() {
  return fail(TEAMTR_DEVICE, "this build has no CUDA kernels; those of the classifier linux-x86_64-gpu have (./mvnw makes them where nvcc is)");
}

int32_t count() {
  none();
  return 0;
}
int32_t describe(int32_t, char*) { return none(); }
int32_t check_address(int32_t, teamtr_address) { return none(); }
int32_t synchronize(const Device&) { return none(); }
int32_t log_probs(const Device&, const Matrix&, Ids, Temperature, float*, float*, float*) { return none(); }
int32_t log_probs_backward(const Device&, const Matrix&, Ids, int64_t, int64_t, Temperature, const float*, const float*,
                           const float*, const float*, const float*, const Matrix&) { return none(); }
int32_t log_probs_parts(const Device&, const Matrix&, Ids, int64_t, int64_t, Temperature, float*) { return none(); }
int32_t log_probs_merge(const Device&, const float*, int64_t, int64_t, Ids, Temperature, float*, float*, float*) { return none(); }
int32_t kl(const Device&, const Matrix&, const Matrix&, Ids, Temperature, const KlResults&) { return none(); }
int32_t kl_backward(const Device&, const Matrix&, const Matrix&, Ids, Temperature, const KlSaved&, const float*, bool,
                    const Matrix&) { return none(); }
int32_t sampled_kl(const Device&, int32_t, const float*, const float*, int64_t, Ids, int64_t, float*, float*) { return none(); }
int32_t surrogate(const Device&, const Surrogate&) { return none(); }
int32_t group_advantages(const Device&, const float*, int64_t, int64_t, double, double, bool, float*, float*) { return none(); }
int32_t policy_loss_forward(const Device&, const PolicyLoss&) { return none(); }
int32_t policy_loss_backward(const Device&, const PolicyLoss&) { return none(); }
int32_t sample(const Device&, const Sample&) { return none(); }
int32_t rms_norm(const Device&, int32_t, const void*, int64_t, int64_t, int64_t, const void*, double, void*, int64_t) { return none(); }
int32_t swiglu(const Device&, int32_t, const void*, int64_t, int64_t, int64_t, void*, int64_t) { return none(); }
int32_t attend(const Device&, int32_t, const Attend&) { return none(); }

}  // namespace cuda
}  // namespace teamtr
