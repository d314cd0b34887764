#include "tests/gpu/bench_kernels.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "backend/cuda/kernels/attention_plan.h"
#include "backend/cuda/kernels/embedding.h"
#include "backend/cuda/kernels/gated_activation.h"
#include "backend/cuda/kernels/gemm_engine.h"
#include "backend/cuda/kernels/logits.h"
#include "backend/cuda/kernels/mla_attention.h"
#include "backend/cuda/kernels/rms_norm.h"
#include "backend/cuda/kernels/rope_kv_write.h"
#include "backend/cuda/kernels/sampling.h"
#if !defined(SLUICE_CUDA_EMU)
#include "backend/cuda/kernels/cublaslt_gemm.h"
#endif

namespace sluice::cuda {
namespace {

using Where = BenchMemory::Where;

constexpr double kHalfBytes = 2;

// The engine that the server would use.
std::unique_ptr<GemmEngine> MakeEngine() {
#if !defined(SLUICE_CUDA_EMU)
  if (auto engine = MakeCublasLtGemmEngine(Bytes(32 << 20)); engine.ok()) {
    return std::move(*engine);
  }
#endif
  return MakePlainGemmEngine();
}

class KernelBench {
 public:
  KernelBench(bool quick, DeviceLimits* limits)
      : quick_(quick), rounds_(quick ? 1 : 9), limits_(limits) {
    int device = 0;
    Must(cudaGetDevice(&device), "current device");
    Must(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device),
         "multiprocessors");
  }

  std::vector<BenchRow> Run() {
    Products();
    Attention("attention decode", Sequences(quick_ ? 2 : 32, quick_ ? 100 : 4096, 1),
              KvType::kHalf);
    Attention("attention decode, fp8 KV", Sequences(quick_ ? 2 : 32, quick_ ? 100 : 4096, 1),
              KvType::kFp8E4m3);
    Attention("attention decode, one long sequence", Sequences(1, quick_ ? 200 : 65536, 1),
              KvType::kHalf);
    Attention("attention prefill", Sequences(1, quick_ ? 30 : 4096, quick_ ? 40 : 4096),
              KvType::kHalf);
    Mla();
    Rows();
    Rope();
    Sampling();
    return std::move(rows_);
  }

 private:
  struct Shape {
    int tokens_before, count;
  };
  static std::vector<Shape> Sequences(int n, int before, int count) {
    return std::vector<Shape>(static_cast<size_t>(n), Shape{before, count});
  }

  // Bound by memory unless FLOPs are named.
  void Add(const std::string& name, double bytes, double flops,
           const std::function<void()>& enqueue) {
    BenchRow row;
    row.section = "kernel";
    row.name = name;
    row.seconds = TimeOf(stream_, rounds_, enqueue);
    row.bytes = bytes;
    row.flops = flops;
    if (flops > 0 && limits_->product_rate > 0) {
      row.ratio = flops / row.seconds / limits_->product_rate;
      row.limit = "of the matrix product's rate";
    } else if (limits_->memory_rate > 0) {
      row.ratio = bytes / row.seconds / limits_->memory_rate;
      row.limit = "of the device's copy rate";
    }
    rows_.push_back(row);
  }

  void Product(GemmEngine& engine, int m, int n, int k, bool compute) {
    const auto size = [](int a, int b) { return static_cast<size_t>(a) * static_cast<size_t>(b); };
    const BenchMemory a(Where::kDevice, 2 * size(m, k)), b(Where::kDevice, 2 * size(n, k)),
        c(Where::kDevice, 2 * size(m, n));
    GemmParams params{a.data(), k, b.data(), nullptr, c.data(), false, m, n, k};
    const double flops = 2.0 * m * n * k;
    Add(absl::StrCat("product ", m, " x ", n, " x ", k, " by ", std::string(engine.name())),
        kHalfBytes * (static_cast<double>(size(m, k)) + static_cast<double>(size(n, k)) +
                      static_cast<double>(size(m, n))),
        compute ? flops : 0, [&] {
          if (!engine.Run(params, stream_.get()).ok()) Must(cudaErrorUnknown, "matrix product");
        });
    if (compute && limits_->product_rate == 0) {
      limits_->product_rate = flops / rows_.back().seconds;
      rows_.back().ratio = 0;
      rows_.back().limit.clear();
    }
  }

  void Products() {
    const std::unique_ptr<GemmEngine> engine = MakeEngine();
    const std::unique_ptr<GemmEngine> plain = MakePlainGemmEngine();
    const int large = quick_ ? 64 : 4096;
    Product(*engine, large, large, large, true);
    Product(*engine, 16, quick_ ? 64 : 14336, large, false);
    Product(*plain, large, large, large, true);
    Product(*plain, 16, quick_ ? 64 : 14336, large, false);
  }

