// What the KV codecs cost in quality, through the CPU backend's own forward pass.
//
//   kv_quality_bench --model deploy/demo/model --text held-out.jsonl    perplexity
//   kv_quality_bench --random llama-1b                                  logit error, random weights
//
// Text is cut into pieces of --context tokens. A piece is computed one KV block at a time, all of a
// block's logits counted; every finished block is then encoded and decoded in place, so that a
// token sees the KV of all blocks before its own through the codec, as it would after a load from a
// slower tier. Its own block it sees as computed.
//
// --text: JSON lines {"split": "validation", "text": ...} as deploy/demo/train/corpus.py writes
// them (only that split is read), or plain text files. Prints one JSON object.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/cpu/forward.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/weights.h"
#include "backend/kv/kv_codec.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/check.h"
#include "service/tokenizer/tokenizer.h"
#include "tests/support/random_checkpoint.h"

namespace sluice {
namespace {

struct Flags {
  std::string model;
  std::vector<std::string> text;
  std::string random;
  int64_t context = 1024;
  int64_t block = 32;
  int threads = 2;
  uint64_t seed = 1;
};

constexpr int64_t kPiecesTogether = 16;

// A model, a pool for a few pieces of text, and a codec between them.
class Machine {
 public:
  Machine(const ModelConfig& config, const Checkpoint& checkpoint, const Flags& flags)
      : config_(config), flags_(flags), pool_(flags.threads, true), gemm_(pool_) {
    layout_.element = checkpoint.dominant_dtype() == DType::kF32 ? Element::kF32 : Element::kBF16;
    layout_.layers = config.layers;
    layout_.kv_heads = config.kv_heads;
    layout_.head_dim = config.head_dim;
    layout_.page_tokens = flags.block;
    weights_ = *PackWeights(config, checkpoint, layout_.element, gemm_);
    const int64_t blocks_each = (flags.context + flags.block - 1) / flags.block;
    pools_ = *KvPools::Allocate(layout_, Blocks(kPiecesTogether * blocks_each), Blocks(1));
    for (int64_t p = 0; p < kPiecesTogether; ++p) {
      blocks_.emplace_back();
      for (int64_t b = 0; b < blocks_each; ++b) {
        blocks_.back().push_back(BlockId(static_cast<int32_t>(p * blocks_each + b)));
      }
    }
    forward_ = *Forward::Create(config_, weights_, pools_, Tokens(flags.context),
                                Tokens(kPiecesTogether * flags.block), gemm_, pool_);
  }

  KvShape shape() const {
    return {layout_.layers, layout_.page_tokens, layout_.kv_heads, layout_.head_dim,
            layout_.element == Element::kF32 ? KvElement::kF32 : KvElement::kBF16};
  }

  // Runs at most kPiecesTogether pieces of at most `context` tokens. Calls fn(piece, position,
  // logits) for every token; from several threads at once. codec null: KV stays as it is.
  template <class Fn>
  void Run(std::span<const std::vector<TokenId>> pieces, const KvCodec* codec, const Fn& fn) {
    const ThreadPool::CallerScope scope(pool_);
    for (int64_t first = 0; first < flags_.context; first += flags_.block) {
      std::vector<ForwardSequence> rows;
      std::vector<std::pair<size_t, int64_t>> places;
      for (size_t p = 0; p < pieces.size(); ++p) {
        const std::span<const TokenId> tokens = pieces[p];
        const int64_t end = std::min<int64_t>(first + flags_.block, std::ssize(tokens));
        // One row a sequence: every token's logits are wanted.
        for (int64_t i = first; i < end; ++i) {
          rows.push_back({tokens.subspan(static_cast<size_t>(i), 1), i, blocks_[p], true});
          places.emplace_back(p, i);
        }
      }
      if (rows.empty()) return;
      SLUICE_CHECK(forward_->Run(rows, [](int) {}).ok());
      SLUICE_CHECK(
          forward_
              ->Logits(rows, [&](size_t row, std::span<float> logits,
                                 int) { fn(places[row].first, places[row].second, logits); })
              .ok());
      if (codec == nullptr) continue;
      for (size_t p = 0; p < pieces.size(); ++p) {
        if (std::ssize(pieces[p]) < first + flags_.block) continue;
        RoundTrip(*codec, blocks_[p][static_cast<size_t>(first / flags_.block)]);
      }
    }
  }

