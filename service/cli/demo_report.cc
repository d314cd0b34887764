#include "service/cli/demo_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/cli/bench_report.h"
#include "service/cli/table.h"
#include "service/config/flag_values.h"
#include "service/report/percentiles.h"

namespace sluice {
namespace {

const v1::Finished* FinishedOf(const CallResult& result) {
  if (!result.ok() || result.samples.empty() || !result.samples[0].finished) return nullptr;
  return &*result.samples[0].finished;
}

bool AnyEmulated(const std::vector<CallResult>& results) {
  return std::any_of(results.begin(), results.end(), [](const CallResult& r) {
    const v1::Finished* end = FinishedOf(r);
    return end != nullptr && end->timing().link_emulated();
  });
}

std::string Share(double part, double whole) {
  return whole > 0 ? absl::StrCat(Fixed(100 * part / whole, 1), " %") : "-";
}

std::string SizeText(double bytes) { return FormatBytes(Bytes(static_cast<int64_t>(bytes))); }

}  // namespace

std::string RenderRequests(const DemoPlan& plan, const std::vector<CallResult>& results) {
  using Align = Table::Align;
  Table table({{"session"},
               {"document", Align::kLeft},
               {"asked", Align::kLeft},
               {"prompt"},
               {"device"},
               {"host"},
               {"computed"},
               {"κ_ratio"},
               {"TTFT ms"},
               {"exposed ms"},
               {"overlapped ms"},
               {"plan", Align::kLeft}});
  for (size_t i = 0; i < results.size(); ++i) {
    const DemoRequest& request = plan.requests[i];
    std::vector<std::string> row = {absl::StrCat(request.session), request.document,
                                    request.question};
    if (const v1::Finished* end = FinishedOf(results[i])) {
      const v1::Usage& u = end->usage();
      const v1::Timing& t = end->timing();
      for (const uint32_t tokens : {u.prompt_tokens(), u.cached_device_tokens(),
                                    u.cached_host_tokens(), u.computed_tokens()}) {
        row.push_back(absl::StrCat(tokens));
      }
      row.push_back(Fixed(t.kappa_ratio(), 1));
      for (const double s : {t.ttft_s(), t.load_exposed_s(), t.load_overlapped_s()}) {
        row.push_back(Fixed(s * 1e3, 1));
      }
      row.push_back(t.plan());
    } else {
      row.resize(11, "-");
      row.push_back(CodeName(results[i].status.error_code()));
    }
    table.AddRow(std::move(row));
  }
  return table.Render();
}

std::string RenderTotals(const std::vector<CallResult>& results, const MetricValues& metrics,
                         const v1::ServerInfo& info) {
  int64_t prompt = 0, device = 0, host = 0, computed = 0, recomputed = 0, output = 0;
  Samples computed_ttft_ms, loaded_ttft_ms;
  for (const CallResult& result : results) {
    const v1::Finished* end = FinishedOf(result);
    if (end == nullptr) continue;
    prompt += end->usage().prompt_tokens();
    device += end->usage().cached_device_tokens();
    host += end->usage().cached_host_tokens();
    computed += end->usage().computed_tokens();
    recomputed += end->usage().recomputed_tokens();
    output += end->usage().output_tokens();
    Samples& ttft_ms = end->usage().cached_host_tokens() > 0 ? loaded_ttft_ms : computed_ttft_ms;
    ttft_ms.Add(end->timing().ttft_s() * 1e3);
  }
  const std::string bytes = "sluice_kv_transfer_bytes_total";
  const std::string label = LinkLabel(AnyEmulated(results), info.link_bytes_per_second());
  Table table({{"total", Table::Align::kLeft}, {"value", Table::Align::kLeft}});
  table.AddRow(
      {"prompt tokens",
       absl::StrCat(prompt, ": ", device, " found on the device (",
                    Share(static_cast<double>(device), static_cast<double>(prompt)), "), ", host,
                    " loaded from host (",
                    Share(static_cast<double>(host), static_cast<double>(prompt)), "), ", computed,
                    " computed (",
                    Share(static_cast<double>(computed), static_cast<double>(prompt)), ")")});
  table.AddRow({"recomputed tokens", absl::StrCat(recomputed)});
  table.AddRow({"mean TTFT",
                absl::StrCat(Fixed(computed_ttft_ms.mean(), 1), " ms when computed, ",
                             Fixed(loaded_ttft_ms.mean(), 1), " ms when loaded from host", label)});
  table.AddRow({"output tokens", absl::StrCat(output)});
  table.AddRow(
      {"host -> device", absl::StrCat(SizeText(SumMetric(metrics, bytes, "src=\"host\"")), label)});
  table.AddRow({"device -> host",
                absl::StrCat(SizeText(SumMetric(metrics, bytes, "src=\"device\"")), label)});
  const std::string activity = "sluice_activity_seconds_total";
  const double wall = SumMetric(metrics, activity, "");
  const std::vector<std::pair<const char*, const char*>> states = {
      {"compute only", "state=\"compute_only\""},
      {"transfer only", "state=\"transfer_only\""},
      {"both at once", "state=\"both\""},
      {"idle", "state=\"idle\""}};
  std::string spent;
  for (const auto& [name, state] : states) {
    absl::StrAppend(&spent, spent.empty() ? "" : ", ", name, " ",
                    Share(SumMetric(metrics, activity, state), wall));
  }
  table.AddRow({"server's time", absl::StrCat(Fixed(wall, 1), " s: ", spent, label)});
  return table.Render();
}

std::string RenderAnswer(const DemoPlan& plan, const std::vector<CallResult>& results) {
  for (size_t i = results.size(); i-- > 0;) {
    const v1::Finished* end = FinishedOf(results[i]);
    if (end == nullptr) continue;
    const DemoRequest& request = plan.requests[i];
    return absl::StrCat("The last answer in full. Session ", request.session, ", about ",
                        request.document, " (", request.question, "), ",
                        end->usage().cached_host_tokens(), " of ", end->usage().prompt_tokens(),
                        " prompt tokens from host memory:\n\n  ", results[i].samples[0].text, "\n");
  }
  return "";
}

}  // namespace sluice
