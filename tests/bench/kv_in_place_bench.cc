// Attend in place against load: up to how many query tokens does leaving a prefix on the host pay,
// and what does the cost model say?
//
//   kv_in_place_bench --threads 2 --context 2048 --link-gbps 0 2 1 0.5
//
// A model with Llama 3.2 1B's attention, four layers and random weights. For every link and number
// of query tokens, in turn, best of --repeat: a step that loads the whole prefix (layer by layer,
// beside its compute) and one that attends to it in place. Prints one JSON object; "predicted" are
// the cost model's times from a calibration in the same process, "crossover" is where the two lines
// meet (0: in place never pays), and "regret" what the model's choice costs beyond the better one.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "backend/cpu/cpu_backend.h"
#include "scheduler/base/check.h"
#include "scheduler/cost/coefficients.h"
#include "service/calibration/calibration_file.h"
#include "service/calibration/codec_cost.h"
#include "service/calibration/cpu_calibration.h"
#include "tests/support/random_checkpoint.h"

namespace sluice {
namespace {

struct Flags {
  int threads = 2;
  int64_t context = 2048;
  std::vector<double> links = {0, 2, 1, 0.5};
  int repeat = 5;
  std::string codec = "raw";
};

constexpr int64_t kBlock = 32;
constexpr int64_t kQueries[] = {1, 2, 4, 8, 16, 32, 64, 128};
constexpr int64_t kMostQueries = 128;
constexpr LayerShape kShape{2048, 8192, 32, 8, 64};

testing::RandomModelSpec Spec() {
  testing::RandomModelSpec spec;
  spec.dtype = DType::kBF16;
  spec.layers = 4;
  spec.hidden = 2048;
  spec.intermediate = 8192;
  spec.heads = 32;
  spec.kv_heads = 8;
  spec.vocab = 4096;
  spec.max_position_embeddings = 8192;
  return spec;
}

// A backend whose host pool holds a prefix.
class Machine {
 public:
  Machine(const testing::RandomModel& model, const Flags& flags, double gbps)
      : context_(flags.context),
        tokens_(testing::RandomTokens(static_cast<int>(flags.context + kMostQueries),
                                      model.config().vocab, 1)) {
    const int64_t prefix = flags.context / kBlock;
    CpuBackendOptions options;
    options.tokens_per_block = Tokens(kBlock);
    options.device_blocks = Blocks(prefix + kMostQueries / kBlock);
    options.host_blocks = Blocks(prefix);
    options.max_model_len = Tokens(flags.context + kMostQueries);
    options.max_step_tokens = Tokens(kMostQueries);
    options.threads = flags.threads;
    options.link_gbps = gbps;
    options.host_codec = *ParseKvCodecKind(flags.codec);
    backend_ = *CpuBackend::Create(model.config(), model.checkpoint(), options);
    backend_->SetCopyListener([this] {
      const std::lock_guard<std::mutex> lock(mu_);
      news_ = true;
      done_.notify_all();
    });
    for (int32_t b = 0; b < options.device_blocks.value(); ++b) blocks_.emplace_back(b);
    for (int64_t b = 0; b < prefix; ++b) host_blocks_.emplace_back(static_cast<int32_t>(b));
    for (int64_t at = 0; at < context_; at += kMostQueries) {
      Step(at, std::min(kMostQueries, context_ - at), {}, {});
    }
    StartCopy(LinkDirection::kDeviceToHost);
    WaitForCopy();
  }

  // Seconds of a step of `queries` tokens after the prefix.
  double Loaded(int64_t queries) {
    const double start = Now();
    const CopyId load = StartCopy(LinkDirection::kHostToDevice);
    Step(context_, queries, {&load, 1}, {});
    const double took = Now() - start;
    WaitForCopy();
    return took;
  }
  double InPlace(int64_t queries) {
    const double start = Now();
    Step(context_, queries, {}, host_blocks_);
    return Now() - start;
  }
  double OnDevice(int64_t queries) {
    const double start = Now();
    Step(context_, queries, {}, {});
    return Now() - start;
  }

