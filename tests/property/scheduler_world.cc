#include "tests/property/scheduler_world.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/property/content.h"

namespace sluice::testing {
SchedulerWorld::SchedulerWorld(const WorldOptions& options, uint64_t seed)
    : options_(options),
      width_(options.scheduler.geometry.tokens_per_block.size()),
      rng_(seed),
      scheduler_(options.scheduler, options.block_hash),
      now_(absl::UnixEpoch()),
      device_(options.scheduler.device_blocks.size(), Slots(width_, kGarbage)),
      host_(options.scheduler.host_blocks.size(), Slots(width_, kGarbage)),
      disk_(options.scheduler.disk_blocks.size(), Slots(width_, kGarbage)) {}

void SchedulerWorld::Fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}

void SchedulerWorld::Note(uint64_t value) { trace_ = MixContent(trace_, value); }

std::string SchedulerWorld::Run() {
  for (int i = 0; i < options_.actions && failure_.empty(); ++i) Act();
  if (failure_.empty()) Drain();
  final_stats_ = scheduler_.stats();
  return failure_;
}

void SchedulerWorld::Act() {
  now_ += absl::Milliseconds(Pick(0, 3));
  if (Chance(options_.cancels)) return CancelSome();
  if (Chance(options_.control)) return Chance(0.7) ? Warm() : Evict();
  switch (Pick(0, 5)) {
    case 0:
      return Submit();
    case 1:
      if (copies_.empty()) return;
      return FinishCopy(static_cast<size_t>(Pick(0, static_cast<int64_t>(copies_.size()) - 1)));
    default:
      return PlanOrCommit();
  }
}

// ---- Requests --------------------------------------------------------------------------------

std::vector<TokenId> SchedulerWorld::RandomPrompt() {
  int64_t length = Pick(1, options_.max_prompt);
  std::vector<TokenId> prompt;
  if (!requests_.empty() && Chance(0.5)) {  // the next turn of a conversation, or the same again
    prompt = std::next(requests_.begin(), Pick(0, static_cast<int64_t>(requests_.size()) - 1))
                 ->second.tokens;
    if (Chance(0.5)) {
      length = std::min(int64_t{options_.max_prompt}, static_cast<int64_t>(prompt.size()) + 1);
    }
    prompt.resize(std::min(prompt.size(), static_cast<size_t>(length)));
  }
  const int64_t shared = Chance(0.5) ? length : Pick(0, length);
  std::mt19937_64 family(static_cast<uint64_t>(Pick(0, options_.families - 1)));
  for (int64_t i = static_cast<int64_t>(prompt.size()); i < length; ++i) {
    const uint64_t draw = i < shared ? family() : rng_();
    prompt.push_back(static_cast<TokenId>(draw % static_cast<uint64_t>(options_.vocabulary)));
  }
  return prompt;
}

void SchedulerWorld::Append(Request* request, TokenId token) const {
  const uint64_t before =
      request->content.empty() ? MixContent(77, request->salt) : request->content.back();
  request->tokens.push_back(token);
  request->content.push_back(MixContent(before, static_cast<uint64_t>(token) + 1));
}

TokenId SchedulerWorld::Draw(const Request& request, int64_t index) const {
  return static_cast<TokenId>((MixContent(request.seed, static_cast<uint64_t>(index)) >> 7) %
                              static_cast<uint64_t>(options_.vocabulary));
}

void SchedulerWorld::Submit() {
  RequestSpec spec;
  spec.id = RequestId(next_request_);
  spec.prompt = RandomPrompt();
  spec.max_new = Tokens(Pick(1, options_.max_new));
  spec.priority = static_cast<int32_t>(Pick(0, options_.priorities - 1));
  spec.cache_salt = static_cast<uint64_t>(Pick(0, options_.salts - 1));
  auto sampling = std::make_shared<SamplingParams>();
  sampling->seed = static_cast<uint64_t>(Pick(0, 2));
  if (Chance(0.3)) sampling->stop_ids.push_back(static_cast<TokenId>(options_.vocabulary - 1));
  spec.sampling = sampling;
  if (Chance(options_.deadlines)) {
    spec.first_token_deadline = now_ + absl::Milliseconds(Pick(0, 60));
  }
  Request request;
  request.prompt = spec.prompt.size();
  request.max_new = spec.max_new.value();
  request.salt = spec.cache_salt;
  request.stop_ids = sampling->stop_ids;
  request.seed = sampling->seed;
  for (const TokenId token : spec.prompt) Append(&request, token);

  const SchedulerOptions& o = options_.scheduler;
  const Tokens length(static_cast<int64_t>(spec.prompt.size()) + request.max_new);
  const bool never = length > o.max_model_len || o.geometry.BlocksFor(length) > o.device_blocks;
  const bool full = scheduler_.stats().waiting >= o.queue_limit;
  const absl::StatusCode want = never  ? absl::StatusCode::kInvalidArgument
                                : full ? absl::StatusCode::kResourceExhausted
                                       : absl::StatusCode::kOk;
  const RequestId id = spec.id;
  const bool due = spec.first_token_deadline != absl::InfiniteFuture() && o.refuse_late;
  const absl::Status got = scheduler_.Submit(std::move(spec), now_);
  const bool too_late = want == absl::StatusCode::kOk && due && absl::IsResourceExhausted(got);
  if (got.code() != want && !too_late) return Fail(absl::StrCat("Submit: ", got.ToString()));
  if (got.ok()) {
    requests_.emplace(id, std::move(request));
    ++next_request_;
  }
  AfterCall();
}

