#include "service/cli/bench_command.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/child_process.h"
#include "service/cli/machine_info.h"
#include "service/cli/progress_bar.h"
#include "service/cli/table.h"
#include "service/cli/version.h"

namespace sluice {
namespace {

constexpr int64_t kDefaultConcurrency = 16;
constexpr int64_t kDefaultRequests = 64;
// Made of a --workload when only a --duration limits it.
constexpr int64_t kUnlimitedRequests = 65536;
constexpr int64_t kMaxThreads = 4096;
constexpr int64_t kMaxTokens = 1 << 24;

nlohmann::json ServerJson(const v1::ServerInfo& info) {
  return {{"version", info.version()},
          {"model", info.model()},
          {"parameters", info.parameters()},
          {"backend", info.backend()},
          {"device", info.device()},
          {"dtype", info.dtype()},
          {"block_size", info.block_size()},
          {"block_bytes", info.block_bytes()},
          {"device_kv_blocks", info.device_kv_blocks()},
          {"host_kv_blocks", info.host_kv_blocks()},
          {"link_bytes_per_second", info.link_bytes_per_second()},
          {"link_emulated", info.link_emulated()}};
}

nlohmann::json MachineJson() {
  const MachineInfo machine = GetMachineInfo();
  return {{"cpu", machine.cpu},
          {"cpus", machine.cpus},
          {"memory_gib", machine.memory_gib},
          {"kernel", machine.kernel}};
}

// Runs the load with a progress bar; a signal cancels it.
std::vector<BenchRecord> RunWithProgress(BenchRunner& runner, const BenchLoad& load,
                                         const std::string& label, Interrupter& interrupter,
                                         const CliIo& io) {
  // Without a number of requests, progress is time.
  const bool counted = load.num_requests > 0;
  const int64_t total =
      counted ? load.num_requests : std::llround(absl::ToDoubleSeconds(load.duration));
  ProgressBar bar(io.err, io.err_is_terminal, label, total);
  interrupter.SetHandler([&runner] { runner.Cancel(); });
  std::vector<BenchRecord> records = runner.Run([&](int64_t done, absl::Duration elapsed) {
    const double seconds = absl::ToDoubleSeconds(elapsed);
    const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    bar.Update(counted ? done : static_cast<int64_t>(seconds),
               absl::StrCat(counted ? "requests  " : absl::StrCat("s  ", done, " requests  "),
                            Fixed(rate, 1), " requests/s"));
  });
  interrupter.SetHandler(nullptr);
  return records;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadPromptLines(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat("--prompts-file: ", path, ": cannot be read; check the path"));
  }
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  if (lines.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prompts-file: ", path, ": has no prompts; write one per line"));
  }
  return lines;
}

BenchLoad BenchOptions::Load() const {
  BenchLoad load;
  load.rate = rate;
  load.concurrency = rate.has_value() ? max_in_flight : concurrency.value_or(kDefaultConcurrency);
  load.num_requests = num_requests.value_or(duration_s.has_value() ? 0 : kDefaultRequests);
  if (duration_s.has_value()) load.duration = absl::Seconds(*duration_s);
  load.seed = workload.seed;
  return load;
}

int64_t BenchOptions::TraceRequests() const {
  if (num_requests.has_value()) return *num_requests + warmup;
  if (!trace.replay.empty()) return std::numeric_limits<int64_t>::max();
  return (duration_s.has_value() ? kUnlimitedRequests : kDefaultRequests) + warmup;
}

void BenchCommand::DefineFlags(FlagSet& flags) {
  BenchOptions& o = options_;
  o.connection.Define(flags);
  flags.Group("Load");
  flags
      .Integer("concurrency", &o.concurrency, 1, kMaxThreads, "N",
               "closed loop: this many clients, each sends when its last request has ended")
      .Default(absl::StrCat(kDefaultConcurrency));
  flags.Number("rate", &o.rate, 1e-3, 1e6, "QPS",
               "open loop: requests arrive at this many per second (Poisson), whatever the server "
               "does");
  flags.Exclusive("concurrency", "rate");
  flags.Integer("max-in-flight", &o.max_in_flight, 1, kMaxThreads, "N",
                "open loop: most requests under way; later ones start late, and that is reported");
  flags
      .Integer("num-requests", &o.num_requests, 1, int64_t{1} << 40, "N",
               "how many requests; unlimited if only --duration is given")
      .Default(absl::StrCat(kDefaultRequests));
  flags.Number("duration", &o.duration_s, 0.001, 1e6, "SECONDS", "start no request after this");
  flags.Integer("warmup", &o.warmup, 0, int64_t{1} << 40, "N",
                "requests sent first and not measured");
  flags.Group("Requests");
  flags.Integer("prompt-tokens", &o.workload.prompt_tokens, 1, kMaxTokens, "TOKENS",
                "length of every prompt, of random token ids");
  flags.Integer("output-tokens", &o.workload.output_tokens, 1, kMaxTokens, "TOKENS",
                "most output tokens");
  flags.Integer("shared-prefix-tokens", &o.workload.shared_prefix_tokens, 0, kMaxTokens, "TOKENS",
                "this much of the prompt is shared with other requests");
  flags.Integer("num-prefixes", &o.workload.num_prefixes, 1, int64_t{1} << 32, "N",
                "different shared prefixes, used in turn");
  flags.String("prompts-file", &o.prompts_file, "FILE", "prompts as text, one per line, instead");
  flags.Bool("ignore-eos", &o.workload.ignore_eos, "generate all output tokens");
  flags.Number("temperature", &o.workload.temperature, 0, 100, "X", "0 = greedy");
  flags.Integer("seed", &o.workload.seed, 0, std::numeric_limits<int64_t>::max(), "N",
                "of prompts, arrivals and sampling");
  o.trace.Define(flags);
  flags.Group("What");
  flags.Choice("suite", &o.suite, {"server", "gpu"},
               "server: load on a server; gpu: copies and kernels of the CUDA backend on this "
               "machine's GPU, no server needed");
  flags.Group("Output");
  flags.String("json", &o.json, "FILE", "write the results here as JSON; - is stdout");
}

absl::Status BenchCommand::Validate() const {
  SLUICE_RETURN_IF_ERROR(options_.trace.Validate());
  const WorkloadOptions& w = options_.workload;
  if (w.shared_prefix_tokens >= w.prompt_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("--shared-prefix-tokens: ", w.shared_prefix_tokens,
                     " is not less than --prompt-tokens ", w.prompt_tokens));
  }
  return absl::OkStatus();
}