 private:
  static double Now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  void Step(int64_t first, int64_t count, std::span<const CopyId> loads,
            std::span<const BlockId> in_place) {
    std::vector<BlockId> blocks = blocks_;
    std::fill_n(blocks.begin(), in_place.size(), BlockId());
    SequenceWork work;
    work.first = Tokens(first);
    work.count = Tokens(count);
    work.tokens = tokens_;
    work.blocks = blocks;
    work.host_blocks = in_place;
    work.loads = loads;
    StepPlan plan;
    plan.id = StepId(1);
    plan.sequences.push_back(work);
    const StepResult result = backend_->Run(plan);
    SLUICE_CHECK(result.status.ok() && result.sequences[0].status.ok());
  }

  CopyId StartCopy(LinkDirection direction) {
    Copy copy;
    copy.id = CopyId(++copies_);
    copy.direction = direction;
    for (size_t i = 0; i < host_blocks_.size(); ++i) {
      copy.blocks.push_back({BlockId(static_cast<int32_t>(i)), BlockId(static_cast<int32_t>(i))});
    }
    backend_->StartCopies({&copy, 1});
    return copy.id;
  }
  void WaitForCopy() {
    while (true) {
      {
        std::unique_lock<std::mutex> lock(mu_);
        done_.wait(lock, [this] { return news_; });
        news_ = false;
      }
      if (!backend_->TakeFinishedCopies().empty()) return;
    }
  }