void SchedulerWorld::CancelSome() {
  const RequestId id(Pick(0, next_request_));
  if (const auto it = requests_.find(id); it != requests_.end()) {
    it->second.cancelled = !it->second.ended;
  }
  scheduler_.Cancel(id, now_);
  AfterCall();
  if (const auto it = requests_.find(id); it != requests_.end() && !it->second.ended) {
    Fail(absl::StrCat("request ", id.value(), " was cancelled but did not end"));
  }
}

// ---- Steps -----------------------------------------------------------------------------------

void SchedulerWorld::PlanOrCommit() {
  if (steps_.empty()) return Plan();
  if (steps_.size() == 1 && options_.ahead > 0 && Chance(options_.ahead)) return PlanAhead();
  Commit();
}

void SchedulerWorld::Plan() {
  StepPlan plan = scheduler_.PlanStep(now_);
  Note(static_cast<uint64_t>(plan.id.value()));
  Begin(std::move(plan));
}

void SchedulerWorld::PlanAhead() {
  StepPlan plan = scheduler_.PlanAhead(now_);
  if (plan.sequences.empty()) {
    if (!plan.copies.empty() || !plan.revoked.empty()) Fail("an empty plan ahead moves blocks");
    AfterCall();
    return Commit();
  }
  Note(static_cast<uint64_t>(plan.id.value()) + 7);
  for (const Copy& copy : plan.copies) {
    if (copy.direction == LinkDirection::kHostToDevice) Fail("a load is planned ahead");
  }
  Begin(std::move(plan));
}

void SchedulerWorld::Begin(StepPlan plan) {
  RevokeCopies(plan);
  for (const Copy& copy : plan.copies) StartCopy(copy);
  CheckNotIdle(plan);
  Step step;
  Tokens total;
  std::set<RequestId> seen;
  for (const SequenceWork& work : plan.sequences) {
    if (!seen.insert(work.request).second) Fail("a request is twice in a step");
    total += work.count;
    CheckWork(work);
    if (!failure_.empty()) return;
  }
  if (total > options_.scheduler.step_token_limit) Fail("the step exceeds its token limit");
  // All reads are checked before the writes begin.
  for (const SequenceWork& work : plan.sequences) {
    CheckWrites(work);
    WriteBack(work, /*good=*/false);  // until the step has ended
    const bool doomed = std::any_of(work.loads.begin(), work.loads.end(), [&](CopyId id) {
      const CopyUnderWay* copy = FindCopy(id);
      return copy != nullptr && copy->fails;
    });
    step.doomed.push_back(doomed ? 1 : 0);
  }
  if (!plan.sequences.empty()) {
    step.plan = std::move(plan);
    steps_.push_back(std::move(step));
  }
  AfterCall();
}

// What a step leaves in the blocks: the right content if `good`, else garbage.
void SchedulerWorld::WriteBack(const SequenceWork& work, bool good) {
  const Request& request = requests_.at(work.request);
  for (size_t p = work.first.size(); p < (work.first + work.count).size(); ++p) {
    // A request that ended has not got the token that this would be the KV of.
    good = good && p < request.content.size();
    device_[work.blocks[p / width_].index()][p % width_] = good ? request.content[p] : kGarbage;
  }
}

SequenceResult SchedulerWorld::ResultOf(const SequenceWork& work, bool doomed, bool step_ok) {
  SequenceResult result;
  const bool fails = doomed || Chance(options_.sequence_failures);
  if (fails) result.status = absl::DataLossError("injected");
  WriteBack(work, step_ok && !fails);
  if (!step_ok || fails || !work.sample) return result;
  const Request& request = requests_.at(work.request);
  const TokenId token = Draw(request, work.output_index);
  result.sampled = SampledToken{token, 0.0F, {}};
  return result;
}

void SchedulerWorld::Commit() {
  const Step step = std::move(steps_.front());
  steps_.pop_front();
  const StepPlan& plan = step.plan;
  StepResult result;
  result.id = plan.id;
  result.started = now_;
  now_ += absl::Milliseconds(Pick(0, 2));
  result.finished = now_;
  const bool step_ok = !Chance(options_.step_failures);
  if (!step_ok) result.status = absl::UnavailableError("injected step failure");
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const SequenceWork& work = plan.sequences[i];
    const Request& request = requests_.at(work.request);
    // Memory of the plan must still be there and unchanged, even if the request was cancelled.
    if (work.tokens.size() > request.tokens.size() ||
        !std::equal(work.tokens.begin(), work.tokens.end(), request.tokens.begin())) {
      return Fail("tokens of the step changed under way");
    }
    discarded_ += request.ended ? 1 : 0;
    SequenceResult r = ResultOf(work, step.doomed[i] != 0, step_ok);
    if (step_ok) result.sequences.push_back(std::move(r));
  }
  scheduler_.CommitStep(result, now_);
  AfterCall();
}

