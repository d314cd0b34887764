#include "backend/cuda/forward/workspace.h"

#include <algorithm>

#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr char kWhat[] = "activations (see --max-num-batched-tokens)";
constexpr int64_t kHalf = 2;
constexpr int64_t kFloat = 4;

}  // namespace

absl::StatusOr<Workspace> Workspace::Allocate(const ModelConfig& config, int64_t rows,
                                              int64_t logit_rows, int64_t partial_rows,
                                              MemoryAccount& account) {
  Workspace w;
  w.account_ = &account;
  w.q_dim_ = config.q_dim();
  w.heads_ = config.heads;
  const int64_t hidden = config.hidden;
  const int64_t qkv = config.q_dim() + 2 * int64_t{config.kv_dim()};
  const struct {
    DeviceBuffer* buffer;
    int64_t bytes;
  } wanted[] = {
      {&w.residual_, rows * hidden * kFloat},
      {&w.normed_, rows * hidden * kHalf},
      {&w.qkv_, rows * qkv * kHalf},
      {&w.queries_, rows * w.q_dim_ * kHalf},
      {&w.attended_, rows * w.q_dim_ * kHalf},
      {&w.delta_, rows * hidden * kHalf},
      {&w.gate_up_, rows * 2 * config.intermediate * kHalf},
      {&w.activated_, rows * config.intermediate * kHalf},
      {&w.logits_, logit_rows * config.vocab * kFloat},
  };
  for (const auto& [buffer, bytes] : wanted) {
    SLUICE_ASSIGN_OR_RETURN(*buffer, DeviceBuffer::Allocate(Bytes(bytes), kWhat, account));
  }
  SLUICE_RETURN_IF_ERROR(w.ReservePartials(partial_rows));
  return w;
}

absl::Status Workspace::ReservePartials(int64_t rows) {
  if (rows <= partial_rows_) return absl::OkStatus();
  const int64_t capacity = std::max(rows, partial_rows_ + partial_rows_ / 2);
  partial_rows_ = 0;
  partial_ = DeviceBuffer();  // before the new one is asked for: there may not be room for both
  lse_ = DeviceBuffer();
  const char* const what = "partial results of attention";
  SLUICE_ASSIGN_OR_RETURN(
      partial_, DeviceBuffer::Allocate(Bytes(capacity * q_dim_ * kFloat), what, *account_));
  SLUICE_ASSIGN_OR_RETURN(
      lse_, DeviceBuffer::Allocate(Bytes(capacity * heads_ * kFloat), what, *account_));
  partial_rows_ = capacity;
  return absl::OkStatus();
}

Bytes Workspace::bytes() const {
  Bytes sum;
  for (const DeviceBuffer* buffer : {&residual_, &normed_, &qkv_, &queries_, &attended_, &delta_,
                                     &gate_up_, &activated_, &logits_, &partial_, &lse_}) {
    sum += buffer->size();
  }
  return sum;
}

}  // namespace sluice::cuda
