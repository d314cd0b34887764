#include "backend/cuda/device/status.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sluice::cuda {

absl::Status DeviceHealth::Note(cudaError_t error, std::string_view what) {
  absl::Status status = CudaStatus(error, what);
  if (IsSticky(error)) MarkLost(status);
  return status;
}

void DeviceHealth::MarkLost(const absl::Status& why) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (lost()) return;
  const bool says_how = absl::StrContains(why.message(), "restart the process");
  status_ = absl::UnavailableError(
      absl::StrCat("device lost: ", why.message(), says_how ? "" : "; restart the process"));
  lost_.store(true, std::memory_order_release);
}

absl::Status DeviceHealth::status() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return status_;
}

}  // namespace sluice::cuda
