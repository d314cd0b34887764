#include "service/telemetry/metrics.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "service/telemetry/series.h"

namespace sluice {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// Around what we promise (0.2 s to the first token, 2 s under load), not round powers.
const Buckets kTtftSeconds = {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60};
const Buckets kItlSeconds = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5};
const Buckets kE2eSeconds = {0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300};
const Buckets kCopySeconds = {1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1, 5};
const Buckets kCopyBytes = {1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28};
const Buckets kKappa = {0, 0.1, 1, 10, 100, 1000, 10000};
const Buckets kRpcSeconds = {0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60};

constexpr std::array<const char*, kFinishReasonCount> kOutcomes = {"stop", "length", "abort",
                                                                   "deadline", "error"};
// The labels of all decisions, in their order.
std::array<const char*, kDecisionCount> DecisionLabels() {
  std::array<const char*, kDecisionCount> labels{};
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = DecisionName(static_cast<Decision>(i));
  return labels;
}

Labels LinkLabels(size_t direction) {
  switch (static_cast<LinkDirection>(direction)) {
    case LinkDirection::kHostToDevice:
      return {{"src", "host"}, {"dst", "device"}};
    case LinkDirection::kDeviceToHost:
      return {{"src", "device"}, {"dst", "host"}};
    case LinkDirection::kDiskToHost:
      return {{"src", "disk"}, {"dst", "host"}};
    case LinkDirection::kHostToDisk:
      return {{"src", "host"}, {"dst", "disk"}};
  }
  return {};
}

Labels With(Labels labels, const char* key, const char* value) {
  labels[key] = value;
  return labels;
}

double InSeconds(absl::Duration d) { return absl::ToDoubleSeconds(d); }

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

// One direction of the link.
struct LinkSeries {
  MirroredCounter bytes, busy;
  prometheus::Counter &ok, &failed, &cancelled;
  prometheus::Gauge &in_flight, &measured;
  prometheus::Histogram &seconds, &size, &queued;
};

std::vector<LinkSeries> MakeLinks(SeriesMaker& make, const BackendInfo& info) {
  auto& bytes = make.Counters("sluice_kv_transfer_bytes_total", "KV bytes copied between tiers.");
  auto& busy = make.Counters("sluice_kv_transfer_busy_seconds_total",
                             "Wall time in which at least one copy of this direction ran; its rate "
                             "is the utilisation of the link direction.");
  auto& ops = make.Counters("sluice_kv_transfer_operations_total", "Copies that ended.");
  auto& in_flight = make.Gauges("sluice_kv_transfer_inflight_bytes", "Bytes queued or moving.");
  auto& bandwidth =
      make.Gauges("sluice_link_bandwidth_bytes_per_second",
                  info.link_emulated
                      ? "Configured: stated (EMULATED: copies are paced); measured: average so far."
                      : "Configured: stated, 0 if none; measured: average so far.");
  auto& seconds = make.Histograms("sluice_kv_transfer_seconds", "First to last byte of a copy.");
  auto& size = make.Histograms("sluice_kv_transfer_size_bytes", "Bytes of a copy.");
  auto& queued =
      make.Histograms("sluice_kv_transfer_queue_seconds", "Wait of a copy for the link.");
  std::vector<LinkSeries> links;
  for (size_t d = 0; d < kLinkDirectionCount; ++d) {
    const Labels at = LinkLabels(d);
    bandwidth.Add(With(at, "kind", "configured")).Set(info.link_bytes_per_second);
    links.push_back({MirroredCounter(bytes.Add(at)), MirroredCounter(busy.Add(at)),
                     ops.Add(With(at, "outcome", "ok")), ops.Add(With(at, "outcome", "failed")),
                     ops.Add(With(at, "outcome", "cancelled")), in_flight.Add(at),
                     bandwidth.Add(With(at, "kind", "measured")), seconds.Add(at, kCopySeconds),
                     size.Add(at, kCopyBytes), queued.Add(at, kCopySeconds)});
  }
  return links;
}

struct TierSeries {
  prometheus::Gauge &capacity, &used, &pinned, &ratio;
};

std::vector<TierSeries> MakeTiers(SeriesMaker& make) {
  auto& capacity = make.Gauges("sluice_kv_tier_capacity_bytes", "Size of the tier's block pool.");
  auto& used = make.Gauges("sluice_kv_tier_used_bytes", "Bytes that hold KV, reusable or in use.");
  auto& pinned = make.Gauges("sluice_kv_tier_pinned_bytes",
                             "Bytes that live requests or copies use, not evictable.");
  auto& ratio = make.Gauges("sluice_kv_tier_usage_ratio", "Pinned share of the capacity.");
  std::vector<TierSeries> tiers;
  for (const char* tier : {"device", "host", "disk"}) {
    const Labels at = {{"tier", tier}};
    tiers.push_back({capacity.Add(at), used.Add(at), pinned.Add(at), ratio.Add(at)});
  }
  return tiers;
}