  // Llama 3.1 8B: 32 heads, 8 of K and V, 128 dimensions.
  void Attention(const std::string& name, const std::vector<Shape>& shapes, KvType kv) {
    const int heads = quick_ ? 4 : 32, kv_heads = quick_ ? 1 : 8, dim = 128, block = 16;
    const KvPageShape page{kv_heads, dim, block, kv, 64};
    std::vector<AttentionSequence> sequences;
    std::vector<int32_t> table;
    int tokens = 0;
    double pairs = 0, kv_tokens = 0;
    for (const auto& [before, count] : shapes) {
      sequences.push_back({tokens, count, before, static_cast<int32_t>(table.size())});
      for (int t = 0; t < before + count; t += block) {
        table.push_back(static_cast<int32_t>(table.size()));
      }
      tokens += count;
      kv_tokens += before + count;
      pairs += static_cast<double>(count) * (before + (count + 1) / 2.0);
    }
    AttentionPlanOptions options;
    options.heads = heads;
    options.kv_heads = kv_heads;
    options.multiprocessors = multiprocessors_;
    const AttentionPlan plan = PlanAttention(sequences, options);
    const auto row = static_cast<size_t>(heads * dim);
    const auto partial_rows = static_cast<size_t>(plan.partial_rows) + 1;
    const BenchMemory q(Where::kDevice, static_cast<size_t>(tokens) * row * 2),
        out(Where::kDevice, static_cast<size_t>(tokens) * row * 2),
        pool(Where::kDevice, table.size() * static_cast<size_t>(page.page_bytes())),
        partial(Where::kDevice, partial_rows * row * 4),
        lse(Where::kDevice, partial_rows * static_cast<size_t>(heads) * 4);
    const BenchArray<int32_t> d_table(table);
    const BenchArray<AttentionWork> decode(plan.decode), prefill(plan.prefill);
    const BenchArray<AttentionMerge> merges(plan.merges);
    AttentionParams params;
    params.q = q.data();
    params.q_stride = static_cast<int64_t>(row);
    params.out = out.data();
    params.partial = partial.data<float>();
    params.lse = lse.data<float>();
    params.views[0] = MakeKvView(page, pool.data(), page.page_bytes(), d_table.get());
    params.heads = heads;
    params.kv_heads = kv_heads;
    params.head_dim = dim;
    params.scale = 0.088F;
    params.kv = kv;
    AttentionMergeParams merge;
    merge.partial = partial.data<float>();
    merge.lse = lse.data<float>();
    merge.merges = merges.get();
    merge.merge_count = static_cast<int32_t>(plan.merges.size());
    merge.heads = heads;
    merge.dim = dim;
    merge.out = out.data();
    const double bytes = kv_tokens / block * static_cast<double>(page.page_bytes()) +
                         2.0 * tokens * static_cast<double>(row) * kHalfBytes;
    const double flops = plan.prefill.empty() ? 0 : 4.0 * pairs * static_cast<double>(row);
    Add(name, bytes, flops, [&] {
      params.works = decode.get();
      params.work_count = static_cast<int32_t>(plan.decode.size());
      Must(LaunchDecodeAttention(params, stream_.get()), "decode attention");
      params.works = prefill.get();
      params.work_count = static_cast<int32_t>(plan.prefill.size());
      Must(LaunchPrefillAttention(params, stream_.get()), "prefill attention");
      Must(LaunchAttentionMerge(merge, stream_.get()), "merge");
    });
  }

  // DeepSeek-V2: 128 heads over one latent row per token.
  void Mla() {
    const int heads = quick_ ? 16 : 128, sequences = quick_ ? 1 : 32, before = quick_ ? 50 : 4096,
              block = 64;
    const int blocks = before / block + 1;
    std::vector<AttentionWork> works;
    std::vector<int32_t> table;
    for (int s = 0; s < sequences; ++s) {
      AttentionWork work;
      work.query = s;
      work.count = 1;
      work.position = before;
      work.kv_end = before + 1;
      work.blocks = s * blocks;
      work.partial = s;
      works.push_back(work);
      for (int b = 0; b < blocks; ++b) table.push_back(s * blocks + b);
    }
    const auto rows = static_cast<size_t>(sequences * heads);
    const BenchMemory q(Where::kDevice, rows * kMlaRow * 2),
        out(Where::kDevice, rows * kMlaLatent * 2),
        pool(Where::kDevice, table.size() * block * kMlaRow * 2),
        scratch(Where::kDevice, rows * kMlaLatent * 4);
    const BenchArray<int32_t> d_table(table);
    const BenchArray<AttentionWork> d_works(works);
    MlaAttentionParams params;
    params.q = q.data();
    params.out = out.data();
    params.partial = scratch.data<float>();
    params.works = d_works.get();
    params.work_count = sequences;
    params.views[0].data = pool.data();
    params.views[0].blocks = d_table.get();
    params.views[0].token_stride = kMlaRow * 2;
    params.views[0].block_stride = int64_t{block} * kMlaRow * 2;
    params.views[0].block_tokens = MakeFastDivisor(block);
    params.heads = heads;
    params.scale = 0.07F;
    const double pairs = static_cast<double>(sequences) * (before + 1) * heads;
    Add("latent attention decode", static_cast<double>(sequences) * before * kMlaRow * kHalfBytes,
        2.0 * pairs * (kMlaRow + kMlaLatent),
        [&] { Must(LaunchMlaAttention(params, stream_.get()), "latent attention"); });
  }

