#include "backend/cuda/forward/step_tables.h"

#include <algorithm>
#include <vector>

#include "scheduler/base/check.h"

namespace sluice::cuda {
namespace {

class Layout {
 public:
  explicit Layout(int64_t block_tokens) : block_tokens_(block_tokens) {}

  void Add(const ForwardSequence& sequence) {
    const auto count = static_cast<int64_t>(sequence.tokens.size());
    SLUICE_CHECK(count > 0 && sequence.first >= 0);
    SLUICE_CHECK(static_cast<int64_t>(sequence.blocks.size()) * block_tokens_ >=
                 sequence.first + count);
    sequences_.push_back({static_cast<int32_t>(ids_.size()), static_cast<int32_t>(count),
                          static_cast<int32_t>(sequence.first),
                          static_cast<int32_t>(blocks_.size())});
    AddTokens(sequence);
    AddBlocks(sequence, sequence.first + count);
    if (sequence.logits) logit_rows_.push_back(static_cast<int32_t>(ids_.size()) - 1);
  }

  StepTables Finish(const AttentionPlanOptions& attention, ControlBuffer& control) const {
    StepTables tables;
    tables.ids = Put(ids_, control);
    tables.positions = Put(positions_, control);
    tables.slots = Put(slots_, control);
    tables.blocks = Put(blocks_, control);
    const AttentionPlan plan = PlanAttention(sequences_, attention);
    tables.decode = Put(plan.decode, control);
    tables.prefill = Put(plan.prefill, control);
    tables.merges = Put(plan.merges, control);
    tables.partial_rows = plan.partial_rows;
    tables.logit_rows = Put(logit_rows_, control);
    return tables;
  }

 private:
  template <class T>
  static ControlArray<T> Put(const std::vector<T>& values, ControlBuffer& control) {
    return control.Add(std::span<const T>(values));
  }

  void AddTokens(const ForwardSequence& sequence) {
    for (size_t i = 0; i < sequence.tokens.size(); ++i) {
      const int64_t position = sequence.first + static_cast<int64_t>(i);
      const BlockId block = sequence.blocks[static_cast<size_t>(position / block_tokens_)];
      SLUICE_CHECK(block.valid());
      ids_.push_back(sequence.tokens[i]);
      positions_.push_back(static_cast<int32_t>(position));
      slots_.push_back(
          static_cast<int32_t>(block.value() * block_tokens_ + position % block_tokens_));
    }
  }

  // Blocks of positions [0, end), in either pool.
  void AddBlocks(const ForwardSequence& sequence, int64_t end) {
    const auto count = static_cast<size_t>((end + block_tokens_ - 1) / block_tokens_);
    for (size_t b = 0; b < count; ++b) {
      const bool host = b < sequence.host_blocks.size() && sequence.host_blocks[b].valid();
      blocks_.push_back(host ? InSecondPool(sequence.host_blocks[b].value())
                             : sequence.blocks[b].value());
    }
  }

  const int64_t block_tokens_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> blocks_;
  std::vector<int32_t> logit_rows_;
  std::vector<AttentionSequence> sequences_;
};

}  // namespace

StepTables LayOutStep(std::span<const ForwardSequence> sequences, int64_t block_tokens,
                      const AttentionPlanOptions& attention, ControlBuffer& control) {
  Layout layout(block_tokens);
  for (const ForwardSequence& sequence : sequences) layout.Add(sequence);
  return layout.Finish(attention, control);
}

}  // namespace sluice::cuda
