// Prefill and decode rates of the CPU backend beside what the machine can do, measured in the same
// run: the rate of plain oneDNN products of the model's shape and the rate of reading memory.
//
//   cpu_forward_bench --model DIR --threads 2 --batch 1 --prompt 512 --decode 32
//
// Prints one JSON object. Rates alternate between model and machine `--repeat` times; "best" is
// over all, "ratio" is the median of the ratios of neighbours.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/element.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/cpu/thread_pool.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

struct Flags {
  std::string model;
  std::string dtype = "auto";
  int threads = 0;
  int batch = 1;
  int64_t prompt = 512;
  int64_t chunk = 512;
  int64_t decode = 32;
  int64_t page = 32;
  int repeat = 3;
};

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Plain oneDNN: every worker multiplies 512 rows with a packed matrix of its own.
class GemmRate {
 public:
  GemmRate(int64_t inputs, int64_t outputs, bool narrow, ThreadPool& pool)
      : inputs_(inputs),
        outputs_(std::max<int64_t>(64, outputs / pool.size() / 64 * 64)),
        pool_(pool) {
    const auto type = narrow ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
    const ThreadPool::CallerScope scope(pool);
    const dnnl::matmul::desc desc(
        {{kRows, inputs_}, type, dnnl::memory::format_tag::ab},
        {{inputs_, outputs_}, type, dnnl::memory::format_tag::any},
        {{kRows, outputs_}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab});
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc primitive(desc, attr, engine_);
    product_ = dnnl::matmul(primitive);
    for (int i = 0; i < pool.size(); ++i) {
      Worker worker{dnnl::stream(engine_), dnnl::memory(primitive.src_desc(), engine_),
                    dnnl::memory(primitive.weights_desc(), engine_),
                    dnnl::memory(primitive.dst_desc(), engine_),
                    dnnl::memory(primitive.scratchpad_desc(), engine_)};
      Fill(worker.x, narrow);
      Fill(worker.w, narrow);
      workers_.push_back(std::move(worker));
    }
  }

  // FLOP per second over about `seconds`.
  double Measure(double seconds) {
    const ThreadPool::CallerScope scope(pool_);
    const double one = Seconds([&] { Run(1); });
    const int rounds = std::max(1, static_cast<int>(seconds / one));
    const double flops = 2.0 * kRows * static_cast<double>(inputs_ * outputs_) * pool_.size();
    return flops * rounds / Seconds([&] { Run(rounds); });
  }

 private:
  static constexpr int64_t kRows = 512;
  struct Worker {
    dnnl::stream stream;
    dnnl::memory x, w, y, scratch;
  };

  static void Fill(dnnl::memory& memory, bool narrow) {
    const size_t count = memory.get_desc().get_size() / (narrow ? 2 : 4);
    std::mt19937 random(1);
    for (size_t i = 0; i < count; ++i) {
      const float v = static_cast<float>(random() % 2048) / 1024.0F - 1.0F;
      if (narrow) {
        static_cast<uint16_t*>(memory.get_data_handle())[i] = FloatToBF16(v);
      } else {
        static_cast<float*>(memory.get_data_handle())[i] = v;
      }
    }
  }

  void Run(int rounds) {
    pool_.ParallelFor(pool_.size(), [&](int64_t i, int) {
      Worker& w = workers_[static_cast<size_t>(i)];
      for (int r = 0; r < rounds; ++r) {
        product_.execute(w.stream, {{DNNL_ARG_SRC, w.x},
                                    {DNNL_ARG_WEIGHTS, w.w},
                                    {DNNL_ARG_DST, w.y},
                                    {DNNL_ARG_SCRATCHPAD, w.scratch}});
      }
      w.stream.wait();
    });
  }

  int64_t inputs_;
  int64_t outputs_;
  ThreadPool& pool_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::matmul product_;
  std::vector<Worker> workers_;
};

// Bytes per second of reading a buffer larger than any cache, each worker its own part.
class MemoryRate {
 public:
  explicit MemoryRate(ThreadPool& pool)
      : pool_(pool), buffer_(*HugeBuffer::Allocate(kSize, "rate")) {
    std::fill_n(reinterpret_cast<uint64_t*>(buffer_.data()), kSize.size() / 8, 1);
  }

  double Measure() {
    const ThreadPool::CallerScope scope(pool_);
    constexpr int kRounds = 4;
    const double seconds = Seconds([&] {
      for (int i = 0; i < kRounds; ++i) {
        pool_.ParallelFor(kParts, [&](int64_t part, int) { Read(part); });
      }
    });
    return static_cast<double>(kSize.value()) * kRounds / seconds;
  }