  const int64_t context_;
  const std::vector<TokenId> tokens_;
  std::vector<BlockId> blocks_;
  std::vector<BlockId> host_blocks_;
  int64_t copies_ = 0;
  std::mutex mu_;
  std::condition_variable done_;
  bool news_ = false;
  std::unique_ptr<Backend> backend_;  // last: its listener uses the others
};

// What the cost model expects of the same steps.
struct Predicted {
  double load = 0;
  double in_place = 0;
};

Predicted Predict(const CostCoefficients& cost, int64_t context, int64_t queries) {
  const auto step = [&](int64_t in_place) {
    StepEstimate estimate(cost);
    estimate.Add({Tokens(context), Tokens(queries), Tokens(in_place)});
    return estimate.time().value();
  };
  const LinkCoefficients& link = cost.links[static_cast<size_t>(LinkDirection::kHostToDevice)];
  const Bytes bytes(context * cost.kv_bytes_per_token.value());
  const double copy = CopyTime(link, bytes, context / kBlock * cost.layers).value();
  const double compute = step(0);
  const double layers = cost.layers;
  return {std::max(copy + compute / layers, copy / layers + compute), step(context)};
}

// Where `in_place` stops being the faster one, on a line between neighbours.
double Crossover(const std::vector<double>& load, const std::vector<double>& in_place) {
  for (size_t i = 0; i < load.size(); ++i) {
    const double behind = in_place[i] - load[i];
    if (behind <= 0) continue;
    if (i == 0) return 0;
    const double ahead = load[i - 1] - in_place[i - 1];
    const auto a = static_cast<double>(kQueries[i - 1]);
    const auto b = static_cast<double>(kQueries[i]);
    return a + (b - a) * ahead / (ahead + behind);
  }
  return static_cast<double>(kMostQueries);  // or later
}

// Others' work on the machine only ever adds.
double Best(const std::vector<double>& numbers) {
  return *std::min_element(numbers.begin(), numbers.end());
}

nlohmann::json MeasureLink(const testing::RandomModel& model, const Flags& flags, double gbps,
                           const CostCoefficients& cost) {
  Machine machine(model, flags, gbps);
  std::vector<double> load;
  std::vector<double> in_place;
  std::vector<double> predicted_load;
  std::vector<double> predicted_in_place;
  nlohmann::json rows;
  double most_regret = 0;
  for (const int64_t queries : kQueries) {
    std::vector<double> times[3];
    for (int i = 0; i < flags.repeat; ++i) {
      times[0].push_back(machine.Loaded(queries));
      times[1].push_back(machine.InPlace(queries));
      times[2].push_back(machine.OnDevice(queries));
    }
    const Predicted predicted = Predict(cost, flags.context, queries);
    load.push_back(Best(times[0]));
    in_place.push_back(Best(times[1]));
    predicted_load.push_back(predicted.load);
    predicted_in_place.push_back(predicted.in_place);
    const bool stay = predicted.in_place < predicted.load;
    const double chosen = stay ? in_place.back() : load.back();
    const double regret = chosen / std::min(load.back(), in_place.back()) - 1;
    most_regret = std::max(most_regret, regret);
    rows.push_back({{"queries", queries},
                    {"regret", regret},
                    {"load_ms", load.back() * 1e3},
                    {"in_place_ms", in_place.back() * 1e3},
                    {"resident_ms", Best(times[2]) * 1e3},
                    {"predicted_load_ms", predicted.load * 1e3},
                    {"predicted_in_place_ms", predicted.in_place * 1e3}});
  }
  return {{"link_gbps", gbps},
          {"steps", rows},
          {"most_regret", most_regret},
          {"crossover", Crossover(load, in_place)},
          {"predicted_crossover", Crossover(predicted_load, predicted_in_place)}};
}

void PriceCodec(const Flags& flags, std::optional<ByteRate> link, CostCoefficients& cost) {
  CodecCostOptions options;
  options.codec = *ParseKvCodecKind(flags.codec);
  options.shape = kShape;
  options.layers = Spec().layers;
  options.block_tokens = Tokens(kBlock);
  options.threads = flags.threads;
  options.link = link;
  SLUICE_CHECK(PriceHostCodec(options, cost).ok());
}

int Main(const Flags& flags) {
  const testing::RandomModel model(Spec());
  CpuCalibrationOptions options;
  options.shape = kShape;
  options.layers = Spec().layers;
  options.threads = flags.threads;
  options.large = MiB(256);
  const auto calibration = CalibrateCpu(options, [](int64_t, int64_t, const std::string&) {});
  SLUICE_CHECK(calibration.ok());
  const testing::TempDir dir;
  CalibrationRequest request;
  request.path = dir.path() + "/hardware.json";
  request.model = model.dir();
  SLUICE_CHECK(WriteCalibration(request.path, calibration->profile).ok());

  nlohmann::json result;
  result["benchmark"] = "kv_in_place";
  result["threads"] = flags.threads;
  result["context"] = flags.context;
  result["layers"] = Spec().layers;
  result["seed"] = 1;
  result["codec"] = flags.codec;
  for (const double gbps : flags.links) {
    if (gbps > 0) request.link = ByteRate(gbps * 1e9);
    const auto loaded = LoadCalibration(request);
    SLUICE_CHECK(loaded.ok());
    CostCoefficients cost = loaded->cost;
    if (flags.codec != "raw") PriceCodec(flags, request.link, cost);
    result["in_place_read_us_per_token"] = cost.per_in_place_read.value() * 1e6;
    result["in_place_reread_us_per_token"] = cost.per_in_place_reread.value() * 1e6;
    result["in_place_tile"] = cost.in_place_tile.value();
    result["links"].push_back(MeasureLink(model, flags, gbps, cost));
  }
  std::printf("%s\n", result.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::Flags flags;
  CLI::App app("Attend in place against load: the crossover, measured and predicted");
  app.add_option("--threads", flags.threads, "compute threads")->capture_default_str();
  app.add_option("--context", flags.context, "tokens on the host")->capture_default_str();
  app.add_option("--link-gbps", flags.links, "rates to pace the link to; 0 = memory");
  app.add_option("--repeat", flags.repeat, "measurements of each step")->capture_default_str();
  app.add_option("--codec", flags.codec, "of the host pool")
      ->check(CLI::IsMember({"raw", "fp8", "int8"}))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return sluice::Main(flags);
}
