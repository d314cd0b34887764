#include "scheduler/options.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/policy/registry.h"

namespace sluice {
namespace {

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("scheduler options: ", field, ": ", value,
                                                 " is not in [", low, ", ", high, "]"));
}

}  // namespace

absl::Status SchedulerOptions::Validate() const {
  constexpr int64_t kMaxBlocks = int64_t{1} << 30;  // block ids are 32 bits
  constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
  SLUICE_RETURN_IF_ERROR(CheckRange("max_model_len", max_model_len.value(), 2, kMaxTokens));
  SLUICE_RETURN_IF_ERROR(CheckRange("queue_limit", queue_limit, 1, 1 << 24));
  SLUICE_RETURN_IF_ERROR(CheckRange("step_token_limit", step_token_limit.value(), 1, kMaxTokens));
  SLUICE_RETURN_IF_ERROR(CheckRange("max_running", max_running, 1, 1 << 20));
  SLUICE_RETURN_IF_ERROR(CheckRange("min_hits_to_store", min_hits_to_store, 0, 1 << 20));
  SLUICE_RETURN_IF_ERROR(CheckRange("max_store_blocks", max_store_blocks.value(), 0, kMaxBlocks));
  SLUICE_RETURN_IF_ERROR(
      CheckRange("geometry.tokens_per_block", geometry.tokens_per_block.value(), 1, 1 << 16));
  SLUICE_RETURN_IF_ERROR(CheckRange("geometry.bytes_per_block", geometry.bytes_per_block.value(), 1,
                                    std::numeric_limits<int64_t>::max() / kMaxBlocks));
  SLUICE_RETURN_IF_ERROR(CheckRange("device_blocks", device_blocks.value(), 1, kMaxBlocks));
  SLUICE_RETURN_IF_ERROR(CheckRange("host_blocks", host_blocks.value(), 0, kMaxBlocks));
  SLUICE_RETURN_IF_ERROR(CheckRange("disk_blocks", disk_blocks.value(), 0, kMaxBlocks));
  if (storage_tier != Tier::kDisk && storage_tier != Tier::kRemote) {
    return absl::InvalidArgumentError("storage_tier: want the disk or the remote tier");
  }
  if (!(tpot_target > Seconds(0))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "scheduler options: tpot_target: ", tpot_target.value(), " s, want more than 0"));
  }
  if (!(max_pinned_share >= 0 && max_pinned_share <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "scheduler options: max_pinned_share: ", max_pinned_share, " is not in [0, 1]"));
  }
  SLUICE_RETURN_IF_ERROR(cost.Validate());
  return MakePolicy(policy, policy_options).status();
}

}  // namespace sluice
