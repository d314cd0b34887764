#include "service/cli/bench_trace.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/status_macros.h"
#include "service/config/suggest.h"
#include "service/workload/synthetic.h"
#include "service/workload/trace_reader.h"

namespace sluice {
namespace {

constexpr int64_t kMaxScale = int64_t{1} << 20U;
constexpr int64_t kMaxInput = int64_t{1} << 30U;
constexpr int64_t kMaxTenants = 1 << 16U;

absl::StatusOr<std::vector<TraceRequest>> ReadReplay(const BenchTraceOptions& o, int64_t requests) {
  TraceOptions options;
  options.scale = o.scale.value_or(options.scale);
  options.max_input = o.max_input.value_or(options.max_input);
  options.keep = o.keep.value_or(options.keep);
  options.rate_scale = o.rate_scale.value_or(options.rate_scale);
  options.max_requests = requests;
  SLUICE_ASSIGN_OR_RETURN(Trace trace, ReadTrace(o.replay, options));
  if (!trace.requests.empty()) return std::move(trace.requests);
  return absl::InvalidArgumentError(
      absl::StrCat("--replay: ", o.replay, ": no request is left: ", trace.left_out_too_long,
                   " are longer than --max-input, ", trace.left_out_trees,
                   " are not in the share that --keep takes; raise one, or --scale"));
}

}  // namespace

void BenchTraceOptions::Define(FlagSet& flags) {
  flags.Group("Workloads and traces");
  flags.String("workload", &workload, "NAME",
               absl::StrCat("requests made after published statistics, instead of equal ones: ",
                            absl::StrJoin(SyntheticNames(), ", "),
                            "; with --rate they arrive on their own, else in a closed loop"));
  flags.String("replay", &replay, "FILE",
               "requests of a trace (.jsonl or .jsonl.gz), at its times; all unless "
               "--num-requests says less");
  flags.Number("rate-scale", &rate_scale, 1e-6, 1e6, "X",
               "with --replay: this many times as many requests per second");
  flags.Number("keep", &keep, 1e-6, 1, "SHARE",
               "with --replay: this share of the conversations, each as a whole");
  flags.Integer("scale", &scale, 1, kMaxScale, "N",
                "divides all lengths, for models smaller than the workload's");
  flags.Integer("max-input", &max_input, 1, kMaxInput, "TOKENS",
                "leaves out longer prompts, after --scale");
  flags.Integer("tenants", &tenants, 1, kMaxTenants, "N",
                "with --workload: sessions belong to N tenants in turn");
  flags.Exclusive("workload", "replay");
  for (const char* name : {"workload", "replay"}) {
    for (const char* other : {"prompts-file", "prompt-tokens", "output-tokens",
                              "shared-prefix-tokens", "num-prefixes"}) {
      flags.Exclusive(name, other);
    }
  }
  for (const char* name : {"rate", "concurrency", "tenants"}) flags.Exclusive("replay", name);
  for (const char* name : {"rate-scale", "keep"}) flags.Exclusive("workload", name);
}

absl::Status BenchTraceOptions::Validate() const {
  if (!workload.empty() && !IsSyntheticName(workload)) {
    return absl::InvalidArgumentError(absl::StrCat("--workload: \"", workload, "\" is not one of ",
                                                   absl::StrJoin(SyntheticNames(), ", "),
                                                   DidYouMean(workload, SyntheticNames(), "")));
  }
  const std::pair<const char*, bool> needs_replay[] = {{"--rate-scale", rate_scale.has_value()},
                                                       {"--keep", keep.has_value()}};
  for (const auto& [name, given] : needs_replay) {
    if (given && replay.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " needs --replay"));
    }
  }
  if (tenants.has_value() && workload.empty()) {
    return absl::InvalidArgumentError("--tenants needs --workload");
  }
  if ((scale.has_value() || max_input.has_value()) && !any()) {
    return absl::InvalidArgumentError(absl::StrCat(scale.has_value() ? "--scale" : "--max-input",
                                                   " needs --workload or --replay"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TraceRequest>> LoadBenchTrace(const BenchTraceOptions& o,
                                                         int64_t requests,
                                                         std::optional<double> rate,
                                                         uint64_t seed) {
  if (!o.replay.empty()) return ReadReplay(o, requests);
  SyntheticOptions options;
  options.name = o.workload;
  options.requests = requests;
  options.seed = seed;
  options.rate = rate;
  options.tenants = static_cast<int32_t>(o.tenants.value_or(1));
  options.scale = o.scale.value_or(options.scale);
  options.max_input = o.max_input.value_or(options.max_input);
  return MakeSynthetic(options);
}

absl::StatusOr<TraceWorkload> TraceWorkload::Create(std::vector<TraceRequest> requests,
                                                    const WorkloadOptions& options,
                                                    const v1::ServerInfo& info) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<uint32_t> vocabulary, PromptVocabulary(info));
  const Tokens context(info.max_model_len());
  int64_t too_long = 0;
  Tokens longest;
  for (TraceRequest& request : requests) {
    longest = std::max(longest, request.input());
    if (request.input() >= context) {
      ++too_long;
    } else {
      request.output = std::min(request.output, context - request.input());
    }
  }
  if (too_long > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        too_long, " of ", requests.size(), " prompts, up to ", longest.value(),
        " tokens, do not fit into the server's context of ", context.value(),
        " tokens with one to generate; use --max-input ", context.value() - 1, " or --scale ",
        longest.value() / std::max<int64_t>(1, context.value() - 1) + 1));
  }
  return TraceWorkload(std::move(requests), options, std::move(vocabulary));
}

v1::GenerateRequest TraceWorkload::Request(int64_t index) const {
  const TraceRequest& from = requests_[static_cast<size_t>(index)];
  v1::GenerateRequest request;
  request.set_request_id(absl::StrCat("bench-", index));
  v1::TokenIds* ids = request.mutable_token_ids();
  ids->mutable_ids()->Reserve(static_cast<int>(from.input().value()));
  for (const TokenId id : MakePrompt(from.prompt, static_cast<int32_t>(vocabulary_.size()))) {
    ids->add_ids(vocabulary_[static_cast<size_t>(id)]);
  }
  request.mutable_sampling()->set_temperature(static_cast<float>(options_.temperature));
  request.mutable_sampling()->set_seed(options_.seed + static_cast<uint64_t>(index));
  // The only way to have a server generate as much as the trace says.
  request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(from.output.value()));
  request.mutable_stopping()->set_ignore_eos(options_.ignore_eos);
  request.mutable_scheduling()->set_tenant(TenantName(from.tenant));
  request.mutable_scheduling()->set_priority(from.priority);
  return request;
}

std::vector<absl::Duration> TraceWorkload::Arrivals(int64_t first) const {
  std::vector<absl::Duration> arrivals;
  for (size_t i = static_cast<size_t>(first); i < requests_.size(); ++i) {
    arrivals.push_back(requests_[i].arrival - requests_[static_cast<size_t>(first)].arrival);
  }
  return arrivals;
}

}  // namespace sluice
