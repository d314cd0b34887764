#include "service/cli/simulate_command.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/progress_bar.h"
#include "service/cli/version.h"
#include "service/report/report.h"
#include "service/simulation/load_level.h"

namespace sluice {
namespace {

constexpr int64_t kMaxTokens = 1 << 24;
constexpr int64_t kDefaultRequests = 1000;

std::string SpeedText(int64_t ended, std::chrono::steady_clock::time_point start) {
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double per_minute = seconds > 0 ? 60 * static_cast<double>(ended) / seconds : 0;
  return absl::StrCat("requests  ", static_cast<int64_t>(per_minute), " requests/min");
}

using Progress = std::function<bool(int64_t ended)>;

// Calls `run` with a function that moves a progress bar on; a signal stops it.
template <class RunFunction>
auto WithProgress(const std::string& label, int64_t total, Interrupter& interrupter,
                  const CliIo& io, const RunFunction& run) {
  ProgressBar bar(io.err, io.err_is_terminal, label, total);
  std::atomic<bool> stop{false};
  interrupter.SetHandler([&stop] { stop.store(true); });
  const auto start = std::chrono::steady_clock::now();
  const int64_t every = std::max<int64_t>(1, total / 200);
  int64_t shown = 0;
  const Progress progress = [&](int64_t ended) {
    if (ended == total || ended - shown >= every) {
      shown = ended;
      bar.Update(ended, SpeedText(ended, start));
    }
    return !stop.load();
  };
  auto result = run(progress);
  interrupter.SetHandler(nullptr);
  return result;
}

// What any sequence can come to; bounds on steps, and so on waits, follow from it.
Tokens LongestOf(const std::vector<TraceRequest>& requests) {
  Tokens longest(1);
  for (const TraceRequest& r : requests) longest = std::max(longest, r.input() + r.max_new());
  return longest;
}

}  // namespace

void SimulateCommand::DefineFlags(FlagSet& flags) {
  SimulateOptions& o = options_;
  o.machine.Define(flags);
  flags.Group("Workload");
  flags.String("trace", &o.trace, "FILE", "request trace, .jsonl or .jsonl.gz");
  flags.String("workload", &o.workload, "NAME",
               "instead of a trace: sharegpt, narrativeqa, finqa, agentic, kappa-mix or uniform");
  flags.Exclusive("trace", "workload");
  Flag& requests = flags.Integer("requests", &o.requests, 1, int64_t{1} << 32, "N",
                                 "how many requests of a workload; the first N of a trace");
  requests.Default(absl::StrCat(kDefaultRequests, ", or the whole trace"));
  requests.aliases.push_back("num-requests");
  flags.Number("rate", &o.rate, 1e-6, 1e9, "QPS", "arrivals of a workload per second (Poisson)")
      .Default("1");
  flags.Number("rate-scale", &o.rate_scale, 0, 1e9, "X",
               "multiplies the rate of arrivals; 0 = all at once");
  flags.Number(
      "utilization", &o.utilization, 1e-3, 100, "U",
      "scales arrivals to this share of what the machine can bear, whatever its bottleneck "
      "(measured by a pilot run under fcfs)");
  flags.Exclusive("rate-scale", "utilization");
  flags.Integer("max-input", &o.max_input, 1, kMaxTokens, "TOKENS", "leave out longer prompts");
  flags.Number("keep", &o.keep, 1e-6, 1, "SHARE", "share of a trace's conversations to keep");
  flags.Integer("scale", &o.scale, 1, 1 << 20, "N", "divide all lengths by this");
  flags.Integer("tenants", &o.tenants, 1, 1 << 20, "N", "tenants of a workload");
  flags.Number("tenant-skew", &o.tenant_skew, 0, 10, "X",
               "0 = equal tenants; 1 = Zipf: tenant i has 1/(i+1) of the first one's sessions");
  flags.Bool("exact-outputs", &o.exact_outputs,
             "clients state the length of answers, as sluice bench does, instead of a round bound");
  flags.Integer("seed", &o.seed, 0, std::numeric_limits<int64_t>::max(), "N",
                "of the workload, noise and failures");
  flags.Group("Scheduling");
  flags.String("policy", &o.policy, "NAMES",
               "policies with commas between them, also offload-off and all-resident; or all");
  flags.Integer("max-num-seqs", &o.max_num_seqs, 1, 1 << 20, "N", "most requests running at once");
  flags.Integer("max-num-batched-tokens", &o.max_num_batched_tokens, 1, kMaxTokens, "TOKENS",
                "most tokens computed in one step");
  flags.Number("tpot-target", &o.tpot_target_s, 1e-6, 1e6, "SECONDS",
               "time between tokens that prompt chunks leave room for");
  flags.Integer("max-queue", &o.max_queue, 1, 1 << 24, "N",
                "most requests waiting; one more is refused");
  flags.Number("patience", &o.patience_s, 0, 1e9, "SECONDS",
               "slack: wait beyond the work ahead after which a request goes first");
  flags.Number("lookahead", &o.lookahead_s, 0, 1e6, "SECONDS", "slack: work queued per resource");
  flags.Group("Trouble");
  flags.Number("noise", &o.noise, 0, 10, "SIGMA", "steps take exp(SIGMA N(0, 1)) times as long");
  flags.Number("copy-failure-rate", &o.copy_failure_rate, 0, 1, "P", "copies that fail");
  flags.Number("step-failure-rate", &o.step_failure_rate, 0, 1, "P", "steps that fail");
  flags.Group("Output");
  flags.String("json", &o.json, "FILE", "write the results here as JSON; - is stdout");
  flags.String("report", &o.report, "FILE", "write an HTML page with charts here");
}

absl::Status SimulateCommand::Validate() const {
  if (options_.trace.empty() && options_.workload.empty()) {
    return absl::InvalidArgumentError("--trace or --workload: one of them is needed");
  }
  return ParseContenders(options_.policy).status();
}

SimulationOptions SimulateCommand::MakeSimulation(const SimMachineSetup& setup) const {
  const SimulateOptions& o = options_;
  SimulationOptions simulation;
  simulation.machine = setup.machine;
  simulation.machine.seed = o.seed;
  simulation.machine.noise = o.noise;
  simulation.machine.copy_failure_rate = o.copy_failure_rate;
  simulation.machine.step_failure_rate = o.step_failure_rate;

  SchedulerOptions& scheduler = simulation.scheduler;
  scheduler.max_model_len = Tokens(std::numeric_limits<int32_t>::max());
  scheduler.queue_limit = o.max_queue;
  scheduler.step_token_limit = o.max_num_batched_tokens;
  scheduler.max_running = o.max_num_seqs;
  scheduler.tpot_target = Seconds(o.tpot_target_s);
  scheduler.policy_options.patience = Seconds(o.patience_s);
  scheduler.policy_options.lookahead = Seconds(o.lookahead_s);
  scheduler.cost = setup.machine.cost;
  scheduler.attend_in_place = setup.machine.attends_in_place;
  scheduler.geometry = setup.machine.geometry;
  scheduler.max_store_blocks = DefaultStoreBlocks(setup.machine.device_blocks);
  scheduler.device_blocks = setup.machine.device_blocks;
  scheduler.host_blocks = setup.machine.host_blocks;
  scheduler.disk_blocks = setup.machine.disk_blocks;
  return simulation;
}

absl::StatusOr<std::vector<TraceRequest>> SimulateCommand::LoadRequests(
    const SimulationOptions& simulation, Comparison* comparison, Interrupter& interrupter,
    const CliIo& io) const {
  const SimulateOptions& o = options_;
  WorkloadSource source;
  source.name_or_path = o.trace.empty() ? o.workload : o.trace;
  source.synthetic.requests = o.requests.value_or(kDefaultRequests);
  source.synthetic.seed = o.seed;
  source.synthetic.rate = o.rate.value_or(1);
  source.synthetic.tenants = static_cast<int32_t>(o.tenants);
  source.synthetic.tenant_skew = o.tenant_skew;
  source.synthetic.scale = o.scale;
  source.trace.scale = o.scale;
  source.trace.keep = o.keep;
  if (o.requests.has_value()) source.trace.max_requests = *o.requests;
  if (o.max_input.has_value()) {
    source.synthetic.max_input = Tokens(*o.max_input);
    source.trace.max_input = Tokens(*o.max_input);
  }
  SLUICE_ASSIGN_OR_RETURN(std::vector<TraceRequest> requests, LoadWorkload(source));
  if (o.exact_outputs) {
    for (TraceRequest& request : requests) request.stated = request.output;
  }
  comparison->workload = absl::StrCat(requests.size(), " requests of ", source.name_or_path);
  comparison->rate_scale = o.rate_scale;
  if (o.utilization.has_value()) {
    const auto pilot = std::min(static_cast<int64_t>(requests.size()), kPilotRequests);
    SLUICE_ASSIGN_OR_RETURN(
        comparison->rate_scale,
        WithProgress("pilot run", pilot, interrupter, io, [&](const Progress& progress) {
          return RateScaleFor(requests, simulation, *o.utilization, progress);
        }));
  }
  if (comparison->rate_scale > 0) {
    ScaleRate(comparison->rate_scale, &requests);
  } else {
    for (TraceRequest& request : requests) request.arrival = absl::ZeroDuration();
  }
  return requests;
}

absl::Status SimulateCommand::Compare(const FlagSet& flags, Interrupter& interrupter,
                                      const CliIo& io) {
  SLUICE_ASSIGN_OR_RETURN(const SimMachineSetup setup, ResolveSimMachine(options_.machine));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<Contender> contenders,
                          ParseContenders(options_.policy));
  SimulationOptions simulation = MakeSimulation(setup);
  Comparison comparison;
  comparison.command = absl::StrCat("sluice simulate ", flags.ToCommandLine());
  comparison.version = Version();
  comparison.machine = setup.Describe();
  comparison.seed = options_.seed;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TraceRequest> requests,
                          LoadRequests(simulation, &comparison, interrupter, io));
  simulation.scheduler.max_model_len = LongestOf(requests);
  comparison.options = simulation;

  for (const Contender& contender : contenders) {
    const SimulationOptions options = OptionsFor(contender, simulation, requests);
    SLUICE_ASSIGN_OR_RETURN(SimulationResult result,
                            WithProgress(contender.label, static_cast<int64_t>(requests.size()),
                                         interrupter, io, [&](const Progress& progress) {
                                           return Simulate(requests, options, progress);
                                         }));
    comparison.Add(contender, options, std::move(result));
  }
  if (options_.json != "-") io.out << ComparisonTable(comparison) << std::flush;
  SLUICE_RETURN_IF_ERROR(WriteComparisonJson(options_.json, comparison, io));
  if (options_.report.empty()) return absl::OkStatus();
  return WriteReport(options_.report, ComparisonReport(comparison));
}

int SimulateCommand::Run(const FlagSet& flags, const CliIo& io) {
  Interrupter interrupter;
  const absl::Status status = Compare(flags, interrupter, io);
  if (interrupter.signal() != 0) return 128 + interrupter.signal();
  if (!status.ok()) io.err << "sluice: " << status.message() << std::endl;
  return ExitCodeOf(status);
}

}  // namespace sluice
