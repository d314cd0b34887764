#include "tests/cuda_on_cpu/backend/fault_world.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "cuda_emu/control.h"

namespace sluice::cuda {
namespace {

using testing::RandomTokens;
using testing::Sequence;

constexpr int32_t kVocab = 96;
constexpr int kBlockTokens = 16;

testing::RandomModelSpec Spec() {
  testing::RandomModelSpec spec;
  spec.head_dim = 32;
  spec.vocab = kVocab;
  spec.dtype = DType::kBF16;
  return spec;
}

SamplingParams Drawn(uint64_t seed) {
  SamplingParams params;
  params.temperature = 1.3F;
  params.seed = seed;
  params.logprobs = 2;
  return params;
}

// Four sequences that use every option of the sampler between them.
std::vector<SamplingParams> EveryOption() {
  std::vector<SamplingParams> all(4, Drawn(7));
  all[0] = testing::Greedy(5);
  all[1].top_k = 8;
  all[1].top_p = 0.9F;
  all[2].min_p = 0.02F;
  all[2].logprobs = -1;
  all[3].repetition_penalty = 1.2F;
  all[3].presence_penalty = 0.5F;
  all[3].frequency_penalty = 0.3F;
  all[3].min_tokens = 4;
  all[3].stop_ids = {1, 2, 3};
  return all;
}

}  // namespace

void ResetFaultMachine(uint64_t seed) {
  cuda_emu::Config config;
  config.seed = seed;
  config.streams = cuda_emu::Streams::kThreads;
  config.kernel_us = 0;
  config.multiprocessors = 4;  // buffers for split attention are sized by them
  cuda_emu::Reset(config);
}

std::string FaultOutcome::Text() const {
  std::string text = failures.empty() ? "no failure" : "failures:";
  for (const absl::Status& status : failures) absl::StrAppend(&text, "\n  ", status.ToString());
  return text;
}

// Tells one story.
class FaultTeller {
 public:
  FaultTeller(FaultWorld& world, FaultOutcome& out)
      : world_(world), backend_(*world.backend_), out_(out) {}
  ~FaultTeller() { WaitForCopies(); }
  FaultTeller(const FaultTeller&) = delete;
  FaultTeller& operator=(const FaultTeller&) = delete;

  void Tell(FaultStory story) {
    switch (story) {
      case FaultStory::kChunks:
        return Chunks();
      case FaultStory::kSampler:
        return Sampler();
      case FaultStory::kSwap:
        return Swap();
      case FaultStory::kInPlace:
        return InPlace();
      case FaultStory::kRevoke:
        return Revoke();
      case FaultStory::kAhead:
        return Ahead();
      case FaultStory::kShort:
        return Short();
    }
  }

 private:
  // The second step computes what the first one draws.
  void Ahead() {
    if (backend_.info().max_steps_in_flight < 2) return;
    Sequence a = MakeSequence(5, 0);
    Sequence b = MakeSequence(18, 4);
    StepPlan first;
    first.id = StepId(1);
    first.sequences = {a.Work(64), b.Work(64)};
    StepPlan second;
    second.id = StepId(2);
    for (const Sequence* s : {&a, &b}) {
      SequenceWork work = s->Work(64);
      work.first = Tokens(s->prompt);
      work.count = Tokens(1);
      work.output_index = 1;
      work.previous_row = static_cast<int32_t>(second.sequences.size());
      second.sequences.push_back(work);
    }
    backend_.Launch(first);
    backend_.Launch(second);
    const StepResult results[] = {backend_.Wait(), backend_.Wait()};
    const bool ok = Take("first", {&a, &b}, first.sequences, results[0]);
    EXPECT_TRUE(ok || !results[1].status.ok()) << "a step went on behind one that failed";
    Take("second", {&a, &b}, second.sequences, results[1]);
  }

  void Short() {
    Sequence s = MakeSequence(3, 5);
    Step("short", {&s}, 64);
  }

  void Chunks() {
    Sequence s = MakeSequence(20, 0);
    while (s.tokens.size() < 22 && Step("chunk", {&s}, 16)) {
    }
  }

  void Sampler() {
    std::vector<Sequence> sequences;
    for (const SamplingParams& params : EveryOption()) {
      const auto i = static_cast<int32_t>(sequences.size());
      sequences.push_back(MakeSequence(3 + i, 3 * i));
      sequences.back().params = params;
    }
    std::vector<Sequence*> all;
    for (Sequence& s : sequences) all.push_back(&s);
    for (int i = 0; i < 2 && Step("batch", all, 64); ++i) {
    }
  }

  void Swap() {
    Sequence s = MakeSequence(33, 0);
    if (!Step("before", {&s}, 64)) return;
    if (!CopyAndWait(LinkDirection::kDeviceToHost,
                     {{s.blocks[0], BlockId(9)}, {s.blocks[1], BlockId(4)}})) {
      return;
    }
    s.blocks[0] = BlockId(12);
    s.blocks[1] = BlockId(15);
    s.loads = {Start(LinkDirection::kHostToDevice, {{BlockId(9), BlockId(12)}}),
               Start(LinkDirection::kHostToDevice, {{BlockId(4), BlockId(15)}})};
    Sequence other = MakeSequence(3, 18);
    if (!Step("waiting", {&s, &other}, 64)) return;
    s.loads.clear();
    if (WaitForCopies()) Step("after", {&s, &other}, 64);
  }