 private:
  static constexpr Bytes kSize = MiB(512);
  static constexpr int64_t kParts = 64;

  void Read(int64_t part) {
    const size_t words = kSize.size() / 8 / kParts;
    const uint64_t* p =
        reinterpret_cast<const uint64_t*>(buffer_.data()) + static_cast<size_t>(part) * words;
    uint64_t sums[16] = {};
    for (size_t i = 0; i < words; i += 16) {
      for (size_t j = 0; j < 16; ++j) sums[j] += p[i + j];
    }
    uint64_t all = 0;
    for (const uint64_t sum : sums) all += sum;
    SLUICE_CHECK(all == words);
  }

  ThreadPool& pool_;
  HugeBuffer buffer_;
};

struct Work {
  double matrix_flops_per_token;  // without lm_head
  double head_flops;
  double weight_bytes;  // read by one decode step
  double kv_bytes_per_token;
};

Work WorkOf(const ModelConfig& c, int64_t element_bytes) {
  const double layer = static_cast<double>(c.hidden) * (2.0 * c.q_dim() + 2.0 * c.kv_dim()) +
                       3.0 * static_cast<double>(c.hidden) * c.intermediate;
  const double head = static_cast<double>(c.hidden) * c.vocab;
  return {2 * layer * c.layers, 2 * head, (layer * c.layers + head) * element_bytes,
          static_cast<double>(c.KvBytesPerToken(element_bytes).value())};
}

// Sequences of one batch and the steps over them.
class Batch {
 public:
  Batch(Backend& backend, const ModelConfig& config, const Flags& flags)
      : backend_(backend), flags_(flags) {
    params_.temperature = 0;
    std::mt19937 random(1);
    const int64_t length = flags.prompt + flags.decode;
    const int64_t blocks = (length + flags.page - 1) / flags.page;
    for (int64_t s = 0; s < flags.batch; ++s) {
      Sequence sequence;
      for (int64_t i = 0; i < length; ++i) {
        sequence.tokens.push_back(
            static_cast<TokenId>(random() % static_cast<unsigned>(config.vocab)));
      }
      for (int64_t b = 0; b < blocks; ++b) {
        sequence.blocks.push_back(BlockId(static_cast<int32_t>(b * flags.batch + s)));
      }
      sequences_.push_back(std::move(sequence));
    }
  }

  void Prefill() {
    for (size_t s = 0; s < sequences_.size(); ++s) {
      for (int64_t first = 0; first < flags_.prompt; first += flags_.chunk) {
        const int64_t count = std::min(flags_.chunk, flags_.prompt - first);
        Step({WorkFor(s, first, count, first + count == flags_.prompt)});
      }
    }
  }

  void Decode() {
    for (int64_t i = 0; i < flags_.decode; ++i) {
      std::vector<SequenceWork> works;
      for (size_t s = 0; s < sequences_.size(); ++s) {
        works.push_back(WorkFor(s, flags_.prompt + i, 1, true));
      }
      Step(std::move(works));
    }
  }

 private:
  struct Sequence {
    std::vector<TokenId> tokens;
    std::vector<BlockId> blocks;
  };

  SequenceWork WorkFor(size_t s, int64_t first, int64_t count, bool sample) const {
    SequenceWork work;
    work.request = RequestId(static_cast<int64_t>(s));
    work.first = Tokens(first);
    work.count = Tokens(count);
    work.tokens = sequences_[s].tokens;
    work.blocks = sequences_[s].blocks;
    work.sample = sample;
    work.sampling = sample ? &params_ : nullptr;
    work.prompt = Tokens(flags_.prompt);
    return work;
  }

  void Step(std::vector<SequenceWork> works) {
    StepPlan plan;
    plan.id = StepId(0);
    plan.sequences = std::move(works);
    SLUICE_CHECK(backend_.Run(plan).status.ok());
  }

