#include "backend/cuda/step_check.h"

#include "scheduler/base/check.h"

namespace sluice::cuda {
namespace {

void CheckBlocks(const SequenceWork& work, const BackendInfo& info) {
  SLUICE_CHECK(static_cast<int64_t>(work.blocks.size()) >=
               info.geometry.BlocksFor(work.first + work.count).value());
  SLUICE_CHECK(work.host_blocks.empty() || info.attends_in_place);
  SLUICE_CHECK(static_cast<int64_t>(work.host_blocks.size()) <=
               info.geometry.FullBlocks(work.first).value());
  for (size_t i = 0; i < work.blocks.size(); ++i) {
    const bool in_place = i < work.host_blocks.size() && work.host_blocks[i].valid();
    const BlockId block = in_place ? work.host_blocks[i] : work.blocks[i];
    const Blocks pool = in_place ? info.host_blocks : info.device_blocks;
    SLUICE_CHECK(block.valid() && block.value() < pool.value());
  }
}

}  // namespace

void CheckStep(const StepPlan& plan, const BackendInfo& info, const StepLimits& limits) {
  Tokens rows;
  for (const SequenceWork& work : plan.sequences) {
    SLUICE_CHECK(work.count > Tokens(0) && work.first >= Tokens(0));
    const Tokens end = work.first + work.count;
    SLUICE_CHECK(end <= limits.model_len);
    const bool unknown = work.previous_row >= 0;
    SLUICE_CHECK(work.tokens.size() + (unknown ? 1 : 0) >= end.size());
    SLUICE_CHECK(!unknown || work.count == Tokens(1));
    SLUICE_CHECK(!unknown || !work.sample || !work.sampling->has_penalties());
    SLUICE_CHECK(work.sample == (work.sampling != nullptr));
    // The device would read past the embedding.
    const size_t known = unknown ? 0 : work.count.size();
    for (const TokenId token : work.tokens.subspan(work.first.size(), known)) {
      SLUICE_CHECK(token >= 0 && token < limits.vocab);
    }
    CheckBlocks(work, info);
    rows += work.count;
  }
  SLUICE_CHECK(rows <= limits.step_tokens);
}

}  // namespace sluice::cuda
