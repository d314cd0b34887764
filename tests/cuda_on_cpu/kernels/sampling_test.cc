// Sampling against the sampler of the CPU backend: same logits, same parameters, same tokens.
#include "backend/cuda/kernels/sampling.h"

#include "backend/cpu/sampler.h"
#include "backend/cuda/kernels/logits.h"
#include "backend/cuda/kernels/pick_logits.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

std::vector<int32_t> Sample(const std::vector<float>& logits, const std::vector<SampleRow>& rows) {
  const DeviceValues<float> d_logits(logits);
  const DeviceValues<SampleRow> d_rows(rows);
  const DeviceValues<int32_t> tokens(rows.size());
  const auto count = static_cast<int32_t>(rows.size());
  const TestStream stream;
  EXPECT_EQ(LaunchSample({d_logits.data(), d_rows.data(), tokens.data(), count,
                          static_cast<int32_t>(logits.size() / rows.size())},
                         stream),
            cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  return tokens.Get();
}

SamplingParams ToParams(const SampleRow& row) {
  SamplingParams params;
  params.temperature = row.temperature;
  params.top_p = row.top_p;
  params.top_k = row.top_k;
  params.min_p = row.min_p;
  params.seed = row.seed;
  return params;
}

int32_t CpuToken(std::vector<float> logits, const SampleRow& row) {
  const SamplingParams params = ToParams(row);
  Sampler sampler;
  const auto sampled = sampler.Sample(logits, {&params, {}, 0, row.output_index});
  EXPECT_TRUE(sampled.ok()) << sampled.status();
  return sampled.ok() ? sampled->token : -2;
}

std::vector<float> RandomLogits(size_t vocab, double deviation, bool ties, std::mt19937_64& rng) {
  std::normal_distribution<double> normal(0.0, deviation);
  std::vector<float> logits(vocab);
  for (float& x : logits) {
    x = static_cast<float>(normal(rng));
    if (ties) x = std::round(x);  // many equal logits
  }
  return logits;
}

SampleRow RandomRow(std::mt19937_64& rng) {
  const auto pick = [&](std::initializer_list<double> choices) {
    return static_cast<float>(choices.begin()[rng() % choices.size()]);
  };
  SampleRow row;
  row.temperature = pick({0.0, 0.3, 0.7, 1.0, 1.0, 2.5});
  row.top_p = pick({1.0, 1.0, 0.95, 0.5, 0.01});
  row.min_p = pick({0.0, 0.0, 0.02, 0.5, 1.0});
  row.top_k = static_cast<int32_t>(pick({0, 0, 1, 2, 7, 50, 100000}));
  row.seed = rng();
  row.output_index = static_cast<int64_t>(rng() % 1000);
  return row;
}

class SamplingTest : public KernelTest {};

TEST_F(SamplingTest, DrawsTheTokensOfTheCpuBackend) {
  int drawn_with_cut = 0;
  for (const size_t vocab : {1, 2, 31, 32, 33, 255, 256, 257, 1009, 3001}) {
    for (const bool ties : {false, true}) {
      const uint64_t seed = vocab * 2 + (ties ? 1 : 0);
      SCOPED_TRACE(::testing::Message() << "vocab " << vocab << " seed " << seed);
      Use(ScheduleOf(seed));
      std::mt19937_64 rng(seed);
      std::vector<float> logits;
      std::vector<SampleRow> rows;
      std::vector<int32_t> want;
      for (int r = 0; r < 24; ++r) {
        const std::vector<float> row = RandomLogits(vocab, 0.5 + r % 4, ties, rng);
        logits.insert(logits.end(), row.begin(), row.end());
        rows.push_back(RandomRow(rng));
        want.push_back(CpuToken(row, rows.back()));
        drawn_with_cut += rows.back().top_p < 1 || rows.back().min_p > 0 ? 1 : 0;
      }
      const std::vector<int32_t> got = Sample(logits, rows);
      for (size_t i = 0; i < rows.size(); ++i) {
        EXPECT_EQ(got[i], want[i])
            << "row " << i << " temperature " << rows[i].temperature << " top_p " << rows[i].top_p
            << " top_k " << rows[i].top_k << " min_p " << rows[i].min_p;
      }
    }
  }
  EXPECT_GT(drawn_with_cut, 100);
}

TEST_F(SamplingTest, TheScheduleDoesNotShow) {
  std::mt19937_64 rng(3);
  const std::vector<float> logits = RandomLogits(4 * 500, 1.0, false, rng);
  std::vector<SampleRow> rows;
  for (int i = 0; i < 4; ++i) rows.push_back(RandomRow(rng));
  std::vector<int32_t> first;
  for (const Schedule& schedule : kSchedules) {
    Use(schedule);
    const std::vector<int32_t> tokens = Sample(logits, rows);
    if (first.empty()) first = tokens;
    EXPECT_EQ(tokens, first);
  }
}

TEST_F(SamplingTest, LowestIdWinsTiesAndMinusInfinityIsNeverDrawn) {
  const float none = -std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {none, 2, 2, none, 0.0F, -0.0F, none, none};
  SampleRow greedy;
  greedy.temperature = 0;
  EXPECT_EQ(Sample(logits, {greedy, greedy}), (std::vector<int32_t>{1, 0}));
  SampleRow cold;
  cold.temperature = 1e-30F;
  for (int i = 0; i < 8; ++i) {
    cold.output_index = i;
    const int32_t token = Sample(logits, {cold, cold})[0];
    EXPECT_TRUE(token == 1 || token == 2) << token;
  }
}

TEST_F(SamplingTest, BrokenLogitsGiveNoToken) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float temperature : {0.0F, 1.0F}) {
    SampleRow row;
    row.temperature = temperature;
    const std::vector<float> logits = {0, 1, 2, 0, nan, 2, 0, inf, 2, -inf, -inf, -inf};
    EXPECT_EQ(Sample(logits, {row, row, row, row})[0] >= 0, true);
    const std::vector<int32_t> tokens = Sample(logits, {row, row, row, row});
    EXPECT_EQ(std::vector<int32_t>(tokens.begin() + 1, tokens.end()),
              (std::vector<int32_t>{-1, -1, -1}));
  }
}