  void InPlace() {
    Sequence s = MakeSequence(18, 0);
    if (!Step("before", {&s}, 64)) return;
    if (!CopyAndWait(LinkDirection::kDeviceToHost, {{s.blocks[0], BlockId(3)}})) return;
    s.host_blocks = {BlockId(3)};
    s.blocks[0] = BlockId();
    for (int i = 0; i < 2 && Step("in place", {&s}, 64); ++i) {
    }
  }

  void Revoke() {
    Sequence s = MakeSequence(17, 0);
    if (!Step("before", {&s}, 64)) return;
    const CopyId store = Start(LinkDirection::kDeviceToHost, {{s.blocks[0], BlockId(7)}});
    const CopyId load = Start(LinkDirection::kHostToDevice, {{BlockId(11), BlockId(20)}});
    const CopyId revoked[] = {store, load};
    revoked_.insert(store);
    revoked_.insert(load);
    backend_.RevokeCopies(revoked);
    Step("beside", {&s}, 64);
  }

  static Sequence MakeSequence(int tokens, int32_t first_block) {
    Sequence s = testing::MakeSequence(RandomTokens(tokens, kVocab, 5), first_block, 4);
    s.params = testing::Greedy(2);
    return s;
  }

  bool Fail(const absl::Status& status) {
    out_.failures.push_back(status);
    return false;
  }

  // One step of all sequences, each `chunk` tokens at most. False if anything of it failed.
  bool Step(const std::string& name, const std::vector<Sequence*>& sequences, int64_t chunk) {
    std::vector<SequenceWork> works;
    for (const Sequence* s : sequences) works.push_back(s->Work(chunk));
    return Take(name, sequences, works, testing::RunStep(backend_, works));
  }

  bool Take(const std::string& name, const std::vector<Sequence*>& sequences,
            const std::vector<SequenceWork>& works, const StepResult& result) {
    const std::string place = absl::StrCat(name, " ", steps_++, " sequence ");
    if (!result.status.ok()) return Fail(result.status);
    bool ok = true;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const SequenceResult& part = result.sequences[i];
      if (!part.status.ok()) {
        ok = Fail(part.status);
        continue;
      }
      sequences[i]->computed += works[i].count.value();
      if (!part.sampled.has_value()) continue;
      sequences[i]->tokens.push_back(part.sampled->token);
      Note(absl::StrCat(place, i), *part.sampled);
    }
    return ok;
  }

  void Note(const std::string& place, const SampledToken& sampled) {
    std::vector<double>& said = out_.said[place];
    said = {static_cast<double>(sampled.token), static_cast<double>(sampled.logprob)};
    for (const TokenLogprob& top : sampled.top) {
      said.push_back(static_cast<double>(top.token));
      said.push_back(static_cast<double>(top.logprob));
    }
  }

  CopyId Start(LinkDirection direction, std::vector<Copy::Pair> blocks) {
    Copy copy;
    copy.id = CopyId(++world_.copies_);
    copy.direction = direction;
    copy.blocks = std::move(blocks);
    started_.insert(copy.id);
    backend_.StartCopies({&copy, 1});
    return copy.id;
  }

  bool CopyAndWait(LinkDirection direction, std::vector<Copy::Pair> blocks) {
    Start(direction, std::move(blocks));
    return WaitForCopies();
  }

  // Until each copy has had its one result.
  bool WaitForCopies() {
    bool ok = true;
    while (!started_.empty()) {
      {
        std::unique_lock<std::mutex> lock(world_.mu_);
        world_.called_.wait(lock, [this] { return world_.news_; });
        world_.news_ = false;
      }
      for (const CopyResult& result : backend_.TakeFinishedCopies()) {
        EXPECT_EQ(started_.erase(result.id), 1u) << "copy " << result.id.value();
        const bool cancelled = revoked_.contains(result.id) && absl::IsCancelled(result.status);
        if (!result.status.ok() && !cancelled) ok = Fail(result.status);
      }
    }
    return ok;
  }

  FaultWorld& world_;
  Backend& backend_;
  FaultOutcome& out_;
  int steps_ = 0;
  absl::flat_hash_set<CopyId> started_;
  absl::flat_hash_set<CopyId> revoked_;
};

FaultWorld::FaultWorld(KvCodecKind codec) : model_(Spec()), codec_(codec) {}

absl::Status FaultWorld::Start() {
  CudaBackendOptions options;
  options.tokens_per_block = Tokens(kBlockTokens);
  options.device_blocks = Blocks(24);
  options.host_blocks = Blocks(16);
  options.host_codec = codec_;
  options.max_model_len = Tokens(64);
  options.max_step_tokens = Tokens(128);
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      CudaBackend::Create(model_.config(), model_.checkpoint(), options);
  if (!backend.ok()) return backend.status();
  backend_ = *std::move(backend);
  news_ = false;
  backend_->SetCopyListener([this] {
    const std::lock_guard<std::mutex> lock(mu_);
    news_ = true;
    called_.notify_all();
  });
  return absl::OkStatus();
}

FaultOutcome FaultWorld::Tell(FaultStory story) {
  FaultOutcome outcome;
  {
    FaultTeller teller(*this, outcome);
    teller.Tell(story);
  }  // which waits for what is left
  return outcome;
}

}  // namespace sluice::cuda
