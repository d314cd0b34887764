#include "service/cli/bench_runner.h"

#include <algorithm>
#include <thread>

namespace sluice {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);

}  // namespace

BenchRunner::BenchRunner(Client& client, const RequestSource& workload, const BenchLoad& load)
    : client_(client),
      workload_(workload),
      load_(load),
      arrivals_(load.rate.value_or(1), load.seed) {}

std::vector<BenchRecord> BenchRunner::Run(
    const std::function<void(int64_t done, absl::Duration elapsed)>& on_progress) {
  began_ = MonotonicNow();
  const int64_t workers =
      load_.num_requests > 0 ? std::min(load_.concurrency, load_.num_requests) : load_.concurrency;
  live_workers_ = workers;
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < workers; ++i) threads.emplace_back([this] { WorkerMain(); });
  {
    std::unique_lock<std::mutex> lock(mu_);
    while (live_workers_ > 0) {
      changed_.wait_for(lock, absl::ToChronoMilliseconds(kProgressInterval));
      const int64_t done = static_cast<int64_t>(records_.size());
      lock.unlock();
      on_progress(done, MonotonicNow() - began_);
      lock.lock();
    }
  }
  for (std::thread& thread : threads) thread.join();
  elapsed_ = MonotonicNow() - began_;
  return std::move(records_);
}

void BenchRunner::Cancel() {
  const std::lock_guard<std::mutex> lock(mu_);
  cancelled_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  changed_.notify_all();
}

void BenchRunner::WorkerMain() {
  while (const std::optional<Job> job = NextJob()) {
    BenchRecord record = RunJob(*job);
    const std::lock_guard<std::mutex> lock(mu_);
    records_.push_back(std::move(record));
  }
  const std::lock_guard<std::mutex> lock(mu_);
  if (--live_workers_ == 0) changed_.notify_all();
}

absl::Duration BenchRunner::NextStartLocked() {
  if (!load_.arrivals.empty()) return load_.arrivals[static_cast<size_t>(next_)];
  return load_.rate.has_value() ? arrivals_.Next() : MonotonicNow() - began_;
}

std::optional<BenchRunner::Job> BenchRunner::NextJob() {
  std::unique_lock<std::mutex> lock(mu_);
  if (cancelled_ || (load_.num_requests > 0 && next_ >= load_.num_requests)) return std::nullopt;
  Job job;
  job.start = NextStartLocked();
  if (job.start >= load_.duration) return std::nullopt;
  job.index = load_.first_request + next_++;
  while (!cancelled_) {
    const absl::Duration wait = began_ + job.start - MonotonicNow();
    if (wait <= absl::ZeroDuration()) return job;
    changed_.wait_for(lock, absl::ToChronoNanoseconds(wait));
  }
  return std::nullopt;
}

BenchRecord BenchRunner::RunJob(const Job& job) {
  BenchRecord record;
  record.index = job.index;
  grpc::ClientContext context;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    contexts_.insert(&context);
    if (cancelled_) context.TryCancel();
  }
  const v1::GenerateRequest request = workload_.Request(job.index);
  const absl::Duration late = MonotonicNow() - began_ - job.start;
  CallResult result = RunGenerate(client_.inference(), request, context);
  {
    const std::lock_guard<std::mutex> lock(mu_);
    contexts_.erase(&context);
  }
  record.status = result.status;
  record.late_s = load_.open_loop() ? absl::ToDoubleSeconds(late) : 0;
  record.e2e_s = absl::ToDoubleSeconds(result.total) + record.late_s;
  if (result.first_token.has_value()) {
    record.ttft_s = absl::ToDoubleSeconds(*result.first_token) + record.late_s;
    const size_t gaps = result.token_gaps_s.size();
    const absl::Duration span = result.last_token - *result.first_token;
    if (gaps > 0) record.tpot_s = absl::ToDoubleSeconds(span) / static_cast<double>(gaps);
  }
  record.token_gaps_s = std::move(result.token_gaps_s);
  if (!result.samples.empty() && result.samples[0].finished.has_value()) {
    record.usage = result.samples[0].finished->usage();
    record.timing = result.samples[0].finished->timing();
  }
  return record;
}

}  // namespace sluice
