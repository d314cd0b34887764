#include "backend/cpu/probe_step.h"

#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "backend/cpu/forward.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/probe_numbers.h"
#include "backend/cpu/weights.h"
#include "backend/model/model_config.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kPageTokens = 32;

ModelConfig ConfigOf(const LayerShape& shape, int64_t layers, Tokens positions) {
  ModelConfig config;
  config.layers = static_cast<int32_t>(layers);
  config.hidden = static_cast<int32_t>(shape.hidden);
  config.intermediate = static_cast<int32_t>(shape.intermediate);
  config.heads = static_cast<int32_t>(shape.heads);
  config.kv_heads = static_cast<int32_t>(shape.kv_heads);
  config.head_dim = static_cast<int32_t>(shape.head_dim);
  config.vocab = 64;
  config.max_position_embeddings = static_cast<int32_t>(positions.value());
  return config;
}

absl::StatusOr<CpuWeights> RandomWeights(const ModelConfig& config, Element element, Gemm& gemm) {
  const auto pack = [&](int64_t outputs, int64_t inputs) {
    return PackNumbers(gemm, element, outputs, inputs);
  };
  const std::vector<float> ones(static_cast<size_t>(config.hidden), 1.0F);
  CpuWeights weights;
  weights.element = element;
  const int64_t table = int64_t{config.vocab} * config.hidden;
  SLUICE_ASSIGN_OR_RETURN(
      weights.embedding,
      HugeBuffer::Allocate(Bytes(table * ElementBytes(element)), "the step probe"));
  WriteElements(element, table, weights.embedding.data());
  for (int32_t i = 0; i < config.layers; ++i) {
    CpuLayer layer;
    layer.input_norm = ones;
    layer.post_attention_norm = ones;
    SLUICE_ASSIGN_OR_RETURN(layer.qkv, pack(config.q_dim() + 2 * config.kv_dim(), config.hidden));
    SLUICE_ASSIGN_OR_RETURN(layer.o, pack(config.hidden, config.q_dim()));
    SLUICE_ASSIGN_OR_RETURN(layer.gate_up, pack(2 * config.intermediate, config.hidden));
    SLUICE_ASSIGN_OR_RETURN(layer.down, pack(config.hidden, config.intermediate));
    weights.layers.push_back(std::move(layer));
  }
  weights.final_norm = ones;
  SLUICE_ASSIGN_OR_RETURN(weights.lm_head, pack(config.vocab, config.hidden));
  return weights;
}

class RandomModel final : public StepProbe {
 public:
  RandomModel(const ModelConfig& config, ThreadPool& pool)
      : config_(config), pool_(pool), gemm_(pool) {}

  absl::Status Fill(Element element, Tokens rows) {
    SLUICE_ASSIGN_OR_RETURN(weights_, RandomWeights(config_, element, gemm_));
    KvLayout layout;
    layout.element = element;
    layout.layers = config_.layers;
    layout.kv_heads = config_.kv_heads;
    layout.head_dim = config_.head_dim;
    layout.page_tokens = kPageTokens;
    blocks_.resize(static_cast<size_t>((rows.value() + kPageTokens - 1) / kPageTokens));
    for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i] = BlockId(static_cast<int32_t>(i));
    const Blocks pages(static_cast<int64_t>(blocks_.size()));
    SLUICE_ASSIGN_OR_RETURN(pools_, KvPools::Allocate(layout, pages, Blocks(0)));
    tokens_.resize(rows.size());
    for (size_t i = 0; i < tokens_.size(); ++i) {
      tokens_[i] = static_cast<TokenId>(i % static_cast<size_t>(config_.vocab));
    }
    SLUICE_ASSIGN_OR_RETURN(forward_,
                            Forward::Create(config_, weights_, pools_, rows, rows, gemm_, pool_));
    return absl::OkStatus();
  }

  absl::StatusOr<RunTimes> Time(Tokens rows, const ProbeControl& control) override {
    const ForwardSequence sequence{std::span(tokens_).first(rows.size()), 0, blocks_, true};
    const ThreadPool::CallerScope scope(pool_);
    return TimeRepeatedly(control, [&] {
      SLUICE_RETURN_IF_ERROR(forward_->Run({&sequence, 1}, [](int /*layer*/) {}));
      return forward_->Logits({&sequence, 1},
                              [](size_t /*sequence*/, std::span<float>, int /*worker*/) {});
    });
  }

 private:
  const ModelConfig config_;
  ThreadPool& pool_;
  Gemm gemm_;
  CpuWeights weights_;
  KvPools pools_;
  std::vector<BlockId> blocks_;
  std::vector<TokenId> tokens_;
  std::unique_ptr<Forward> forward_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StepProbe>> StepProbe::Create(const LayerShape& shape,
                                                             int64_t layers, Element element,
                                                             Tokens rows, ThreadPool& pool) {
  auto model = std::make_unique<RandomModel>(ConfigOf(shape, layers, rows), pool);
  SLUICE_RETURN_IF_ERROR(model->Fill(element, rows));
  return model;
}

absl::StatusOr<RunTimes> TimeEmptyStep(int64_t layers, ThreadPool& pool,
                                       const ProbeControl& control) {
  // Matrices so small that they stay in the cache.
  const LayerShape narrow{128, 128, 2, 1, 64};
  SLUICE_ASSIGN_OR_RETURN(const auto probe,
                          StepProbe::Create(narrow, layers, Element::kF32, Tokens(1), pool));
  return probe->Time(Tokens(1), control);
}

}  // namespace sluice