TEST_F(SamplingTest, EditsAreTheCpuBackendsPenaltiesAndMasks) {
  std::mt19937_64 rng(5);
  const std::vector<float> logits = RandomLogits(100, 2.0, false, rng);
  SamplingParams params;
  params.temperature = 0;
  params.repetition_penalty = 1.3F;
  params.presence_penalty = 0.4F;
  params.frequency_penalty = 0.25F;
  params.min_tokens = 9;
  params.stop_ids = {3, 7};
  const std::vector<TokenId> tokens = {1, 2, 3, 1, 9, 9, 9, 50};  // prompt 3
  std::vector<LogitEdit> edits;
  for (const TokenId token : {1, 2, 3, 9, 50, 7}) {
    LogitEdit edit;
    edit.token = token;
    edit.repetition = token == 7 ? 1.0F : params.repetition_penalty;
    edit.presence = params.presence_penalty;
    edit.frequency = params.frequency_penalty;
    edit.times = static_cast<int32_t>(std::count(tokens.begin() + 3, tokens.end(), token));
    edit.masked = token == 3 || token == 7 ? 1 : 0;
    edits.push_back(edit);
  }
  const DeviceValues<float> d_logits(logits), before(edits.size());
  const DeviceValues<LogitEdit> d_edits(edits);
  const TestStream stream;
  ASSERT_EQ(LaunchLogitEdits({d_logits.data(), d_edits.data(), before.data(),
                              static_cast<int32_t>(edits.size()), 100},
                             stream),
            cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  std::vector<float> want = logits;
  Sampler sampler;
  ASSERT_TRUE(sampler.Sample(want, {&params, tokens, 3, 4}).ok());
  EXPECT_EQ(d_logits.Get(), want);
  EXPECT_EQ(before.Get()[4], logits[50]);
}

TEST_F(SamplingTest, LogprobsAgreeWithTheCpuBackend) {
  std::mt19937_64 rng(6);
  for (const size_t vocab : {1, 5, 300, 1031}) {
    const int top = static_cast<int>(std::min<size_t>(vocab, 7));
    const std::vector<float> logits = RandomLogits(3 * vocab, 2.0, vocab == 300, rng);
    const DeviceValues<float> d_logits(logits), log_sum(2), logprobs(static_cast<size_t>(2 * top));
    const DeviceValues<int32_t> rows(std::vector<int32_t>{2, 0}),
        tokens(static_cast<size_t>(2 * top));
    const TestStream stream;
    ASSERT_EQ(LaunchLogprobs({d_logits.data(), rows.data(), log_sum.data(), tokens.data(),
                              logprobs.data(), 2, top, static_cast<int32_t>(vocab)},
                             stream),
              cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
    for (size_t i = 0; i < 2; ++i) {
      std::vector<float> row(logits.begin() + static_cast<int64_t>((i == 0 ? 2 : 0) * vocab),
                             logits.begin() + static_cast<int64_t>((i == 0 ? 3 : 1) * vocab));
      SamplingParams params;
      params.temperature = 0;
      params.logprobs = top;
      Sampler sampler;
      const auto want = sampler.Sample(row, {&params, {}, 0, 0});
      ASSERT_TRUE(want.ok());
      for (size_t t = 0; t < static_cast<size_t>(top); ++t) {
        const size_t at = i * static_cast<size_t>(top) + t;
        EXPECT_EQ(tokens.Get()[at], want->top[t].token);
        EXPECT_NEAR(logprobs.Get()[at], want->top[t].logprob, 1e-5);
      }
      EXPECT_NEAR(row[static_cast<size_t>(want->token)] - log_sum.Get()[i], want->logprob, 1e-5);
    }
  }
}

TEST_F(SamplingTest, MemoryAccessesAreCoalesced) {
  std::mt19937_64 rng(8);
  const std::vector<float> logits = RandomLogits(1024, 1.0, false, rng);
  SampleRow row;
  row.top_p = 0.9F;
  row.top_k = 40;
  cuda_emu::CountAccesses(true);
  Sample(logits, {row});
  ExpectNoWaste("global read", 1.0);
  ExpectNoWaste("shared read", 2.0);  // 1 but for the 256 fine masses of 8 bytes
  cuda_emu::CountAccesses(false);
}

TEST_F(SamplingTest, EditsAndLogprobsAreCoalesced) {
  std::mt19937_64 rng(9);
  const std::vector<float> logits = RandomLogits(2 * 1024, 1.0, false, rng);
  std::vector<LogitEdit> edits(64);
  for (size_t i = 0; i < edits.size(); ++i) {
    edits[i].token = static_cast<int32_t>(8 * 7 + i);
    edits[i].presence = 0.5F;
    edits[i].times = 1;
  }
  const DeviceValues<float> d_logits(logits), log_sum(1), logprobs(5);
  const DeviceValues<LogitEdit> d_edits(edits);
  const DeviceValues<int32_t> rows(std::vector<int32_t>{1}), tokens(5);
  const TestStream stream;
  cuda_emu::CountAccesses(true);
  ASSERT_EQ(LaunchLogitEdits({d_logits.data(), d_edits.data(), nullptr, 64, 1024}, stream),
            cudaSuccess);
  ASSERT_EQ(LaunchLogprobs({d_logits.data(), rows.data(), log_sum.data(), tokens.data(),
                            logprobs.data(), 1, 5, 1024},
                           stream),
            cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  ExpectNoWaste("global read", 1.0);
  ExpectNoWaste("global write", 1.0);
  cuda_emu::CountAccesses(false);
}

TEST_F(SamplingTest, LogitsArePickedByTokenAndUnknownTokensGiveZero) {
  std::mt19937_64 rng(10);
  const int vocab = 37, count = 257;  // one past a block
  const std::vector<float> logits = RandomLogits(count * vocab, 1.0, false, rng);
  std::vector<int32_t> tokens;
  std::vector<float> want;
  for (int i = 0; i < count; ++i) {
    tokens.push_back(i % 9 == 0 ? -1 : i % 7 == 0 ? vocab : static_cast<int32_t>(rng() % vocab));
    const bool known = tokens.back() >= 0 && tokens.back() < vocab;
    want.push_back(known ? logits[static_cast<size_t>(i * vocab + tokens.back())] : 0.0F);
  }
  const DeviceValues<float> d_logits(logits), out(count);
  const DeviceValues<int32_t> d_tokens(tokens);
  const TestStream stream;
  cuda_emu::CountAccesses(true);
  ASSERT_EQ(LaunchPickLogits({d_logits.data(), d_tokens.data(), out.data(), count, vocab}, stream),
            cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(out.Get(), want);
  ExpectNoWaste("global write", 1.0);
  ExpectNoWaste("global read", 8.0);  // a sector each: one logit of every row
  cuda_emu::CountAccesses(false);
}

TEST_F(SamplingTest, NothingToDoLaunchesNothing) {
  const uint64_t launches = cuda_emu::CurrentCounts().launches;
  EXPECT_EQ(LaunchSample({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchLogitEdits({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchLogprobs({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchPickLogits({}, nullptr), cudaSuccess);
  EXPECT_EQ(cuda_emu::CurrentCounts().launches, launches);
}

}  // namespace
}  // namespace sluice::cuda
