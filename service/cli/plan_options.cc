#include "service/cli/plan_options.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/status_macros.h"
#include "service/workload/synthetic.h"

namespace sluice {
namespace {

constexpr int64_t kMostTokens = 1'000'000'000;
constexpr int64_t kMostRequests = 1'000'000;

absl::Status Bad(absl::string_view flag, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", message));
}

absl::Status CheckFormat(absl::string_view flag, const std::string& text) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<NumberFormat> format = ParseNumberFormat(text);
  return format.ok() ? absl::OkStatus() : Bad(flag, format.status().message());
}

absl::Status CheckQuantity(absl::string_view flag, const std::string& text, UnitKind kind) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<double> value = ParseUserQuantity(text, kind);
  return value.ok() ? absl::OkStatus() : Bad(flag, value.status().message());
}

// First character of the unit: what a number cannot contain. An exponent is part of the number.
size_t UnitBegin(const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const char c = text[at];
    const bool exponent = (c == 'e' || c == 'E') && at > 0 && at + 1 < text.size() &&
                          (absl::ascii_isdigit(static_cast<unsigned char>(text[at + 1])) ||
                           text[at + 1] == '-' || text[at + 1] == '+');
    const bool numeric =
        absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.' || c == '+' || c == '-';
    if (!numeric && !exponent) break;
    at += exponent ? 2 : 1;
  }
  return at;
}

void DefineDeployment(PlanOptions& o, FlagSet& flags) {
  flags.Group("Deployment");
  flags.String("model", &o.model, "NAME|DIR",
               "a model of --list, a directory with a config.json, or a file");
  flags.String("hardware", &o.hardware, "NAME|FILE", "hardware of --list, or a profile file");
  flags.Strings("profile-dir", &o.profile_dirs, "DIR",
                "directory with models/*.json and hardware/*.json of your own");
  flags
      .Integer("tp", &o.tp, 1, 1024, "N",
               "devices that share the model (tensor parallel); memory, compute and links add up")
      .Default("as few as hold weights and one whole context; 1 with --paper");
  flags.String("weights-dtype", &o.weights_dtype, "TYPE", "f32, bf16, fp8, int8, int4 or fp4")
      .Default("as published");
  flags.String("kv-dtype", &o.kv_dtype, "TYPE", "of the KV cache on the device").Default("bf16");
  flags.String("kv-offload-dtype", &o.kv_offload_dtype, "TYPE", "of KV on the link and in the host")
      .Default("as --kv-dtype");
  flags
      .String("link", &o.link, "RATE",
              "host-to-device bandwidth of all devices together, with its unit: 15GB/s")
      .Default("of the hardware");
  flags.String("power-cap", &o.power_cap, "POWER", "per device, with its unit: 300W")
      .Default("none");
  flags
      .Choice("basis", &o.basis, {"sustained", "peak", "paper"},
              "which rates count: what programs get, data sheets (dense), or the paper's constants")
      .Default("sustained");
  flags.Bool("paper", &o.paper,
             "the paper's formulas and constants; without --model and --hardware, the paper's "
             "tables beside ours");
}

void DefineRequests(PlanOptions& o, FlagSet& flags) {
  flags.Group("Requests");
  flags.Integer("cached", &o.cached, 0, kMostTokens, "TOKENS",
                "one request: tokens whose KV is cached off the device");
  flags.Integer("new", &o.fresh, 1, kMostTokens, "TOKENS", "and tokens to compute");
  flags.Integer("output", &o.output, 0, kMostTokens, "TOKENS",
                "and tokens to generate (they need device memory)");
  flags
      .String("workload", &o.workload, "NAME|TRACE",
              absl::StrCat("many requests instead: ", absl::StrJoin(SyntheticNames(), ", "),
                           ", or a trace file (.jsonl, .jsonl.gz)"))
      .Default(kDefaultPlanWorkload);
  flags
      .Integer("requests", &o.requests, 1, kMostRequests, "N",
               "how many requests of the workload are made, or read")
      .Default("1000, or the whole trace");
  flags.Integer("seed", &o.seed, 0, std::numeric_limits<int64_t>::max(), "N",
                "of a made-up workload");
  flags.Integer("max-input", &o.max_input, 1, kMostTokens, "TOKENS", "leave out longer prompts")
      .Default("the model's context");
}

void DefineOutput(PlanOptions& o, FlagSet& flags) {
  flags.Group("Questions and answers");
  flags
      .Strings("what-if", &o.what_if, "KEY=VALUE",
               "show what a change would do; several joined by commas change together. Keys: link, "
               "kv-dtype, kv-offload-dtype, weights-dtype, tp, power-cap, mla (latent dimension), "
               "hardware, model, step-floor, memory")
      .Default("a few that often matter; none: nothing");
  flags.String("report", &o.report, "FILE", "write an HTML page with plots here");
  flags.String("plots", &o.plots, "DIR", "write its plots here, an SVG file each");
  flags.Bool("json", &o.json, "print JSON instead of tables");
  flags.Bool("list", &o.list, "list the models and hardware there are, and exit");
}

}  // namespace

absl::StatusOr<double> ParseUserQuantity(const std::string& text, UnitKind kind) {
  const size_t unit = UnitBegin(text);
  const std::string number = text.substr(0, unit);
  const absl::string_view name = absl::StripAsciiWhitespace(absl::string_view(text).substr(unit));
  if (number.empty() || name.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" ", number.empty() ? "is not a number" : "has no unit",
                     "; want a number and one of ", UnitNames(kind)));
  }
  const absl::StatusOr<double> value = ParseQuantity(absl::StrCat(number, " ", name), kind);
  if (!value.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not understood",
                                                   "; want a number and one of ", UnitNames(kind)));
  }
  if (*value > 0) return *value;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not above 0"));
}

void PlanOptions::Define(FlagSet& flags) {
  DefineDeployment(*this, flags);
  DefineRequests(*this, flags);
  DefineOutput(*this, flags);
  flags.Exclusive("cached", "workload");
  flags.Exclusive("paper", "basis");
}

RateBasis PlanOptions::rate_basis() const {
  if (paper || basis == "paper") return RateBasis::kPaper;
  return basis == "peak" ? RateBasis::kPeakDense : RateBasis::kSustained;
}

absl::Status PlanOptions::Validate() const {
  SLUICE_RETURN_IF_ERROR(CheckFormat("weights-dtype", weights_dtype));
  SLUICE_RETURN_IF_ERROR(CheckFormat("kv-dtype", kv_dtype));
  SLUICE_RETURN_IF_ERROR(CheckFormat("kv-offload-dtype", kv_offload_dtype));
  SLUICE_RETURN_IF_ERROR(CheckQuantity("link", link, UnitKind::kByteRate));
  SLUICE_RETURN_IF_ERROR(CheckQuantity("power-cap", power_cap, UnitKind::kPower));
  if (cached.has_value() != fresh.has_value()) {
    return Bad(cached.has_value() ? "cached" : "new",
               "a request needs both --cached and --new, in tokens");
  }
  if (list || paper_tables()) {
    if (report.empty() && plots.empty()) return absl::OkStatus();
    return Bad(report.empty() ? "plots" : "report", "needs a --model and --hardware to report on");
  }
  if (model.empty()) return Bad("model", "is required (sluice plan --list shows the names)");
  if (hardware.empty()) return Bad("hardware", "is required (sluice plan --list shows the names)");
  return absl::OkStatus();
}

}  // namespace sluice