 private:
  void RoundTrip(const KvCodec& codec, BlockId block) {
    std::byte* slice = pools_.HostLayer(0, BlockId(0));
    const auto size = static_cast<size_t>(layout_.host_layer_bytes());
    std::vector<std::byte> encoded(codec.encoded_slice_bytes().size());
    for (int64_t layer = 0; layer < layout_.layers; ++layer) {
      StorePage(layout_, pools_.Page(layer, block), slice);
      SLUICE_CHECK(codec.EncodeLayer({slice, size}, encoded).ok());
      codec.DecodeLayer(encoded, {slice, size});
      LoadPage(layout_, slice, pools_.Page(layer, block));
    }
  }

  ModelConfig config_;
  Flags flags_;
  ThreadPool pool_;
  Gemm gemm_;
  KvLayout layout_;
  CpuWeights weights_;
  KvPools pools_;
  std::unique_ptr<Forward> forward_;
  std::vector<std::vector<BlockId>> blocks_;  // by piece
};

std::vector<KvCodec> Codecs(const KvShape& shape) {
  std::vector<KvCodecOptions> all = {{KvCodecKind::kRaw}, {KvCodecKind::kFp8}};
  for (const KvScaleAxis axis : {KvScaleAxis::kToken, KvScaleAxis::kChannel}) {
    for (const int64_t group : {32, 64, 128}) all.push_back({KvCodecKind::kInt8, group, axis});
  }
  for (const KvScaleAxis axis : {KvScaleAxis::kToken, KvScaleAxis::kChannel}) {
    for (const int64_t group : {16, 32, 64}) all.push_back({KvCodecKind::kInt4, group, axis});
  }
  std::vector<KvCodec> codecs;
  for (const KvCodecOptions& options : all) codecs.push_back(*KvCodec::Create(shape, options));
  return codecs;
}

double MinusLogProbability(std::span<const float> logits, TokenId token) {
  double most = -1e30;
  for (const float x : logits) most = std::max(most, static_cast<double>(x));
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - most);
  return most + std::log(sum) - static_cast<double>(logits[static_cast<size_t>(token)]);
}

// --- Perplexity ---

std::vector<std::string> ReadTexts(const Flags& flags) {
  std::vector<std::string> texts;
  for (const std::string& path : flags.text) {
    std::ifstream in(path);
    SLUICE_CHECK(in.good());
    if (!absl::EndsWith(path, ".jsonl")) {
      std::stringstream all;
      all << in.rdbuf();
      texts.push_back(all.str());
      continue;
    }
    for (std::string line; std::getline(in, line);) {
      const nlohmann::json document = nlohmann::json::parse(line);
      if (document["split"] == "validation") texts.push_back(document["text"]);
    }
  }
  return texts;
}

// Every text begins with the model's first token, if it has one.
std::vector<std::vector<TokenId>> CutPieces(const Flags& flags, const ModelConfig& config) {
  const auto tokenizer = *Tokenizer::Load(flags.model);
  std::vector<std::vector<TokenId>> pieces;
  for (const std::string& text : ReadTexts(flags)) {
    std::vector<TokenId> tokens = tokenizer->Encode(text, false, false);
    if (config.bos_id >= 0) tokens.insert(tokens.begin(), config.bos_id);
    for (size_t at = 0; at + 1 < tokens.size(); at += static_cast<size_t>(flags.context)) {
      const size_t end = std::min(tokens.size(), at + static_cast<size_t>(flags.context));
      pieces.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(at),
                          tokens.begin() + static_cast<std::ptrdiff_t>(end));
    }
  }
  return pieces;
}

