#include "tests/property/scheduler_world.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::testing {
namespace {

constexpr uint64_t kGarbage = 0;

uint64_t Mix(uint64_t h, uint64_t value) {
  h = (h ^ value) * 0x9E3779B97F4A7C15ULL;
  return (h ^ (h >> 29)) | 1;  // never kGarbage
}

}  // namespace

SchedulerWorld::SchedulerWorld(const WorldOptions& options, uint64_t seed)
    : options_(options),
      width_(options.scheduler.geometry.tokens_per_block.size()),
      rng_(seed),
      scheduler_(options.scheduler, options.block_hash),
      now_(absl::UnixEpoch()),
      device_(options.scheduler.device_blocks.size(), Slots(width_, kGarbage)),
      host_(options.scheduler.host_blocks.size(), Slots(width_, kGarbage)) {}

void SchedulerWorld::Fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}

void SchedulerWorld::Note(uint64_t value) { trace_ = Mix(trace_, value); }

std::string SchedulerWorld::Run() {
  for (int i = 0; i < options_.actions && failure_.empty(); ++i) Act();
  if (failure_.empty()) Drain();
  final_stats_ = scheduler_.stats();
  return failure_;
}

void SchedulerWorld::Act() {
  now_ += absl::Milliseconds(Pick(0, 3));
  if (Chance(options_.cancels)) return CancelSome();
  switch (Pick(0, 5)) {
    case 0:
      return Submit();
    case 1:
      if (copies_.empty()) return;
      return FinishCopy(static_cast<size_t>(Pick(0, static_cast<int64_t>(copies_.size()) - 1)));
    default:
      return step_.has_value() ? Commit() : Plan();
  }
}

// ---- Requests --------------------------------------------------------------------------------