absl::Status BenchCommand::Report(BenchSummary summary, const v1::ServerInfo& info,
                                  const FlagSet& flags, const CliIo& io) const {
  if (options_.json != "-") {
    io.out << RenderSummary(summary, info.link_bytes_per_second()) << std::flush;
  }
  if (options_.json.empty()) return absl::OkStatus();
  const nlohmann::json json = {{"benchmark", "sluice bench"},
                               {"version", Version()},
                               {"command", absl::StrCat("sluice bench ", flags.ToCommandLine())},
                               {"date", UtcDate(absl::Now())},
                               {"seed", options_.workload.seed},
                               {"machine", MachineJson()},
                               {"server", ServerJson(info)},
                               {"results", SummaryJson(summary)}};
  if (options_.json == "-") {
    io.out << json.dump() << std::endl;
    return absl::OkStatus();
  }
  std::ofstream file(options_.json);
  if (!(file << json.dump(2) << std::endl)) {
    return absl::UnavailableError(
        absl::StrCat("--json: ", options_.json, ": cannot be written; check path and space"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RequestSource>> BenchCommand::MakeTraceSource(
    std::vector<TraceRequest> requests, const v1::ServerInfo& info, BenchLoad* load) const {
  SLUICE_ASSIGN_OR_RETURN(TraceWorkload source,
                          TraceWorkload::Create(std::move(requests), options_.workload, info));
  if (options_.warmup >= source.size()) {
    return absl::InvalidArgumentError(absl::StrCat("--warmup: ", options_.warmup, " of ",
                                                   source.size(),
                                                   " requests leave none to measure; lower it"));
  }
  // The warm-up is the beginning of the workload: sent twice, its prompts would all be cached.
  load->first_request = options_.warmup;
  load->num_requests = source.size() - options_.warmup;
  if (!options_.trace.replay.empty() || options_.rate.has_value()) {
    load->arrivals = source.Arrivals(options_.warmup);
    load->concurrency = options_.max_in_flight;
  }
  return std::make_unique<TraceWorkload>(std::move(source));
}

BenchCommand::Outcome BenchCommand::RunLoad(Client& client, const RequestSource& source,
                                            const BenchLoad& load, Interrupter& interrupter,
                                            const CliIo& io) const {
  if (options_.warmup > 0) {
    BenchLoad warmup = load;
    warmup.rate.reset();
    warmup.arrivals.clear();
    warmup.first_request = 0;
    warmup.num_requests = options_.warmup;
    BenchRunner runner(client, source, warmup);
    RunWithProgress(runner, warmup, "warm-up", interrupter, io);
  }
  BenchRunner runner(client, source, load);
  std::vector<BenchRecord> records = RunWithProgress(runner, load, "bench", interrupter, io);
  return {std::move(records), runner.elapsed()};
}

absl::Status BenchCommand::Measure(const FlagSet& flags, Interrupter& interrupter,
                                   const CliIo& io) {
  // What is wrong with the files is said before a server is bothered.
  std::vector<TraceRequest> requests;
  if (options_.trace.any()) {
    SLUICE_ASSIGN_OR_RETURN(requests, LoadBenchTrace(options_.trace, options_.TraceRequests(),
                                                     options_.rate, options_.workload.seed));
  } else if (!options_.prompts_file.empty()) {
    SLUICE_ASSIGN_OR_RETURN(options_.workload.prompts, ReadPromptLines(options_.prompts_file));
  }
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(options_.connection));
  SLUICE_ASSIGN_OR_RETURN(const v1::ServerInfo info, client->GetServerInfo());
  BenchLoad load = options_.Load();
  std::unique_ptr<RequestSource> source;
  if (options_.trace.any()) {
    SLUICE_ASSIGN_OR_RETURN(source, MakeTraceSource(std::move(requests), info, &load));
  } else {
    SLUICE_ASSIGN_OR_RETURN(Workload workload, Workload::Create(options_.workload, info));
    source = std::make_unique<Workload>(std::move(workload));
  }
  const auto [records, elapsed] = RunLoad(*client, *source, load, interrupter, io);
  BenchSummary summary = Summarize(records, elapsed);
  const int64_t failures = summary.failures();
  SLUICE_RETURN_IF_ERROR(Report(std::move(summary), info, flags, io));
  if (failures > 0 && interrupter.signal() == 0) {
    for (const BenchRecord& record : records) {
      if (record.status.ok()) continue;
      return absl::UnavailableError(
          absl::StrCat(failures, " requests failed; the first: ", DescribeError(record.status)));
    }
  }
  return absl::OkStatus();
}

absl::Status RunGpuSuite(const std::string& self, const std::string& json) {
  const std::string program = std::filesystem::path(self).replace_filename("gpu_bench").string();
  std::vector<std::string> words = {program};
  if (!json.empty()) words.insert(words.end(), {"--json", json == "-" ? "/dev/stdout" : json});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return absl::FailedPreconditionError(
      absl::StrCat("--suite=gpu: ", program, ": ", std::strerror(errno),
                   "; build with the CUDA toolkit (cmake --preset cuda)"));
}

int BenchCommand::Run(const FlagSet& flags, const CliIo& io) {
  if (options_.suite == "gpu") {
    const absl::Status status = RunGpuSuite(SelfPath(), options_.json);
    io.err << "sluice: " << status.message() << std::endl;
    return ExitCodeOf(status);
  }
  Interrupter interrupter;
  const absl::Status status = Measure(flags, interrupter, io);
  if (!status.ok()) io.err << "sluice: " << status.message() << std::endl;
  if (interrupter.signal() != 0) return 128 + interrupter.signal();
  return ExitCodeOf(status);
}

}  // namespace sluice