  Backend& backend_;
  const Flags& flags_;
  SamplingParams params_;
  std::vector<Sequence> sequences_;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main(const Flags& flags) {
  const auto config = LoadModelConfig(flags.model);
  SLUICE_CHECK(config.ok());
  const auto checkpoint = Checkpoint::Open(flags.model, *config);
  SLUICE_CHECK(checkpoint.ok());
  CpuBackendOptions options;
  options.dtype = flags.dtype == "f32"    ? CpuDType::kF32
                  : flags.dtype == "bf16" ? CpuDType::kBF16
                                          : CpuDType::kAuto;
  options.tokens_per_block = Tokens(flags.page);
  const int64_t length = flags.prompt + flags.decode;
  options.device_blocks = Blocks((length + flags.page - 1) / flags.page * flags.batch);
  options.max_model_len = Tokens(length);
  options.max_step_tokens = Tokens(std::max<int64_t>(flags.chunk, flags.batch));
  options.threads = flags.threads;
  auto backend = CpuBackend::Create(*config, **checkpoint, options);
  SLUICE_CHECK(backend.ok());
  const bool narrow = (*backend)->info().dtype == "bf16";
  const Work work = WorkOf(*config, narrow ? 2 : 4);

  ThreadPool pool(flags.threads, true);
  GemmRate gemm(config->hidden, 2 * int64_t{config->intermediate}, narrow, pool);
  MemoryRate memory(pool);
  Batch batch(**backend, *config, flags);

  const double attention = 4.0 * config->q_dim() * config->layers;  // per query and key
  const auto n = static_cast<double>(flags.prompt);
  const double prefill_flops = flags.batch * (n * work.matrix_flops_per_token + work.head_flops +
                                              attention * n * (n + 1) / 2);
  const double context = n + static_cast<double>(flags.decode + 1) / 2;
  const double decode_bytes = static_cast<double>(flags.decode) *
                              (work.weight_bytes + flags.batch * context * work.kv_bytes_per_token);

  // A decode step can be faster neither than its bytes nor than its products.
  const double decode_flops = static_cast<double>(flags.decode) * flags.batch *
                              (work.matrix_flops_per_token + work.head_flops + attention * context);

  std::vector<double> roofline_ratio;
  std::vector<double> gemm_rates, memory_rates, prefill, decode, prefill_ratio, decode_ratio;
  batch.Prefill();  // warm up: makes the kernels
  batch.Decode();
  for (int i = 0; i < flags.repeat; ++i) {
    gemm_rates.push_back(gemm.Measure(0.3));
    const double prefill_seconds = Seconds([&] { batch.Prefill(); });
    prefill.push_back(flags.batch * n / prefill_seconds);
    prefill_ratio.push_back(prefill_flops / prefill_seconds / gemm_rates.back());
    memory_rates.push_back(memory.Measure());
    const double decode_seconds = Seconds([&] { batch.Decode(); });
    decode.push_back(static_cast<double>(flags.decode) * flags.batch / decode_seconds);
    const double memory_seconds = decode_bytes / memory_rates.back();
    decode_ratio.push_back(memory_seconds / decode_seconds);
    roofline_ratio.push_back(std::max(memory_seconds, decode_flops / gemm_rates.back()) /
                             decode_seconds);
  }
  const auto best = [](const std::vector<double>& v) {
    return *std::max_element(v.begin(), v.end());
  };
  const nlohmann::json report = {
      {"benchmark", "cpu_forward"},
      {"device", (*backend)->info().device},
      {"dtype", (*backend)->info().dtype},
      {"parameters", (*checkpoint)->parameters()},
      {"threads", pool.size()},
      {"batch", flags.batch},
      {"prompt", flags.prompt},
      {"chunk", flags.chunk},
      {"decode", flags.decode},
      {"repeat", flags.repeat},
      {"onednn_gflops", best(gemm_rates) / 1e9},
      {"memory_gbps", best(memory_rates) / 1e9},
      {"prefill_tokens_per_second", {{"best", best(prefill)}, {"median", Median(prefill)}}},
      {"prefill_ratio_of_onednn", Median(prefill_ratio)},
      {"decode_tokens_per_second", {{"best", best(decode)}, {"median", Median(decode)}}},
      {"decode_ratio_of_memory", Median(decode_ratio)},
      {"decode_ratio_of_roofline", Median(roofline_ratio)},
  };
  std::printf("%s\n", report.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::Flags flags;
  CLI::App app("Prefill and decode rates of the CPU backend beside the machine's own");
  app.add_option("--model", flags.model, "Hugging Face model directory")->required();
  app.add_option("--dtype", flags.dtype, "auto, f32 or bf16")->capture_default_str();
  app.add_option("--threads", flags.threads, "0 = one per CPU")->capture_default_str();
  app.add_option("--batch", flags.batch, "sequences decoded together")->capture_default_str();
  app.add_option("--prompt", flags.prompt, "tokens per prompt")->capture_default_str();
  app.add_option("--chunk", flags.chunk, "prompt tokens per step")->capture_default_str();
  app.add_option("--decode", flags.decode, "decode steps")->capture_default_str();
  app.add_option("--page", flags.page, "tokens per KV block")->capture_default_str();
  app.add_option("--repeat", flags.repeat, "measurements of each rate")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return sluice::Main(flags);
}
