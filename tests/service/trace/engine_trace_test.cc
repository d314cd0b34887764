#include "service/trace/engine_trace.h"

#include <string>

#include "gmock/gmock.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;

const absl::Time kStart = absl::FromUnixSeconds(1000);
absl::Time At(int ms) { return kStart + absl::Milliseconds(ms); }

RequestSpec Spec(int64_t id, size_t prompt = 100) {
  RequestSpec spec;
  spec.id = RequestId(id);
  spec.prompt.resize(prompt);
  return spec;
}

Copy MakeCopy(int64_t id, RequestId request, CopyClass copy_class) {
  Copy copy;
  copy.id = CopyId(id);
  copy.copy_class = copy_class;
  copy.request = request;
  copy.blocks.resize(3);
  return copy;
}

StepPlan Prefill(RequestId request, int64_t tokens) {
  StepPlan plan;
  plan.id = StepId(1);
  plan.sequences.resize(1);
  plan.sequences[0].request = request;
  plan.sequences[0].prompt = Tokens(tokens);
  plan.sequences[0].count = Tokens(tokens);
  return plan;
}

StepResult Took(absl::Time from, absl::Time to) {
  StepResult result;
  result.started = from;
  result.finished = to;
  return result;
}

// "queue 0-5" of every phase span, in order.
std::vector<std::string> Phases(const std::vector<TraceEvent>& events) {
  constexpr const char* kNames[] = {"queue", "load", "prefill", "decode"};
  std::vector<std::string> phases;
  for (const TraceEvent& event : events) {
    const auto* phase = std::get_if<PhaseSpan>(&event.span);
    if (phase == nullptr) continue;
    phases.push_back(std::string(kNames[static_cast<size_t>(phase->phase)]) + " " +
                     std::to_string(absl::ToInt64Milliseconds(event.start - kStart)) + "-" +
                     std::to_string(absl::ToInt64Milliseconds(event.end - kStart)) +
                     (phase->open ? " open" : ""));
  }
  return phases;
}

TEST(EngineTraceTest, ARequestGoesThroughItsPhases) {
  EngineTrace trace(100);
  trace.OnArrival(Spec(7), At(0));
  const std::vector<Copy> copies = {MakeCopy(1, RequestId(7), CopyClass::kDemand)};
  trace.OnCopiesStarted(copies, At(5));
  trace.OnStep(Prefill(RequestId(7), 100), Took(At(8), At(20)));
  trace.OnFirstToken(RequestId(7), At(21));
  RequestFinish finish;
  finish.stats.plan = RequestPlan::kLoad;
  finish.stats.admitted = At(5);
  trace.OnFinish(RequestId(7), finish, At(30));
  const std::vector<TraceEvent> events = trace.Snapshot(absl::InfinitePast(), At(40));
  EXPECT_THAT(Phases(events), ElementsAre("queue 0-5", "load 5-8", "prefill 8-21", "decode 21-30"));
  const auto& request = std::get<RequestSpan>(events.back().span);
  EXPECT_EQ(events.back().start, At(0));
  EXPECT_EQ(events.back().end, At(30));
  EXPECT_EQ(request.prompt, Tokens(100));
  EXPECT_EQ(request.plan, RequestPlan::kLoad);
  EXPECT_TRUE(request.admitted);
}

TEST(EngineTraceTest, WithoutLoadsThereIsNoLoadPhaseAndAPrefetchIsNotOne) {
  EngineTrace trace(100);
  trace.OnArrival(Spec(7), At(0));
  const std::vector<Copy> copies = {MakeCopy(1, RequestId(7), CopyClass::kPrefetch)};
  trace.OnCopiesStarted(copies, At(2));
  trace.OnStep(Prefill(RequestId(7), 100), Took(At(4), At(6)));
  trace.OnStep(Prefill(RequestId(7), 100), Took(At(6), At(8)));
  trace.OnFirstToken(RequestId(7), At(8));
  trace.OnFinish(RequestId(7), {}, At(9));
  EXPECT_THAT(Phases(trace.Snapshot(absl::InfinitePast(), At(9))),
              ElementsAre("queue 0-4", "prefill 4-8", "decode 8-9"));
}