// Minus log probability of every token but each piece's first.
std::vector<double> Losses(Machine& machine, const std::vector<std::vector<TokenId>>& pieces,
                           const KvCodec* codec) {
  std::vector<double> all;
  for (size_t first = 0; first < pieces.size(); first += kPiecesTogether) {
    const size_t count = std::min<size_t>(kPiecesTogether, pieces.size() - first);
    std::vector<std::vector<double>> losses;
    for (size_t p = 0; p < count; ++p) losses.emplace_back(pieces[first + p].size() - 1);
    machine.Run(std::span(pieces).subspan(first, count), codec,
                [&](size_t p, int64_t position, std::span<const float> logits) {
                  const auto next = static_cast<size_t>(position) + 1;
                  if (next >= pieces[first + p].size()) return;
                  losses[p][next - 1] = MinusLogProbability(logits, pieces[first + p][next]);
                });
    for (const auto& piece : losses) all.insert(all.end(), piece.begin(), piece.end());
  }
  return all;
}

double Mean(const std::vector<double>& numbers) {
  double sum = 0;
  for (const double x : numbers) sum += x;
  return sum / static_cast<double>(numbers.size());
}

nlohmann::json MeasurePerplexity(const Flags& flags) {
  const ModelConfig config = *LoadModelConfig(flags.model);
  const auto checkpoint = *Checkpoint::Open(flags.model, config);
  Machine machine(config, *checkpoint, flags);
  const auto pieces = CutPieces(flags, config);
  const std::vector<double> plain = Losses(machine, pieces, nullptr);
  nlohmann::json result;
  result["tokens"] = plain.size();
  result["pieces"] = pieces.size();
  result["nats_per_token"] = Mean(plain);
  result["perplexity"] = std::exp(Mean(plain));
  for (const KvCodec& codec : Codecs(machine.shape())) {
    std::vector<double> change = Losses(machine, pieces, &codec);
    for (size_t i = 0; i < change.size(); ++i) change[i] -= plain[i];
    const double mean = Mean(change);
    double squares = 0;
    for (const double x : change) squares += (x - mean) * (x - mean);
    const auto n = static_cast<double>(change.size());
    nlohmann::json row;
    row["codec"] = codec.name();
    row["bytes_per_kv_byte"] = codec.ratio();
    row["perplexity"] = std::exp(Mean(plain) + mean);
    row["perplexity_change_percent"] = 100 * (std::exp(mean) - 1);
    row["standard_error_percent"] = 100 * std::sqrt(squares / n / n);
    row["equal"] = std::all_of(change.begin(), change.end(), [](double x) { return x == 0; });
    result["codecs"].push_back(row);
  }
  return result;
}

// --- Logit error ---

// Attention of known models; few layers and words, to be made in seconds.
testing::RandomModelSpec SpecOf(const std::string& name, uint64_t seed) {
  testing::RandomModelSpec spec;
  spec.dtype = DType::kBF16;
  spec.seed = seed;
  spec.vocab = 4096;
  spec.layers = 4;
  spec.max_position_embeddings = 4096;
  if (name == "llama-1b") {  // Llama 3.2 1B
    spec.hidden = 2048, spec.intermediate = 8192, spec.heads = 32, spec.kv_heads = 8;
    spec.rope.theta = 500000;
  } else if (name == "llama-8b") {  // Llama 3.1 8B
    spec.hidden = 4096, spec.intermediate = 14336, spec.heads = 32, spec.kv_heads = 8;
    spec.rope.theta = 500000;
    spec.layers = 2;
  } else if (name == "qwen2-0.5b") {  // Qwen 2.5 0.5B
    spec.architecture = "Qwen2ForCausalLM";
    spec.hidden = 896, spec.intermediate = 4864, spec.heads = 14, spec.kv_heads = 2;
    spec.rope.theta = 1000000;
  } else if (name == "dim-80") {  // heads of 80, no groups: Phi 2's
    spec.hidden = 2560, spec.intermediate = 10240, spec.heads = 32, spec.kv_heads = 32;
  } else {
    std::fprintf(stderr, "--random %s: want llama-1b, llama-8b, qwen2-0.5b or dim-80\n",
                 name.c_str());
    std::exit(2);
  }
  return spec;
}

