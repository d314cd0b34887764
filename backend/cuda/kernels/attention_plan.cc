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
  int32_t splits = 1;  // of each range
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
      tiles_.push_back({&sequence, first, std::min(step, sequence.count - first), decode, 1});
    }
  }

  // What of a range the queries of a tile may see.
  AttentionRange Seen(const Tile& tile, AttentionRange range) const {
    const int32_t position = tile.sequence->position + tile.first;
    range.end = std::min(range.end, position + tile.count);
    if (options_.window > 0) range.begin = std::max(range.begin, position - options_.window + 1);
    range.end = std::max(range.end, range.begin);
    return range;
  }

  int32_t TokensSeen(const Tile& tile) const {
    int32_t tokens = 0;
    for (const AttentionRange& range : tile.sequence->ranges) {
      const AttentionRange seen = Seen(tile, range);
      tokens += seen.end - seen.begin;
    }
    return tokens;
  }

  // Splits decode tiles into parts of equal length, as many as fill the device.
  void ChooseSplits() {
    const int64_t wanted = int64_t{options_.multiprocessors} * kBlocksPerMultiprocessor;
    if (static_cast<int64_t>(tiles_.size()) * options_.kv_heads >= wanted) return;
    int64_t tokens = 0;
    for (const Tile& tile : tiles_) tokens += int64_t{TokensSeen(tile)} * options_.kv_heads;
    int64_t part = std::max<int64_t>(CeilDivide(tokens, wanted), options_.least_split);
    part = CeilDivide(part, 64) * int64_t{64};
    int64_t rows = 0;
    for (Tile& tile : tiles_) {
      if (!tile.decode) continue;
      const int32_t splits = CeilDivide(std::max(TokensSeen(tile), 1), part);
      rows += int64_t{splits} * tile.count;
      if (splits > 1 && rows <= options_.partial_rows) tile.splits = splits;
    }
  }

  void Emit(const Tile& tile) {
    std::vector<AttentionRange> parts;
    const int32_t total = TokensSeen(tile);
    const int32_t length = CeilDivide(CeilDivide(std::max(total, 1), tile.splits), 64) * 64;
    for (const AttentionRange& range : tile.sequence->ranges) {
      AttentionRange rest = Seen(tile, range);
      while (rest.begin < rest.end) {
        AttentionRange part = rest;
        if (tile.splits > 1) part.end = std::min(rest.end, rest.begin + length);
        parts.push_back(part);
        rest.begin = part.end;
      }
    }
    const auto count = static_cast<int32_t>(parts.size());
    const AttentionSequence& sequence = *tile.sequence;
    std::vector<AttentionWork>& works = tile.decode ? plan_.decode : plan_.prefill;
    for (int32_t i = 0; i < count; ++i) {
      const AttentionRange& part = parts[static_cast<size_t>(i)];
      AttentionWork work;
      work.query = sequence.query + tile.first;
      work.count = tile.count;
      work.position = sequence.position + tile.first;
      work.kv_begin = part.begin;
      work.kv_end = part.end;
      work.blocks = part.blocks;
      work.view = part.view;
      work.partial = count == 1 ? -1 : plan_.partial_rows + i * tile.count;
      works.push_back(work);
    }
    if (count <= 1) return;
    for (int32_t t = 0; t < tile.count; ++t) {
      plan_.merges.push_back(
          {sequence.query + tile.first + t, plan_.partial_rows + t, tile.count, count});
    }
    plan_.partial_rows += count * tile.count;
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