template <size_t N>
std::vector<MirroredCounter> MakeMirrored(SeriesMaker& make, const char* name, const char* help,
                                          const char* label,
                                          const std::array<const char*, N>& values) {
  auto& family = make.Counters(name, help);
  std::vector<MirroredCounter> series;
  for (const char* value : values) series.emplace_back(family.Add({{label, value}}));
  return series;
}

}  // namespace

class Metrics::Impl {
 public:
  Impl(const BackendInfo& info, const std::string& model)
      : registry(std::make_shared<prometheus::Registry>()),
        block_bytes(static_cast<double>(info.geometry.bytes_per_block.value())),
        make(*registry, {{"model", model}}) {
    make.Gauges("sluice_build_info", "Always 1; labels say what runs.")
        .Add({{"version", SLUICE_VERSION}, {"backend", info.name}, {"dtype", info.dtype}})
        .Set(1);
    make.Gauges("sluice_config_info", "Always 1; labels say how it is configured.")
        .Add({{"block_size", std::to_string(info.geometry.tokens_per_block.value())},
              {"device_blocks", std::to_string(info.device_blocks.value())},
              {"host_blocks", std::to_string(info.host_blocks.value())},
              {"link_emulated", info.link_emulated ? "true" : "false"}})
        .Set(1);
  }

  const std::shared_ptr<prometheus::Registry> registry;
  const double block_bytes;
  SeriesMaker make;

  // --- How time was spent ---
  std::vector<MirroredCounter> states = MakeMirrored(
      make, "sluice_activity_seconds_total",
      "Wall time by what device and link did; the four states sum to the time since start.",
      "state", std::array{"compute_only", "transfer_only", "both", "idle"});
  MirroredCounter compute_busy{
      make.Counter("sluice_compute_busy_seconds_total", "Wall time in which the device computed.")};
  MirroredCounter overlap{make.Counter("sluice_overlap_seconds_total",
                                       "Wall time in which device and link were both busy.")};
  MirroredCounter stall{make.Counters("sluice_transfer_stall_seconds_total",
                                      "Wall time in which a step waited for a copy.")
                            .Add({{"reason", "load_wait"}})};
  prometheus::Family<prometheus::Counter>& phases = make.Counters(
      "sluice_step_phase_seconds_total", "Wall time by kind of step; one phase always runs.");
  std::array<prometheus::Counter*, 4> phase = {
      &phases.Add({{"phase", "prefill"}}), &phases.Add({{"phase", "decode"}}),
      &phases.Add({{"phase", "mixed"}}), &phases.Add({{"phase", "wait_transfer"}})};
  MirroredCounter idle_phase{phases.Add({{"phase", "idle"}})};
  double phase_total = 0;

  // --- Requests ---
  prometheus::Gauge& running = make.Gauge("sluice_requests_running", "Admitted requests.");
  prometheus::Gauge& waiting = make.Gauge("sluice_requests_waiting", "Requests not yet admitted.");
  prometheus::Gauge& loading =
      make.Gauge("sluice_requests_loading", "Admitted requests whose loads are under way.");
  prometheus::Family<prometheus::Counter>& ended =
      make.Counters("sluice_requests_total", "Requests that ended, by outcome.");
  std::array<prometheus::Counter*, kFinishReasonCount> outcomes{};
  prometheus::Counter& rejected = ended.Add({{"outcome", "rejected"}});
  prometheus::Histogram& ttft =
      make.Histogram("sluice_time_to_first_token_seconds",
                     "From request accepted to its first token leaving the engine.", kTtftSeconds);
  prometheus::Histogram& itl = make.Histogram("sluice_inter_token_latency_seconds",
                                              "Between two tokens of a request.", kItlSeconds);
  prometheus::Histogram& tpot =
      make.Histogram("sluice_time_per_output_token_seconds",
                     "Mean time per output token after the first, per request.", kItlSeconds);
  prometheus::Histogram& e2e = make.Histogram("sluice_e2e_request_latency_seconds",
                                              "From request accepted to its end.", kE2eSeconds);
  prometheus::Histogram& queue = make.Histogram("sluice_request_queue_seconds",
                                                "From request accepted to admitted.", kTtftSeconds);
  prometheus::Histogram& kappa =
      make.Histogram("sluice_request_kappa_ratio",
                     "Tokens loaded from off the device per token computed, per request.", kKappa);
  std::vector<prometheus::Counter*> parts;