struct LogitSums {
  double difference = 0;
  double norm = 0;
  double same_choice = 0;
};

nlohmann::json MeasureLogits(const Flags& flags) {
  const testing::RandomModel model(SpecOf(flags.random, flags.seed));
  Machine machine(model.config(), model.checkpoint(), flags);
  const auto vocab = static_cast<size_t>(model.config().vocab);
  const std::vector<std::vector<TokenId>> pieces = {
      testing::RandomTokens(static_cast<int>(flags.context), model.config().vocab, flags.seed)};
  std::vector<float> plain(static_cast<size_t>(flags.context) * vocab);
  machine.Run(pieces, nullptr, [&](size_t, int64_t at, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(), plain.begin() + at * static_cast<int64_t>(vocab));
  });
  nlohmann::json result;
  result["tokens"] = flags.context;
  for (const KvCodec& codec : Codecs(machine.shape())) {
    std::vector<LogitSums> sums(static_cast<size_t>(flags.context));
    machine.Run(pieces, &codec, [&](size_t, int64_t at, std::span<const float> logits) {
      const auto want = std::span(plain).subspan(static_cast<size_t>(at) * vocab, vocab);
      LogitSums& s = sums[static_cast<size_t>(at)];
      for (size_t i = 0; i < vocab; ++i) {
        const double d = static_cast<double>(logits[i]) - static_cast<double>(want[i]);
        s.difference += d * d;
        s.norm += static_cast<double>(want[i]) * static_cast<double>(want[i]);
      }
      s.same_choice = std::max_element(logits.begin(), logits.end()) - logits.begin() ==
                      std::max_element(want.begin(), want.end()) - want.begin();
    });
    LogitSums all;
    for (const LogitSums& s : sums) {
      all.difference += s.difference;
      all.norm += s.norm;
      all.same_choice += s.same_choice;
    }
    nlohmann::json row;
    row["codec"] = codec.name();
    row["bytes_per_kv_byte"] = codec.ratio();
    row["relative_logit_error"] = std::sqrt(all.difference / all.norm);
    row["same_greedy_token"] = all.same_choice / static_cast<double>(flags.context);
    result["codecs"].push_back(row);
  }
  return result;
}

int Main(const Flags& flags) {
  if (flags.random.empty() == flags.model.empty()) {
    std::fprintf(stderr, "want either --model and --text, or --random\n");
    return 2;
  }
  nlohmann::json result = flags.random.empty() ? MeasurePerplexity(flags) : MeasureLogits(flags);
  result["benchmark"] = "kv_quality";
  result["model"] = flags.random.empty() ? flags.model : flags.random;
  result["context"] = flags.context;
  result["block"] = flags.block;
  result["seed"] = flags.seed;
  std::printf("%s\n", result.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::Flags flags;
  CLI::App app("What the KV codecs cost in perplexity and in logits");
  app.add_option("--model", flags.model, "Hugging Face model directory");
  app.add_option("--text", flags.text, "text files, or JSON lines with a split \"validation\"");
  app.add_option("--random", flags.random, "llama-1b, llama-8b, qwen2-0.5b or dim-80");
  app.add_option("--context", flags.context, "tokens per piece")->capture_default_str();
  app.add_option("--block", flags.block, "tokens per KV block")->capture_default_str();
  app.add_option("--threads", flags.threads, "0 = one per CPU")->capture_default_str();
  app.add_option("--seed", flags.seed, "of random weights and tokens")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return sluice::Main(flags);
}
