#include "service/simulation/window_chart.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

enum Kind { kCompute, kStall, kMove, kFailed, kWaiting, kLoading, kPrefill, kDecode };

constexpr std::array<const char*, kLinkDirectionCount> kLinkRows = {
    "host to device", "device to host", "disk to host", "host to disk"};

// Draws only what lies in [from, to].
struct Canvas {
  GanttChart chart;
  double from = 0;
  double to = 0;

  void Add(size_t row, double begin, double end, Kind kind, std::string title = {}) {
    begin = std::max(begin, from);
    end = std::min(end, to);
    if (end <= begin) return;
    chart.spans.push_back({static_cast<int>(row), begin, end, kind, std::move(title)});
  }
};

// When the loads of a request ended; its admission if it had none in the window.
double LoadedAt(const SimulationResult& result, size_t index) {
  double loaded = result.requests[index].admitted;
  for (const WindowRecorder::Move& move : result.window_moves) {
    const bool own = move.request == RequestId(static_cast<int64_t>(index)) &&
                     move.direction == LinkDirection::kHostToDevice;
    if (own) loaded = std::max(loaded, move.to);
  }
  return std::min(loaded, result.requests[index].first_token);
}

void AddRequest(const SimulationResult& result, size_t index, size_t row, Canvas* canvas) {
  const RequestRecord& record = result.requests[index];
  const std::string title =
      absl::StrCat("request ", index, ": ", record.prompt.value(), " tokens, ",
                   record.computed.value(), " computed, ", RequestPlanName(record.plan));
  const double admitted = std::min(record.admitted, record.finished);
  const double first = std::min(record.first_token, record.finished);
  const double loaded = std::clamp(LoadedAt(result, index), admitted, std::max(admitted, first));
  canvas->Add(row, record.arrival, admitted, kWaiting, title);
  canvas->Add(row, admitted, loaded, kLoading, title);
  canvas->Add(row, loaded, first, kPrefill, title);
  canvas->Add(row, first, record.finished, kDecode, title);
}

}  // namespace

GanttChart WindowChart(const SimulationResult& result) {
  Canvas canvas;
  GanttChart& chart = canvas.chart;
  chart.x = {.title = "time", .format = TickFormat::kSeconds};
  chart.kinds = {"compute", "stall",   "copy",    "failed copy",
                 "waiting", "loading", "prefill", "decode"};
  if (result.window_steps.empty()) return chart;
  // From the first arrival of the window on, as long as steps were recorded.
  canvas.from = kNotYet;
  for (size_t i = result.window_first; i < result.window_last; ++i) {
    canvas.from = std::min(canvas.from, result.requests[i].arrival);
  }
  canvas.from = std::max(canvas.from, result.window_steps.front().from);
  canvas.to = result.window_steps.back().to;

  chart.rows = {"device"};
  for (const WindowRecorder::Step& step : result.window_steps) {
    canvas.Add(0, step.from, step.from + step.stall, kStall);
    canvas.Add(0, step.from + step.stall, step.to, kCompute);
  }
  for (size_t d = 0; d < kLinkDirectionCount; ++d) {
    const auto in_lane = [d](const WindowRecorder::Move& move) {
      return static_cast<size_t>(move.direction) == d;
    };
    if (std::none_of(result.window_moves.begin(), result.window_moves.end(), in_lane)) continue;
    const size_t row = chart.rows.size();
    chart.rows.emplace_back(kLinkRows[d]);
    for (const WindowRecorder::Move& move : result.window_moves) {
      if (in_lane(move)) canvas.Add(row, move.from, move.to, move.ok ? kMove : kFailed);
    }
  }
  for (size_t i = result.window_first; i < result.window_last; ++i) {
    chart.rows.push_back(absl::StrCat("#", i));
    AddRequest(result, i, chart.rows.size() - 1, &canvas);
  }
  return chart;
}

}  // namespace sluice