  // --- Tokens, cache, decisions ---
  std::vector<MirroredCounter> prompt_tokens =
      MakeMirrored(make, "sluice_prompt_tokens_total",
                   "Prompt tokens by where their KV came from; sums to all prompt tokens.",
                   "source", std::array{"device", "host", "disk", "remote", "computed"});
  MirroredCounter recomputed{make.Counter(
      "sluice_recomputed_tokens_total", "Tokens computed again after preemption or failed loads.")};
  MirroredCounter generated{make.Counter("sluice_generated_tokens_total", "Output tokens.")};
  prometheus::Counter& step_tokens =
      make.Counter("sluice_step_tokens_total", "Tokens computed in steps, prompt and output.");
  prometheus::Counter& steps = make.Counter("sluice_steps_total", "Steps that ran.");
  std::vector<MirroredCounter> evictions;
  std::vector<MirroredCounter> preemptions = MakeMirrored(
      make, "sluice_preemptions_total", "Requests whose device blocks were taken away.", "mode",
      std::array{"swap", "recompute"});
  std::vector<MirroredCounter> decisions = MakeMirrored(
      make, "sluice_scheduler_decisions_total", "Decisions by kind.", "action", DecisionLabels());
  std::vector<TierSeries> tiers = MakeTiers(make);
  prometheus::Gauge& step_error =
      make.Gauge("sluice_cost_step_error_ratio_median",
                 "Recent median of |predicted - measured| / measured, of step times.");
  prometheus::Gauge& copy_error =
      make.Gauge("sluice_cost_copy_error_ratio_median", "The same of copy times.");
  prometheus::Gauge& kappa_critical =
      make.Gauge("sluice_kappa_critical_ratio",
                 "Cached tokens loaded per token computed at which link and compute take equally "
                 "long, with costs as measured.");
  std::vector<LinkSeries> links;

  // --- gRPC ---
  prometheus::Family<prometheus::Counter>& handled =
      make.Counters("sluice_grpc_server_handled_total", "Rpcs that ended, by code.");
  prometheus::Family<prometheus::Histogram>& handling =
      make.Histograms("sluice_grpc_server_handling_seconds", "Duration of rpcs.");
};

Metrics::Metrics(const BackendInfo& info, const std::string& model)
    : impl_(std::make_unique<Impl>(info, model)) {
  Impl& m = *impl_;
  for (size_t i = 0; i < kOutcomes.size(); ++i) {
    m.outcomes[i] = &m.ended.Add({{"outcome", kOutcomes[i]}});
  }
  auto& parts = m.make.Counters("sluice_request_time_seconds_total",
                                "Time of finished requests by what they spent it on.");
  for (const char* part : {"queue", "compute", "load_exposed", "load_overlapped"}) {
    m.parts.push_back(&parts.Add({{"part", part}}));
  }
  auto& evictions =
      m.make.Counters("sluice_kv_block_evictions_total", "Cached blocks given up to make room.");
  for (const char* tier : {"device", "host"}) {
    m.evictions.emplace_back(evictions.Add({{"tier", tier}, {"reason", "capacity"}}));
  }
  m.links = MakeLinks(m.make, info);
}

Metrics::~Metrics() = default;

std::shared_ptr<prometheus::Registry> Metrics::registry() const { return impl_->registry; }

namespace {

void SetTier(TierSeries& series, const TierStats& tier, double block_bytes) {
  const double capacity = AsDouble(tier.capacity);
  const double pinned = AsDouble(tier.referenced) + AsDouble(tier.in_transit);
  series.capacity.Set(capacity * block_bytes);
  series.used.Set((pinned + AsDouble(tier.cached)) * block_bytes);
  series.pinned.Set(pinned * block_bytes);
  series.ratio.Set(capacity > 0 ? pinned / capacity : 0);
}

}  // namespace

