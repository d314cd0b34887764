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
    Place place;
    place.query = static_cast<int32_t>(ids_.size());
    place.count = static_cast<int32_t>(count);
    place.position = static_cast<int32_t>(sequence.first);
    AddTokens(sequence);
    AddBlocks(sequence, place);
    places_.push_back(place);
    if (sequence.logits) logit_rows_.push_back(static_cast<int32_t>(ids_.size()) - 1);
  }

  StepTables Finish(const AttentionPlanOptions& attention, ControlBuffer& control) const {
    StepTables tables;
    tables.ids = Put(ids_, control);
    tables.positions = Put(positions_, control);
    tables.slots = Put(slots_, control);
    for (size_t view = 0; view < 2; ++view) tables.blocks[view] = Put(blocks_[view], control);
    const AttentionPlan plan = PlanAttention(Sequences(), attention);
    tables.decode = Put(plan.decode, control);
    tables.prefill = Put(plan.prefill, control);
    tables.merges = Put(plan.merges, control);
    tables.partial_rows = plan.partial_rows;
    tables.logit_rows = Put(logit_rows_, control);
    return tables;
  }

 private:
  // A sequence's rows, and its part of ranges_.
  struct Place {
    int32_t query;
    int32_t count;
    int32_t position;
    size_t first_range;
    size_t ranges;
  };

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

  // Both tables have an entry for every block, so that a position finds its own in either.
  void AddBlocks(const ForwardSequence& sequence, Place& place) {
    const int64_t end = sequence.first + place.count;
    const auto count = static_cast<size_t>((end + block_tokens_ - 1) / block_tokens_);
    const bool in_place = !sequence.host_blocks.empty();
    int32_t start[2];
    for (size_t view = 0; view < 2; ++view)
      start[view] = static_cast<int32_t>(blocks_[view].size());
    place.first_range = ranges_.size();
    for (size_t b = 0; b < count; ++b) {
      const bool host = b < sequence.host_blocks.size() && sequence.host_blocks[b].valid();
      blocks_[0].push_back(host ? 0 : sequence.blocks[b].value());
      if (in_place) blocks_[1].push_back(host ? sequence.host_blocks[b].value() : 0);
      const int32_t view = host ? 1 : 0;
      const auto block_end =
          static_cast<int32_t>(std::min(end, (static_cast<int64_t>(b) + 1) * block_tokens_));
      if (ranges_.size() > place.first_range && ranges_.back().view == view) {
        ranges_.back().end = block_end;
        continue;
      }
      const auto begin = static_cast<int32_t>(static_cast<int64_t>(b) * block_tokens_);
      ranges_.push_back({begin, block_end, view, start[view]});
    }
    place.ranges = ranges_.size() - place.first_range;
  }

  std::vector<AttentionSequence> Sequences() const {
    std::vector<AttentionSequence> sequences;
    const std::span<const AttentionRange> all = ranges_;
    for (const Place& place : places_) {
      sequences.push_back(
          {place.query, place.count, place.position, all.subspan(place.first_range, place.ranges)});
    }
    return sequences;
  }

  const int64_t block_tokens_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> blocks_[2];
  std::vector<int32_t> logit_rows_;
  std::vector<AttentionRange> ranges_;
  std::vector<Place> places_;
};

}  // namespace

StepTables LayOutStep(std::span<const ForwardSequence> sequences, int64_t block_tokens,
                      const AttentionPlanOptions& attention, ControlBuffer& control) {
  Layout layout(block_tokens);
  for (const ForwardSequence& sequence : sequences) layout.Add(sequence);
  return layout.Finish(attention, control);
}

}  // namespace sluice::cuda
