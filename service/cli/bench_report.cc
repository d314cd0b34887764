#include "service/cli/bench_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/cli/table.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

constexpr double kMsPerSecond = 1e3;

std::vector<std::string> LatencyRow(const char* name, Samples& s) {
  return {name,
          Fixed(s.mean(), 2),
          Fixed(s.Percentile(50), 2),
          Fixed(s.Percentile(90), 2),
          Fixed(s.Percentile(99), 2),
          Fixed(s.max(), 2)};
}

nlohmann::json LatencyJson(Samples& s) {
  return {{"count", s.count()},      {"mean", s.mean()},        {"p50", s.Percentile(50)},
          {"p90", s.Percentile(90)}, {"p99", s.Percentile(99)}, {"max", s.max()}};
}

void AddFinished(const BenchRecord& r, BenchSummary& s) {
  ++s.ok;
  s.e2e_ms.Add(r.e2e_s * kMsPerSecond);
  if (r.usage.output_tokens() > 0) s.ttft_ms.Add(r.ttft_s * kMsPerSecond);
  if (!r.token_gaps_s.empty()) s.tpot_ms.Add(r.tpot_s * kMsPerSecond);
  for (const double gap : r.token_gaps_s) s.itl_ms.Add(gap * kMsPerSecond);
  s.prompt_tokens += r.usage.prompt_tokens();
  s.output_tokens += r.usage.output_tokens();
  s.cached_device_tokens += r.usage.cached_device_tokens();
  s.cached_host_tokens += r.usage.cached_host_tokens();
  s.cached_other_tokens += r.usage.cached_disk_tokens() + r.usage.cached_remote_tokens();
  s.computed_tokens += r.usage.computed_tokens();
  s.recomputed_tokens += r.usage.recomputed_tokens();
  s.loaded_bytes += r.usage.loaded_bytes();
  s.preemptions += r.timing.preemptions();
  s.load_exposed_s += r.timing.load_exposed_s();
  s.load_overlapped_s += r.timing.load_overlapped_s();
  s.link_emulated = s.link_emulated || r.timing.link_emulated();
  ++s.plans[r.timing.plan()];
}

std::string Outcomes(const BenchSummary& s) {
  std::string text = absl::StrCat(s.ok, " ok, ", s.failures(), " failed");
  for (const auto& [code, count] : s.failed) absl::StrAppend(&text, "; ", code, " ", count);
  return text;
}

std::string Plans(const BenchSummary& s) {
  std::string text;
  for (const auto& [plan, count] : s.plans) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", plan, " ", count);
  }
  return text;
}

}  // namespace

int64_t BenchSummary::failures() const {
  int64_t sum = 0;
  for (const auto& [code, count] : failed) sum += count;
  return sum;
}

double BenchSummary::PerSecond(double count) const {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? count / seconds : 0;
}

BenchSummary Summarize(const std::vector<BenchRecord>& records, absl::Duration elapsed) {
  BenchSummary summary;
  summary.elapsed = elapsed;
  for (const BenchRecord& record : records) {
    summary.max_late_ms = std::max(summary.max_late_ms, record.late_s * kMsPerSecond);
    if (record.status.ok()) {
      AddFinished(record, summary);
    } else {
      ++summary.failed[CodeName(record.status.error_code())];
    }
  }
  return summary;
}

std::string LinkLabel(bool emulated, double bytes_per_second) {
  if (!emulated) return "";
  return absl::StrCat(" (link emulated at ", FormatNumber(bytes_per_second / 1e9), " GB/s)");
}

std::string RenderSummary(BenchSummary& s, double link_bytes_per_second) {
  using Align = Table::Align;
  const auto per_second = [&s](int64_t count) {
    return Fixed(s.PerSecond(static_cast<double>(count)), 1);
  };
  Table totals({{"result", Align::kLeft}, {"value", Align::kLeft}});
  totals.AddRow({"requests", Outcomes(s)});
  totals.AddRow({"duration", absl::StrCat(Fixed(absl::ToDoubleSeconds(s.elapsed), 2), " s")});
  totals.AddRow({"requests/s", Fixed(s.PerSecond(static_cast<double>(s.ok)), 2)});
  totals.AddRow({"output tokens/s", per_second(s.output_tokens)});
  totals.AddRow({"total tokens/s", per_second(s.prompt_tokens + s.output_tokens)});
  totals.AddRow({"prompt tokens",
                 absl::StrCat(s.prompt_tokens, ": ", s.cached_device_tokens, " device, ",
                              s.cached_host_tokens, " host, ", s.computed_tokens, " computed")});
  totals.AddRow({"output tokens", absl::StrCat(s.output_tokens)});
  totals.AddRow({"recomputed tokens", absl::StrCat(s.recomputed_tokens)});
  totals.AddRow({"plans", Plans(s)});
  const std::string label = LinkLabel(s.link_emulated, link_bytes_per_second);
  totals.AddRow({"KV loaded", FormatBytes(Bytes(static_cast<int64_t>(s.loaded_bytes)))});
  totals.AddRow({"load time exposed", absl::StrCat(Fixed(s.load_exposed_s, 3), " s", label)});
  totals.AddRow({"load time overlapped", absl::StrCat(Fixed(s.load_overlapped_s, 3), " s", label)});
  totals.AddRow({"preemptions", absl::StrCat(s.preemptions)});
  if (s.max_late_ms > 0) {
    totals.AddRow({"client late by", absl::StrCat("at most ", Fixed(s.max_late_ms, 1), " ms")});
  }
  Table latency({{"ms", Align::kLeft}, {"mean"}, {"p50"}, {"p90"}, {"p99"}, {"max"}});
  latency.AddRow(LatencyRow("time to first token", s.ttft_ms));
  latency.AddRow(LatencyRow("inter-token latency", s.itl_ms));
  latency.AddRow(LatencyRow("time per output token", s.tpot_ms));
  latency.AddRow(LatencyRow("end to end", s.e2e_ms));
  return absl::StrCat(totals.Render(), "\n", latency.Render());
}

nlohmann::json SummaryJson(BenchSummary& s) {
  return {
      {"ok", s.ok},
      {"failed", s.failures()},
      {"failed_by_code", s.failed},
      {"plans", s.plans},
      {"duration_s", absl::ToDoubleSeconds(s.elapsed)},
      {"requests_per_s", s.PerSecond(static_cast<double>(s.ok))},
      {"output_tokens_per_s", s.PerSecond(static_cast<double>(s.output_tokens))},
      {"total_tokens_per_s", s.PerSecond(static_cast<double>(s.prompt_tokens + s.output_tokens))},
      {"prompt_tokens", s.prompt_tokens},
      {"output_tokens", s.output_tokens},
      {"cached_device_tokens", s.cached_device_tokens},
      {"cached_host_tokens", s.cached_host_tokens},
      {"cached_other_tokens", s.cached_other_tokens},
      {"computed_tokens", s.computed_tokens},
      {"recomputed_tokens", s.recomputed_tokens},
      {"loaded_bytes", s.loaded_bytes},
      {"preemptions", s.preemptions},
      {"load_exposed_s", s.load_exposed_s},
      {"load_overlapped_s", s.load_overlapped_s},
      {"link_emulated", s.link_emulated},
      {"max_late_ms", s.max_late_ms},
      {"ttft_ms", LatencyJson(s.ttft_ms)},
      {"itl_ms", LatencyJson(s.itl_ms)},
      {"tpot_ms", LatencyJson(s.tpot_ms)},
      {"e2e_ms", LatencyJson(s.e2e_ms)}};
}

}  // namespace sluice