  void Rows() {
    const int tokens = quick_ ? 3 : 4096, hidden = quick_ ? 128 : 4096,
              width = quick_ ? 192 : 14336;
    const auto n = static_cast<size_t>(tokens);
    const BenchMemory residual(Where::kDevice, n * static_cast<size_t>(hidden) * 4),
        delta(Where::kDevice, n * static_cast<size_t>(hidden) * 2),
        out(Where::kDevice, n * static_cast<size_t>(width) * 2),
        gate_up(Where::kDevice, n * static_cast<size_t>(width) * 4);
    RmsNormParams norm;
    norm.residual = residual.data<float>();
    norm.delta = delta.data();
    norm.weight = delta.data();
    norm.out = out.data();
    norm.count = tokens;
    norm.hidden = hidden;
    Add("rms norm with addition", 12.0 * tokens * hidden, 0,
        [&] { Must(LaunchRmsNorm(norm, stream_.get()), "rms norm"); });
    const GatedActivationParams gated{gate_up.data(), nullptr, out.data(), tokens, width};
    Add("gated activation", 6.0 * tokens * width, 0,
        [&] { Must(LaunchGatedActivation(gated, stream_.get()), "gated activation"); });
    const BenchArray<int32_t> ids(std::vector<int32_t>(n, 1));
    const EmbeddingParams embedding{delta.data(), ids.get(), residual.data<float>(), tokens,
                                    hidden};
    Add("embedding", 6.0 * tokens * hidden, 0,
        [&] { Must(LaunchEmbedding(embedding, stream_.get()), "embedding"); });
  }

  void Rope() {
    const int tokens = quick_ ? 5 : 4096, heads = quick_ ? 4 : 32, kv_heads = quick_ ? 1 : 8;
    const int dim = 128, rows = heads + 2 * kv_heads;
    const auto n = static_cast<size_t>(tokens);
    std::vector<int32_t> positions(n), slots(n);
    for (size_t i = 0; i < n; ++i) slots[i] = positions[i] = static_cast<int32_t>(i);
    for (const KvType kv : {KvType::kHalf, KvType::kFp8E4m3}) {
      const KvPageShape page{kv_heads, dim, 16, kv, 64};
      const BenchMemory qkv(Where::kDevice, n * static_cast<size_t>(rows * dim) * 2),
          q(Where::kDevice, n * static_cast<size_t>(heads * dim) * 2),
          rotation(Where::kDevice, n * dim * 4),
          pool(Where::kDevice, (n / 16 + 1) * static_cast<size_t>(page.page_bytes()));
      const BenchArray<int32_t> d_positions(positions), d_slots(slots);
      RopeKvWriteParams params;
      params.qkv = qkv.data();
      params.rotation = rotation.data<float2>();
      params.positions = d_positions.get();
      params.slots = d_slots.get();
      params.q = q.data();
      params.pool = MakeKvView(page, pool.data(), page.page_bytes(), nullptr);
      params.tokens = tokens;
      params.heads = heads;
      params.kv_heads = kv_heads;
      params.head_dim = dim;
      params.kv = kv;
      const double written = heads * dim * kHalfBytes + static_cast<double>(page.page_bytes()) / 16;
      Add(kv == KvType::kHalf ? "rope and KV write" : "rope and fp8 KV write",
          tokens * (rows * dim * kHalfBytes + written), 0,
          [&] { Must(LaunchRopeKvWrite(params, stream_.get()), "rope and KV write"); });
    }
  }

  void Sampling() {
    const int count = quick_ ? 2 : 64, vocab = quick_ ? 500 : 128256;
    const BenchMemory logits(Where::kDevice,
                             static_cast<size_t>(count) * static_cast<size_t>(vocab) * 4),
        tokens(Where::kDevice, 4096);
    for (const bool cut : {false, true}) {
      SampleRow row;
      row.top_k = cut ? 50 : 0;
      row.top_p = cut ? 0.9F : 1.0F;
      const BenchArray<SampleRow> rows(std::vector<SampleRow>(static_cast<size_t>(count), row));
      const SampleParams params{logits.data<float>(), rows.get(), tokens.data<int32_t>(), count,
                                vocab};
      Add(cut ? "sampling, top_k 50, top_p 0.9" : "sampling", 4.0 * count * vocab, 0,
          [&] { Must(LaunchSample(params, stream_.get()), "sampling"); });
    }
  }

  const bool quick_;
  const int rounds_;
  DeviceLimits* const limits_;
  int multiprocessors_ = 1;
  const BenchStream stream_;
  std::vector<BenchRow> rows_;
};

}  // namespace

std::vector<BenchRow> BenchKernels(bool quick, DeviceLimits* limits) {
  return KernelBench(quick, limits).Run();
}

}  // namespace sluice::cuda
