#include "service/trace/trace_text.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace sluice {
namespace {

constexpr int kDevice = 1;
constexpr int kLinks = 2;
constexpr int kRequests = 3;

constexpr std::array<const char*, kCopyClassCount> kClasses = {"control", "demand", "prefetch",
                                                               "write-back"};
constexpr std::array<const char*, kTierCount> kTiers = {"device", "host", "disk", "remote"};
constexpr std::array<const char*, kFinishReasonCount> kReasons = {"stop", "length", "cancelled",
                                                                  "deadline", "error"};
constexpr std::array kPhases = {"queue", "load", "prefill", "decode"};
// Lanes of one direction and class; more overlapping copies than that are not drawn apart.
constexpr int64_t kLaneStride = 100;

double Milliseconds(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

// `"name":1.25`; JSON has no infinity, so what is unknown is left out.
void AddNumber(const char* name, double value, std::string* out) {
  if (!std::isfinite(value)) return;
  absl::StrAppendFormat(out, "%s\"%s\":%.6g", out->empty() ? "" : ",", name, value);
}
void AddCount(const char* name, int64_t value, std::string* out) {
  absl::StrAppend(out, out->empty() ? "" : ",", "\"", name, "\":", value);
}
void AddText(const char* name, const std::string& value, std::string* out) {
  absl::StrAppend(out, out->empty() ? "" : ",", "\"", name, "\":\"", value, "\"");
}

}  // namespace

double TraceText::Microseconds(absl::Time time) const {
  return absl::ToDoubleMicroseconds(time - origin_);
}

std::string TraceText::Header() {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"origin\":\"";
  absl::StrAppend(&out, absl::FormatTime(absl::RFC3339_full, origin_, absl::UTCTimeZone()),
                  "\"},\"traceEvents\":[");
  const std::string device = absl::StrReplaceAll(device_, {{"\\", "/"}, {"\"", "'"}});
  const std::array<std::pair<int, std::string>, 3> processes = {
      std::pair{kDevice, "device: " + device}, std::pair{kLinks, std::string("links")},
      std::pair{kRequests, std::string("requests")}};
  for (const auto& [process, name] : processes) {
    BeginEvent(&out);
    absl::StrAppend(&out, R"({"ph":"M","name":"process_name","pid":)", process,
                    R"(,"tid":0,"args":{"name":")", name, R"("}})");
    BeginEvent(&out);
    absl::StrAppend(&out, R"({"ph":"M","name":"process_sort_index","pid":)", process,
                    R"(,"tid":0,"args":{"sort_index":)", process, "}}");
  }
  return out;
}

std::string TraceText::Footer() const { return "\n]}\n"; }

void TraceText::BeginEvent(std::string* out) {
  absl::StrAppend(out, any_ ? ",\n" : "\n");
  any_ = true;
}

void TraceText::NameLane(const Lane& lane, const std::string& name, std::string* out) {
  if (!named_.insert({lane.process, lane.thread}).second) return;
  BeginEvent(out);
  absl::StrAppend(out, R"({"ph":"M","name":"thread_name","pid":)", lane.process, R"(,"tid":)",
                  lane.thread, R"(,"args":{"name":")", name, R"("}})");
  BeginEvent(out);
  absl::StrAppend(out, R"({"ph":"M","name":"thread_sort_index","pid":)", lane.process, R"(,"tid":)",
                  lane.thread, R"(,"args":{"sort_index":)", lane.thread, "}}");
}

void TraceText::AppendSpan(const Lane& lane, const std::string& name, const char* category,
                           const TraceEvent& event, const std::string& arguments,
                           std::string* out) {
  BeginEvent(out);
  // Both ends are rounded, not the duration: spans that touch still do.
  const double start = std::round(Microseconds(event.start) * 1000) / 1000;
  const double end = std::round(Microseconds(event.end) * 1000) / 1000;
  absl::StrAppendFormat(
      out,
      R"({"ph":"X","name":"%s","cat":"%s","pid":%d,"tid":%d,"ts":%.3f,"dur":%.3f,"args":{%s}})",
      name, category, lane.process, lane.thread, start, std::max(0.0, end - start), arguments);
}

void TraceText::Append(const TraceEvent& event, std::string* out) {
  if (const auto* step = std::get_if<StepSpan>(&event.span)) {
    AppendStep(*step, event, out);
  } else if (const auto* copy = std::get_if<CopySpan>(&event.span)) {
    AppendCopy(*copy, event, out);
  } else if (const auto* phase = std::get_if<PhaseSpan>(&event.span)) {
    AppendPhase(*phase, event, out);
  } else if (const auto* request = std::get_if<RequestSpan>(&event.span)) {
    AppendRequest(*request, event, out);
  }
}

void TraceText::AppendStep(const StepSpan& span, const TraceEvent& event, std::string* out) {
  const Lane lane = {kDevice, 1};
  NameLane(lane, "steps", out);
  const char* name = span.prefill_tokens == 0  ? "decode"
                     : span.decode_tokens == 0 ? "prefill"
                                               : "mixed";
  std::string arguments;
  AddCount("step", span.step, &arguments);
  AddCount("sequences", span.sequences, &arguments);
  AddCount("prefill_tokens", span.prefill_tokens, &arguments);
  AddCount("decode_tokens", span.decode_tokens, &arguments);
  AddNumber("stall_ms", Milliseconds(span.stall), &arguments);
  AppendSpan(lane, name, "step", event, arguments, out);
}

std::string TraceText::DirectionName(LinkDirection direction) const {
  switch (direction) {
    case LinkDirection::kHostToDevice:
      return "host to device";
    case LinkDirection::kDeviceToHost:
      return "device to host";
    case LinkDirection::kDiskToHost:
      return absl::StrCat(storage_, " to host");
    case LinkDirection::kHostToDisk:
      break;
  }
  return absl::StrCat("host to ", storage_);
}

TraceText::Lane TraceText::CopyLane(const CopySpan& span, const TraceEvent& event,
                                    std::string* out) {
  const auto direction = static_cast<size_t>(span.direction);
  const auto copy_class = static_cast<size_t>(span.copy_class);
  const int key = static_cast<int>(direction) * kCopyClassCount + static_cast<int>(copy_class);
  std::vector<absl::Time>& ends = copy_lanes_[key];
  const auto free =
      std::find_if(ends.begin(), ends.end(), [&](absl::Time end) { return end <= event.start; });
  const auto index = static_cast<int64_t>(free - ends.begin());
  if (free == ends.end()) ends.push_back(event.end);
  ends[static_cast<size_t>(index)] = event.end;
  const Lane lane = {kLinks, key * kLaneStride + index + 1};
  std::string name = absl::StrCat(DirectionName(span.direction), ": ", kClasses[copy_class]);
  if (index > 0) absl::StrAppend(&name, " (", index + 1, ")");
  NameLane(lane, name, out);
  return lane;
}

void TraceText::AppendCopy(const CopySpan& span, const TraceEvent& event, std::string* out) {
  const Lane lane = CopyLane(span, event, out);
  std::string arguments;
  AddCount("copy", span.copy, &arguments);
  if (span.request > 0) AddCount("request", span.request, &arguments);
  AddCount("blocks", span.blocks, &arguments);
  AddCount("bytes", span.bytes.value(), &arguments);
  AddNumber("queued_ms", Milliseconds(span.queued), &arguments);
  AddText("result", absl::StatusCodeToString(span.result), &arguments);
  const std::string name = span.request > 0 ? absl::StrCat("request ", span.request)
                                            : absl::StrCat(span.blocks, " blocks");
  AppendSpan(lane, name, "copy", event, arguments, out);
}

TraceText::Lane TraceText::RequestLane(int64_t request, std::string* out) {
  const Lane lane = {kRequests, request};
  NameLane(lane, absl::StrCat("request ", request), out);
  return lane;
}

void TraceText::AppendPhase(const PhaseSpan& span, const TraceEvent& event, std::string* out) {
  const Lane lane = RequestLane(span.request, out);
  AppendSpan(lane, kPhases[static_cast<size_t>(span.phase)], "phase", event,
             span.open ? "\"open\":true" : "", out);
}

void TraceText::AppendRequest(const RequestSpan& span, const TraceEvent& event, std::string* out) {
  const Lane lane = RequestLane(span.request, out);
  std::string arguments;
  AddCount("prompt_tokens", span.prompt.value(), &arguments);
  if (span.open) {
    absl::StrAppend(&arguments, ",\"open\":true");
    return AppendSpan(lane, absl::StrCat("request ", span.request), "request", event, arguments,
                      out);
  }
  AddText("plan", span.admitted ? RequestPlanName(span.plan) : "none", &arguments);
  AddText("reason", kReasons[static_cast<size_t>(span.reason)], &arguments);
  AddCount("output_tokens", span.output.value(), &arguments);
  AddCount("computed_tokens", span.computed.value(), &arguments);
  for (size_t t = 0; t < kTiers.size(); ++t) {
    AddCount(absl::StrCat("cached_", kTiers[t], "_tokens").c_str(), span.cached[t].value(),
             &arguments);
  }
  AddNumber("kappa", span.kappa, &arguments);
  AddNumber("load_ms", Milliseconds(span.load_busy), &arguments);
  AddNumber("load_exposed_ms", Milliseconds(span.load_exposed), &arguments);
  AddNumber("predicted_ttft_ms", Milliseconds(span.predicted_ttft), &arguments);
  AddCount("preemptions", span.preemptions, &arguments);
  AppendSpan(lane, absl::StrCat("request ", span.request), "request", event, arguments, out);
}

void TraceText::AppendGap(uint64_t count, absl::Time at, std::string* out) {
  BeginEvent(out);
  absl::StrAppendFormat(out,
                        R"({"ph":"i","s":"g","name":"%d events lost","pid":%d,"tid":1,"ts":%.3f})",
                        count, kDevice, Microseconds(at));
}

}  // namespace sluice