void Metrics::Observe(const SchedulerStats& stats, const ActivitySnapshot& activity) {
  Impl& m = *impl_;
  m.running.Set(static_cast<double>(stats.running));
  m.waiting.Set(static_cast<double>(stats.waiting));
  m.loading.Set(static_cast<double>(stats.loading));
  SetTier(m.tiers[0], stats.device, m.block_bytes);
  SetTier(m.tiers[1], stats.host, m.block_bytes);
  SetTier(m.tiers[2], stats.disk, m.block_bytes);
  m.step_error.Set(stats.step_error);
  m.copy_error.Set(stats.copy_error);
  m.kappa_critical.Set(stats.kappa_critical);
  for (size_t i = 0; i < m.decisions.size(); ++i) {
    m.decisions[i].Follow(static_cast<double>(stats.decisions[i]));
  }
  m.preemptions[0].Follow(
      static_cast<double>(stats.decisions[static_cast<size_t>(Decision::kPreemptSwap)]));
  m.preemptions[1].Follow(
      static_cast<double>(stats.decisions[static_cast<size_t>(Decision::kPreemptRecompute)]));
  for (size_t t = 0; t < kTierCount; ++t) {
    m.prompt_tokens[t].Follow(AsDouble(stats.prompt_tokens_cached[t]));
  }
  m.prompt_tokens[kTierCount].Follow(AsDouble(stats.prompt_tokens_computed));
  m.recomputed.Follow(AsDouble(stats.tokens_recomputed));
  m.generated.Follow(AsDouble(stats.output_tokens));
  m.evictions[0].Follow(AsDouble(stats.device_evictions));
  m.evictions[1].Follow(AsDouble(stats.host_evictions));

  m.states[0].Follow(InSeconds(activity.compute_only));
  m.states[1].Follow(InSeconds(activity.transfer_only));
  m.states[2].Follow(InSeconds(activity.both));
  m.states[3].Follow(InSeconds(activity.idle));
  m.compute_busy.Follow(InSeconds(activity.compute_only + activity.both));
  m.overlap.Follow(InSeconds(activity.both));
  m.stall.Follow(InSeconds(activity.load_stall));
  m.idle_phase.Follow(InSeconds(activity.wall()) - m.phase_total);
  for (size_t d = 0; d < m.links.size(); ++d) {
    const ActivitySnapshot::Direction& link = activity.links[d];
    const double bytes = static_cast<double>(link.moved.value());
    m.links[d].bytes.Follow(bytes);
    m.links[d].busy.Follow(InSeconds(link.busy));
    m.links[d].in_flight.Set(static_cast<double>(link.in_flight.value()));
    m.links[d].measured.Set(link.busy > absl::ZeroDuration() ? bytes / InSeconds(link.busy) : 0);
  }
}

void Metrics::OnStep(const StepPlan& plan, const StepResult& result) {
  Impl& m = *impl_;
  bool prefill = false, decode = false;
  for (const SequenceWork& work : plan.sequences) {
    (work.first < work.prompt ? prefill : decode) = true;
    m.step_tokens.Increment(AsDouble(work.count));
  }
  const double stall = InSeconds(result.load_stall);
  const double took = InSeconds(result.finished - result.started);
  m.steps.Increment();
  m.phase[prefill && decode ? 2 : prefill ? 0 : 1]->Increment(std::max(0.0, took - stall));
  m.phase[3]->Increment(stall);
  m.phase_total += took;
}

void Metrics::OnCopy(LinkDirection direction, const CopyResult& result, absl::Duration queued) {
  LinkSeries& link = impl_->links[static_cast<size_t>(direction)];
  if (!result.status.ok()) {
    (absl::IsCancelled(result.status) ? link.cancelled : link.failed).Increment();
    return;
  }
  link.ok.Increment();
  link.seconds.Observe(InSeconds(result.finished - result.started));
  link.size.Observe(static_cast<double>(result.bytes.value()));
  link.queued.Observe(InSeconds(queued));
}

void Metrics::OnFirstToken(absl::Duration since_arrival) {
  impl_->ttft.Observe(InSeconds(since_arrival));
}

void Metrics::OnInterToken(absl::Duration gap) { impl_->itl.Observe(InSeconds(gap)); }

void Metrics::OnFinish(const Event::Finish& finish) {
  Impl& m = *impl_;
  const RequestStats& stats = finish.stats;
  m.outcomes[static_cast<size_t>(finish.reason)]->Increment();
  m.e2e.Observe(InSeconds(stats.finished - stats.arrival));
  if (stats.admitted == absl::InfiniteFuture()) return;
  m.queue.Observe(InSeconds(stats.admitted - stats.arrival));
  m.kappa.Observe(stats.kappa());
  if (stats.output > Tokens(1)) {
    m.tpot.Observe(InSeconds(stats.finished - stats.first_token) / (AsDouble(stats.output) - 1));
  }
  m.parts[0]->Increment(InSeconds(stats.admitted - stats.arrival));
  m.parts[1]->Increment(InSeconds(stats.compute));
  m.parts[2]->Increment(InSeconds(stats.load_exposed));
  m.parts[3]->Increment(
      InSeconds(std::max(absl::ZeroDuration(), stats.load_busy - stats.load_exposed)));
}

void Metrics::OnRefused() { impl_->rejected.Increment(); }

void Metrics::OnRpc(const char* service, const char* method, absl::StatusCode code,
                    absl::Duration took) {
  const Labels at = {{"service", service}, {"method", method}};
  impl_->handled.Add({{"service", service}, {"method", method}, {"code", CodeName(code)}})
      .Increment();
  impl_->handling.Add(at, kRpcSeconds).Observe(InSeconds(took));
}

}  // namespace sluice