TEST(EngineTraceTest, WhatIsUnderWayIsShownOpen) {
  EngineTrace trace(100);
  trace.OnArrival(Spec(7), At(0));
  trace.OnStep(Prefill(RequestId(7), 100), Took(At(4), At(6)));
  const std::vector<TraceEvent> events = trace.Snapshot(absl::InfinitePast(), At(10));
  EXPECT_THAT(Phases(events), ElementsAre("queue 0-4", "prefill 4-10 open"));
  EXPECT_TRUE(std::get<RequestSpan>(events.back().span).open);
  EXPECT_EQ(events.back().end, At(10));
}

TEST(EngineTraceTest, ASnapshotHoldsWhatEndedInItsWindow) {
  EngineTrace trace(100);
  for (int i = 0; i < 10; ++i) {
    trace.OnStep(Prefill(RequestId(1), 1), Took(At(i * 10), At(i * 10 + 9)));
  }
  EXPECT_EQ(trace.Snapshot(At(49), At(100)).size(), 5U);
  EXPECT_EQ(trace.Snapshot(absl::InfinitePast(), At(100)).size(), 10U);
}

TEST(EngineTraceTest, ACopyKnowsItsWaitAndWhoWaitsForIt) {
  EngineTrace trace(100);
  trace.OnArrival(Spec(7), At(0));
  const std::vector<Copy> copies = {MakeCopy(1, RequestId(7), CopyClass::kDemand),
                                    MakeCopy(2, RequestId(), CopyClass::kWriteBack)};
  trace.OnCopiesStarted(copies, At(5));
  CopyResult result;
  result.bytes = Bytes(3000);
  result.started = At(9);
  result.finished = At(12);
  result.id = CopyId(1);
  trace.OnCopyDone(result);
  result.id = CopyId(2);
  result.status = absl::CancelledError("revoked");
  result.started = absl::InfinitePast();  // never began
  result.finished = At(6);
  trace.OnCopyDone(result);
  result.id = CopyId(99);  // not one of these
  trace.OnCopyDone(result);
  std::vector<TraceEvent> events;
  trace.ring().Read(0, &events);
  ASSERT_EQ(events.size(), 3U);  // with the request's queue
  const auto& load = std::get<CopySpan>(events[1].span);
  EXPECT_EQ(load.request, 1);
  EXPECT_EQ(load.blocks, 3);
  EXPECT_EQ(load.queued, absl::Milliseconds(4));
  const auto& store = std::get<CopySpan>(events[2].span);
  EXPECT_EQ(store.request, 0);
  EXPECT_EQ(store.result, absl::StatusCode::kCancelled);
  EXPECT_EQ(events[2].start, At(5));
  EXPECT_EQ(events[2].end, At(6));
}

TEST(EngineTraceTest, ARefusedRequestHasOneSpanAndLeavesNothingBehind) {
  EngineTrace trace(100);
  trace.OnArrival(Spec(7), At(1));
  RequestFinish refused;
  refused.reason = FinishReason::kError;
  refused.stats.admitted = absl::InfiniteFuture();
  trace.OnFinish(RequestId(7), refused, At(1));
  const std::vector<TraceEvent> events = trace.Snapshot(absl::InfinitePast(), At(2));
  ASSERT_EQ(events.size(), 1U);
  EXPECT_FALSE(std::get<RequestSpan>(events[0].span).admitted);
}

TEST(TraceRingTest, KeepsTheLatestAndSaysWhatIsGone) {
  TraceRing ring(4);
  for (int i = 0; i < 10; ++i) ring.Append({At(i), At(i), StepSpan{i, 0, 0, 0, {}}});
  EXPECT_EQ(ring.begin(), 6U);
  EXPECT_EQ(ring.end(), 10U);
  std::vector<TraceEvent> events;
  EXPECT_EQ(ring.Read(2, &events), 10U);
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(std::get<StepSpan>(events[0].span).step, 6);
  EXPECT_EQ(ring.Read(10, &events), 10U);
  EXPECT_EQ(events.size(), 4U);
}

TEST(TraceRingTest, ReadsInBatches) {
  TraceRing ring(3 * TraceRing::kBatch);
  for (size_t i = 0; i < TraceRing::kBatch + 5; ++i) ring.Append({At(0), At(0), StepSpan{}});
  std::vector<TraceEvent> events;
  EXPECT_EQ(ring.Read(0, &events), TraceRing::kBatch);
  EXPECT_EQ(ring.Read(TraceRing::kBatch, &events), TraceRing::kBatch + 5);
  EXPECT_EQ(events.size(), TraceRing::kBatch + 5);
}

}  // namespace
}  // namespace sluice