std::vector<TokenId> SchedulerWorld::RandomPrompt() {
  const int64_t length = Pick(1, options_.max_prompt);
  std::vector<TokenId> prompt;
  if (!requests_.empty() && Chance(0.3)) {  // the next turn of a conversation
    prompt = std::next(requests_.begin(), Pick(0, static_cast<int64_t>(requests_.size()) - 1))
                 ->second.tokens;
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
      request->content.empty() ? Mix(77, request->salt) : request->content.back();
  request->tokens.push_back(token);
  request->content.push_back(Mix(before, static_cast<uint64_t>(token) + 1));
}

TokenId SchedulerWorld::Draw(const Request& request, int64_t index) const {
  return static_cast<TokenId>((Mix(request.seed, static_cast<uint64_t>(index)) >> 7) %
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
  const absl::Status got = scheduler_.Submit(std::move(spec), now_);
  if (got.code() != want) return Fail(absl::StrCat("Submit: ", got.ToString()));
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

void SchedulerWorld::Plan() {
  StepPlan plan = scheduler_.PlanStep(now_);
  Note(static_cast<uint64_t>(plan.id.value()));
  for (const Copy& copy : plan.copies) StartCopy(copy);
  CheckNotIdle(plan);
  doomed_.clear();
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
    doomed_.push_back(doomed ? 1 : 0);
  }
  if (!plan.sequences.empty()) step_ = std::move(plan);
  AfterCall();
}

void SchedulerWorld::CheckNotIdle(const StepPlan& plan) {
  if (!plan.sequences.empty()) return;
  const SchedulerStats stats = scheduler_.stats();
  if (stats.running > stats.loading) Fail("an idle step although a request could run");
  // After a failed part of a step, a sequence waits for the loads it joined.
  if (stats.running > 0 && options_.sequence_failures == 0 &&
      std::none_of(copies_.begin(), copies_.end(), [](const auto& c) { return c.fails; })) {
    Fail("an idle step although a request could join its load");
  }
  if (stats.waiting + stats.running > 0 && copies_.empty()) {
    Fail("an idle step although nothing holds the waiting back");
  }
  if (stats.running == 0 && stats.waiting > 0 && stats.device.in_transit == Blocks(0)) {
    Fail("nothing runs and nothing moves, but the head waits");
  }
}

void SchedulerWorld::CheckWork(const SequenceWork& work) {
  const auto it = requests_.find(work.request);
  if (it == requests_.end() || it->second.ended) return Fail("the step runs a request that ended");
  const Request& request = it->second;
  const size_t end = (work.first + work.count).size();
  if (work.count <= Tokens(0)) return Fail("empty work");
  if (work.tokens.size() < end || work.blocks.size() * width_ < end) {
    return Fail("too few tokens or blocks for the work");
  }
  if (!std::equal(work.tokens.begin(), work.tokens.end(), request.tokens.begin(),
                  request.tokens.end())) {
    return Fail("the step has other tokens than the request");
  }
  if (work.sample != (end == request.tokens.size()) || work.sample != (work.sampling != nullptr)) {
    return Fail("a draw is missing or too early");
  }
  const int64_t outputs = static_cast<int64_t>(request.tokens.size() - request.prompt);
  if (work.output_index != outputs || work.prompt.size() != request.prompt) {
    return Fail("wrong output index or prompt length");
  }
  std::set<BlockId> distinct(work.blocks.begin(), work.blocks.end());
  if (distinct.size() != work.blocks.size()) return Fail("a block is twice in a sequence");
  CheckReads(request, work);
  Note(static_cast<uint64_t>(work.request.value()));
  Note(static_cast<uint64_t>(work.first.value() * 1000 + work.count.value()));
  for (const BlockId block : work.blocks) Note(static_cast<uint64_t>(block.value()));
}

void SchedulerWorld::CheckReads(const Request& request, const SequenceWork& work) {
  for (size_t p = 0; p < work.first.size(); ++p) {
    const BlockId block = work.blocks[p / width_];
    uint64_t content = device_[block.index()][p % width_];
    for (const CopyUnderWay& c : copies_) {
      if (c.copy.direction != LinkDirection::kHostToDevice) continue;
      for (size_t i = 0; i < c.copy.blocks.size(); ++i) {
        if (c.copy.blocks[i].target != block) continue;
        if (std::find(work.loads.begin(), work.loads.end(), c.copy.id) == work.loads.end()) {
          return Fail("a step reads a block being loaded without listing the load");
        }
        content = c.sources[i][p % width_];
      }
    }
    if (content != request.content[p]) {
      return Fail(absl::StrCat("request ", work.request.value(), " reads foreign KV at token ", p,
                               ", device block ", block.value()));
    }
  }
}

void SchedulerWorld::CheckWrites(const SequenceWork& work) {
  const size_t first_block = work.first.size() / width_;
  const size_t end_block = ((work.first + work.count).size() + width_ - 1) / width_;
  for (size_t i = first_block; i < end_block; ++i) {
    const BlockId block = work.blocks[i];
    for (const CopyUnderWay& c : copies_) {
      const bool load = c.copy.direction == LinkDirection::kHostToDevice;
      for (const Copy::Pair& pair : c.copy.blocks) {
        if ((load ? pair.target : pair.source) == block) {
          return Fail(absl::StrCat("a step writes device block ", block.value(), " during copy ",
                                   c.copy.id.value()));
        }
      }
    }
  }
}

// What a step leaves in the blocks: the right content if `good`, else garbage.
void SchedulerWorld::WriteBack(const SequenceWork& work, bool good) {
  const Request& request = requests_.at(work.request);
  for (size_t p = work.first.size(); p < (work.first + work.count).size(); ++p) {
    device_[work.blocks[p / width_].index()][p % width_] = good ? request.content[p] : kGarbage;
  }
}

SequenceResult SchedulerWorld::ResultOf(const SequenceWork& work, bool doomed, bool step_ok) {
  SequenceResult result;
  const bool fails = doomed || Chance(options_.sequence_failures);
  if (fails) result.status = absl::DataLossError("injected");
  WriteBack(work, step_ok && !fails);
  if (!step_ok || fails || !work.sample) return result;
  Request& request = requests_.at(work.request);
  const TokenId token = Draw(request, work.output_index);
  result.sampled = SampledToken{token, 0.0F, {}};
  return result;
}

void SchedulerWorld::Commit() {
  StepPlan plan = *std::exchange(step_, std::nullopt);
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
    if (!std::equal(work.tokens.begin(), work.tokens.end(), request.tokens.begin(),
                    request.tokens.end())) {
      return Fail("tokens of the step changed under way");
    }
    SequenceResult r = ResultOf(work, doomed_[i] != 0, step_ok);
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

void SchedulerWorld::StartCopy(const Copy& copy) {
  if (copy.blocks.empty()) return Fail("an empty copy");
  if (!copy.id.valid() || FindCopy(copy.id) != nullptr) return Fail("a copy id is not new");
  const bool load = copy.direction == LinkDirection::kHostToDevice;
  CopyUnderWay started;
  started.copy = copy;
  started.fails = Chance(options_.copy_failures);
  started.started = now_;
  std::set<BlockId> device_blocks;
  for (const Copy::Pair& pair : copy.blocks) {
    device_blocks.insert(load ? pair.target : pair.source);
    started.sources.push_back((load ? host_ : device_)[pair.source.index()]);
    const Slots& source = started.sources.back();
    if (std::find(source.begin(), source.end(), kGarbage) != source.end()) {
      Fail(absl::StrCat("copy ", copy.id.value(), " moves garbage from block ",
                        pair.source.value()));
    }
    Slots& target = (load ? device_ : host_)[pair.target.index()];
    std::fill(target.begin(), target.end(), kGarbage);
    Note(static_cast<uint64_t>(pair.source.value() * 4096 + pair.target.value()));
  }
  if (device_blocks.size() != copy.blocks.size()) Fail("a block is twice in a copy");
  copies_.push_back(std::move(started));
}

void SchedulerWorld::FinishCopy(size_t which) {
  const CopyUnderWay c = std::move(copies_[which]);
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(which));
  const bool load = c.copy.direction == LinkDirection::kHostToDevice;
  for (size_t i = 0; i < c.copy.blocks.size(); ++i) {
    const Copy::Pair& pair = c.copy.blocks[i];
    if ((load ? host_ : device_)[pair.source.index()] != c.sources[i]) {
      Fail(absl::StrCat("the source of copy ", c.copy.id.value(), " was written under way"));
    }
    Slots& target = (load ? device_ : host_)[pair.target.index()];
    if (target != Slots(width_, kGarbage)) {
      Fail(absl::StrCat("the target of copy ", c.copy.id.value(), " was written under way"));
    }
    if (!c.fails) target = c.sources[i];
  }
  CopyResult result;
  result.id = c.copy.id;
  if (c.fails) result.status = absl::DataLossError("injected");
  result.bytes =
      options_.scheduler.geometry.BytesFor(Blocks(static_cast<int64_t>(c.copy.blocks.size())));
  result.started = c.started;
  result.finished = now_;
  scheduler_.OnCopyDone(result, now_);
  AfterCall();
}

// ---- After every call ------------------------------------------------------------------------

void SchedulerWorld::AfterCall() {
  if (!failure_.empty()) return;
  for (const Event& event : scheduler_.TakeEvents()) HearEvent(event);
  if (const absl::Status status = scheduler_.CheckInvariants(); !status.ok()) {
    Fail(std::string(status.message()));
  }
  const SchedulerStats stats = scheduler_.stats();
  for (const TierStats& tier : {stats.device, stats.host}) {
    if (tier.free + tier.referenced + tier.cached + tier.in_transit != tier.capacity) {
      Fail("tier counts do not sum to the capacity");
    }
  }
  if (stats.device.free + stats.device.cached < stats.reserved) Fail("over-reserved");
  if (stats.waiting > options_.scheduler.queue_limit + options_.scheduler.max_running) {
    Fail("the queue is longer than its limit allows");
  }
}

void SchedulerWorld::HearEvent(const Event& event) {
  const auto it = requests_.find(event.request);
  if (it == requests_.end()) return Fail("an event for an unknown request");
  Request& request = it->second;
  if (request.ended) return Fail("an event after the end");
  if (!event.token.has_value() && !event.finish.has_value()) return Fail("an empty event");
  Note(static_cast<uint64_t>(event.request.value()) * 64);
  if (event.token.has_value()) {
    if (event.token->token != Draw(request, request.tokens_heard)) {
      return Fail("a token is missing, doubled or out of order");
    }
    ++request.tokens_heard;
    Append(&request, event.token->token);
    Note(static_cast<uint64_t>(event.token->token) + 8);
  }
  if (event.finish.has_value()) {
    request.ended = true;
    Note(static_cast<uint64_t>(event.finish->reason) + 16);
    CheckFinish(event, request);
  }
}

void SchedulerWorld::CheckFinish(const Event& event, const Request& request) {
  const Event::Finish& finish = *event.finish;
  const RequestStats& stats = finish.stats;
  const bool ok = finish.reason == FinishReason::kStop || finish.reason == FinishReason::kLength;
  if (finish.status.ok() != ok) return Fail("the status does not go with the reason");
  if (stats.output.value() != request.tokens_heard) return Fail("outputs are miscounted");
  if (finish.reason == FinishReason::kLength && request.tokens_heard != request.max_new) {
    return Fail("ended for length too early");
  }
  const TokenId last = request.tokens.back();
  const bool stop = std::count(request.stop_ids.begin(), request.stop_ids.end(), last) > 0;
  if (finish.reason == FinishReason::kStop && !(event.token.has_value() && stop)) {
    return Fail("ended for a stop token that was not drawn");
  }
  if (finish.reason == FinishReason::kCancelled && !request.cancelled) {
    return Fail("cancelled by nobody");
  }
  if (finish.reason == FinishReason::kDeadline && stats.admitted != absl::InfiniteFuture()) {
    return Fail("deadline passed after admission");
  }
  const bool failing =
      options_.sequence_failures + options_.step_failures > 0;  // load failures end nobody
  if (finish.reason == FinishReason::kError && !failing) return Fail("an error out of nowhere");
  if (stats.admitted == absl::InfiniteFuture()) return;
  Tokens sum = stats.computed;
  for (const Tokens& cached : stats.cached) sum += cached;
  if (sum != stats.prompt) Fail("sources of the prompt do not sum to it");
}

// ---- The end ---------------------------------------------------------------------------------

void SchedulerWorld::Drain() {
  for (int i = 0; i < 100000 && failure_.empty(); ++i) {
    if (scheduler_.idle() && copies_.empty() && !step_.has_value()) {
      Plan();  // stores planned by the last commits
      if (copies_.empty() && !step_.has_value()) return CheckDrained();
    }
    now_ += absl::Milliseconds(1);
    // Copies are served now and then, so that parked requests wait and joins happen.
    if (!copies_.empty() && Chance(0.4)) {
      FinishCopy(static_cast<size_t>(Pick(0, static_cast<int64_t>(copies_.size()) - 1)));
    } else if (step_.has_value()) {
      Commit();
    } else {
      Plan();
    }
  }
  Fail("does not drain");
}

void SchedulerWorld::CheckDrained() {
  const SchedulerStats stats = scheduler_.stats();
  for (const TierStats& tier : {stats.device, stats.host}) {
    if (tier.referenced != Blocks(0) || tier.in_transit != Blocks(0)) {
      Fail("blocks are still in use after the last request");
    }
  }
  if (stats.reserved != Blocks(0) || stats.waiting != 0 || stats.running != 0) {
    Fail("something is left after the last request");
  }
  int64_t finished = 0;
  for (const int64_t n : stats.finished) finished += n;
  if (finished != static_cast<int64_t>(requests_.size())) Fail("ends are miscounted");
  for (const auto& [id, request] : requests_) {
    if (!request.ended) Fail(absl::StrCat("request ", id.value(), " never ended"));
  }
}

}  // namespace sluice::testing
