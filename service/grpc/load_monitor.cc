#include "service/grpc/load_monitor.h"

#include <utility>

namespace sluice {
namespace {

constexpr absl::Duration kWindow = absl::Seconds(1);

// What a load balancer should hold against this server.
bool IsServersFault(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

}  // namespace

LoadMonitor::LoadMonitor(const ServiceContext& context)
    : context_(context),
      window_(kWindow),
      orca_(MakeOrcaReport(Now()).SerializeAsString()),
      thread_([this] { ThreadMain(); }) {}

LoadMonitor::~LoadMonitor() { Stop(); }

void LoadMonitor::NoteEnd(absl::StatusCode code) {
  std::lock_guard<std::mutex> lock(mu_);
  ++ends_;
  if (IsServersFault(code)) ++errors_;
}

ServerLoad LoadMonitor::SampleLocked(const EngineLoad& engine, absl::Time now) {
  ServerLoad load;
  load.engine = engine;
  load.max_running = context_.info.max_num_seqs();
  window_.Add(engine.activity, engine.scheduler.output_tokens);
  load.rates = window_.Rates();
  history_.push_back({now, ends_, errors_});
  while (history_.size() > 2 && now - history_[1].at >= kWindow) history_.pop_front();
  const Ends& from = history_.front();
  const double seconds = absl::ToDoubleSeconds(now - from.at);
  if (seconds > 0) {
    load.requests_per_s = static_cast<double>(ends_ - from.all) / seconds;
    load.errors_per_s = static_cast<double>(errors_ - from.errors) / seconds;
  }
  return load;
}

ServerLoad LoadMonitor::Now() {
  const EngineLoad engine = context_.engine.loop().load();
  const absl::Time now = context_.clock();
  std::lock_guard<std::mutex> lock(mu_);
  return SampleLocked(engine, now);
}

std::string LoadMonitor::OrcaBytes() const {
  std::lock_guard<std::mutex> lock(mu_);
  return orca_;
}

void LoadMonitor::Listen(std::function<void()> on_sample) {
  std::lock_guard<std::mutex> lock(mu_);
  on_sample_ = std::move(on_sample);
}

void LoadMonitor::Stop() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void LoadMonitor::ThreadMain() {
  for (;;) {
    std::string bytes = MakeOrcaReport(Now()).SerializeAsString();
    std::function<void()> on_sample;
    {
      std::unique_lock<std::mutex> lock(mu_);
      orca_ = std::move(bytes);
      on_sample = on_sample_;
    }
    if (on_sample) on_sample();
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait_for(lock, absl::ToChronoNanoseconds(kPeriod), [this] { return stopping_; });
    if (stopping_) return;
  }
}

}  // namespace sluice