// ---- Copies ----------------------------------------------------------------------------------

const SchedulerWorld::CopyUnderWay* SchedulerWorld::FindCopy(CopyId id) const {
  for (const CopyUnderWay& c : copies_) {
    if (c.copy.id == id) return &c;
  }
  return nullptr;
}

std::vector<SchedulerWorld::Slots>* SchedulerWorld::SourcePool(LinkDirection direction) {
  if (direction == LinkDirection::kDeviceToHost) return &device_;
  return direction == LinkDirection::kDiskToHost ? &disk_ : &host_;
}

std::vector<SchedulerWorld::Slots>* SchedulerWorld::TargetPool(LinkDirection direction) {
  if (direction == LinkDirection::kHostToDevice) return &device_;
  return direction == LinkDirection::kHostToDisk ? &disk_ : &host_;
}

// Only copies of earlier plans; they need not be under way any more.
void SchedulerWorld::RevokeCopies(const StepPlan& plan) {
  for (const CopyId id : plan.revoked) {
    Note(static_cast<uint64_t>(id.value()));
    for (const Copy& copy : plan.copies) {
      if (copy.id == id) Fail("a copy is revoked in the plan that starts it");
    }
    for (CopyUnderWay& c : copies_) {
      if (c.copy.id == id) c.revoked = true;
    }
  }
}

void SchedulerWorld::StartCopy(const Copy& copy) {
  if (copy.blocks.empty()) return Fail("an empty copy");
  if (!copy.id.valid() || FindCopy(copy.id) != nullptr) return Fail("a copy id is not new");
  CopyUnderWay started;
  started.copy = copy;
  started.fails = Chance(options_.copy_failures);
  started.started = now_;
  std::set<BlockId> targets;
  for (const Copy::Pair& pair : copy.blocks) {
    targets.insert(pair.target);
    started.sources.push_back((*SourcePool(copy.direction))[pair.source.index()]);
    const Slots& source = started.sources.back();
    if (std::find(source.begin(), source.end(), kGarbage) != source.end()) {
      Fail(absl::StrCat("copy ", copy.id.value(), " moves garbage from block ",
                        pair.source.value()));
    }
    if (copy.direction == LinkDirection::kHostToDevice) CheckUntouched(pair.target, RequestId());
    Slots& target = (*TargetPool(copy.direction))[pair.target.index()];
    std::fill(target.begin(), target.end(), kGarbage);
    Note(static_cast<uint64_t>(pair.source.value() * 4096 + pair.target.value()));
  }
  if (targets.size() != copy.blocks.size()) Fail("a block is twice in a copy");
  copies_.push_back(std::move(started));
}

void SchedulerWorld::FinishCopy(size_t which) {
  const CopyUnderWay c = std::move(copies_[which]);
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(which));
  const bool cancelled = c.revoked && !c.fails && Chance(0.6);
  for (size_t i = 0; i < c.copy.blocks.size(); ++i) {
    const Copy::Pair& pair = c.copy.blocks[i];
    if ((*SourcePool(c.copy.direction))[pair.source.index()] != c.sources[i]) {
      Fail(absl::StrCat("the source of copy ", c.copy.id.value(), " was written under way"));
    }
    Slots& target = (*TargetPool(c.copy.direction))[pair.target.index()];
    if (target != Slots(width_, kGarbage)) {
      Fail(absl::StrCat("the target of copy ", c.copy.id.value(), " was written under way"));
    }
    if (!c.fails && !cancelled) target = c.sources[i];
  }
  CopyResult result;
  result.id = c.copy.id;
  if (c.fails) result.status = absl::DataLossError("injected");
  if (cancelled) result.status = absl::CancelledError("revoked");
  result.bytes =
      options_.scheduler.geometry.BytesFor(Blocks(static_cast<int64_t>(c.copy.blocks.size())));
  result.started = c.started;
  result.finished = now_;
  scheduler_.OnCopyDone(result, now_);
  AfterCall();
}

// ---- The end ---------------------------------------------------------------------------------

void SchedulerWorld::Drain() {
  for (int i = 0; i < 100000 && failure_.empty(); ++i) {
    if (scheduler_.idle() && copies_.empty() && steps_.empty()) {
      now_ += absl::Hours(2);  // no pin lasts longer
      Plan();                  // stores planned by the last commits
      const SchedulerStats stats = scheduler_.stats();
      const bool pinned = stats.device.pinned + stats.host.pinned > Blocks(0);
      if (!copies_.empty() || !steps_.empty() || pinned || !warms_.empty()) continue;
      return CheckDrained();
    }
    now_ += absl::Milliseconds(1);
    // Copies are served now and then, so that parked requests wait and joins happen.
    if (!copies_.empty() && Chance(0.4)) {
      FinishCopy(static_cast<size_t>(Pick(0, static_cast<int64_t>(copies_.size()) - 1)));
    } else {
      PlanOrCommit();
    }
  }
  Fail("does not drain");
}

}  // namespace sluice::testing
