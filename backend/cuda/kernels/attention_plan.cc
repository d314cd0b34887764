#include "backend/cuda/kernels/attention_plan.h"

#include <algorithm>

namespace sluice::cuda {
namespace {

// Blocks per multiprocessor that a launch should have, so that none idles long at the end.
constexpr int32_t kBlocksPerMultiprocessor = 4;

// A tile of one sequence's queries.
struct Tile {
  const AttentionSequence* sequence = nullptr;
  int32_t first = 0;  // token, counted from the sequence's first
  int32_t count = 0;
  bool decode = false;
  int32_t segments = 0;  // of KV that some query sees
  int32_t per_item = 0;  // segments of an item
};

int32_t CeilDivide(int64_t a, int64_t b) { return static_cast<int32_t>((a + b - 1) / b); }

class Planner {
 public:
  Planner(std::span<const AttentionSequence> sequences, const AttentionPlanOptions& options)
      : options_(options), group_(options.heads / options.kv_heads) {
    for (const AttentionSequence& sequence : sequences) Cut(sequence);
  }

  AttentionPlan Run() {
    ChooseSplits();
    for (const Tile& tile : tiles_) Emit(tile);
    const auto longest_first = [](const AttentionWork& a, const AttentionWork& b) {
      return a.kv_end - a.kv_begin > b.kv_end - b.kv_begin;
    };
    std::stable_sort(plan_.decode.begin(), plan_.decode.end(), longest_first);
    std::stable_sort(plan_.prefill.begin(), plan_.prefill.end(), longest_first);
    return std::move(plan_);
  }

 private:
  int32_t TokensPerTile(AttentionTile tile) const {
    return std::max(AttentionTileRows(tile) / group_, 1);
  }

  void Cut(const AttentionSequence& sequence) {
    const int32_t few = TokensPerTile(AttentionTile::kDecode);
    const bool decode = sequence.count <= few;
    const int32_t step = decode ? few : TokensPerTile(AttentionTile::kPrefill);
    for (int32_t first = 0; first < sequence.count; first += step) {
      Tile tile{&sequence, first, std::min(step, sequence.count - first), decode};
      tile.segments = CeilDivide(End(tile), kAttentionSegment) - Begin(tile) / kAttentionSegment;
      tile.per_item = tile.segments;
      tiles_.push_back(tile);
    }
  }

  // What the queries of a tile see is [Begin, End).
  int32_t Begin(const Tile& tile) const {
    const int32_t position = tile.sequence->position + tile.first;
    return options_.window > 0 ? std::max(0, position - options_.window + 1) : 0;
  }
  static int32_t End(const Tile& tile) { return tile.sequence->position + tile.first + tile.count; }

  // Splits decode tiles into items of so many segments that they fill the device, and that no long
  // one outlasts all others.
  void ChooseSplits() {
    const int64_t wanted = int64_t{options_.multiprocessors} * kBlocksPerMultiprocessor;
    int64_t segments = 0;
    for (const Tile& tile : tiles_) segments += int64_t{tile.segments} * options_.kv_heads;
    const int32_t per_item = std::max(CeilDivide(segments, wanted), 1);
    int64_t rows = 0;
    for (Tile& tile : tiles_) {
      if (!tile.decode || tile.segments <= per_item) continue;
      const int64_t more = int64_t{tile.segments} * tile.count;
      if (rows + more > options_.partial_rows) continue;
      rows += more;
      tile.per_item = per_item;
    }
  }

  int32_t TakePartialRows(int32_t rows) {
    const int32_t first = plan_.partial_rows;
    plan_.partial_rows += rows;
    return first;
  }

  void Emit(const Tile& tile) {
    AttentionWork work;
    work.query = tile.sequence->query + tile.first;
    work.count = tile.count;
    work.position = tile.sequence->position + tile.first;
    work.kv_begin = Begin(tile);
    work.kv_end = End(tile);
    work.blocks = tile.sequence->blocks;
    if (tile.per_item < tile.segments) {
      EmitParts(tile, work);
      return;
    }
    if (tile.segments > 1) work.partial = TakePartialRows(tile.count);
    (tile.decode ? plan_.decode : plan_.prefill).push_back(work);
  }

  void EmitParts(const Tile& tile, AttentionWork work) {
    const int32_t partial = TakePartialRows(tile.segments * tile.count);
    const int32_t first = work.kv_begin / kAttentionSegment;
    const int32_t end = work.kv_end;
    work.parts = 1;
    for (int32_t segment = 0; segment < tile.segments; segment += tile.per_item) {
      work.partial = partial + segment * tile.count;
      work.kv_end = std::min(end, (first + segment + tile.per_item) * kAttentionSegment);
      plan_.decode.push_back(work);
      work.kv_begin = work.kv_end;
    }
    for (int32_t t = 0; t < tile.count; ++t) {
      plan_.merges.push_back({work.query + t, partial + t, tile.count, tile.segments});
    }
  }

  const AttentionPlanOptions& options_;
  const int32_t group_;
  std::vector<Tile> tiles_;
  AttentionPlan plan_;
};

}  // namespace

AttentionPlan PlanAttention(std::span<const AttentionSequence> sequences,
                            const AttentionPlanOptions& options) {
  return Planner(sequences, options).Run();
}

}  // namespace sluice::cuda
