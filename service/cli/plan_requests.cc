#include "service/cli/plan_requests.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"
#include "service/workload/prefix_cache_model.h"
#include "service/workload/workload_source.h"

namespace sluice {
namespace {

PlanRequests OneRequest(Tokens cached, Tokens fresh, Tokens output) {
  PlanRequests requests;
  requests.single = true;
  requests.shapes = {{cached, fresh, output}};
  requests.total = 1;
  requests.name = absl::StrCat("one request: ", WithCommas(cached.value()), " cached + ",
                               WithCommas(fresh.value()), " new tokens");
  return requests;
}

// What stands for the default workload where a model's context is too short for it.
PlanRequests ShortRequest(Tokens context, Tokens output) {
  return OneRequest(Tokens(context.value() * 3 / 4),
                    Tokens(std::max<int64_t>(1, context.value() / 16)), output);
}

absl::Status CheckLength(const PlanOptions& options, Tokens limit, const std::string& model) {
  const Tokens length = *options.cached + *options.fresh;
  if (length <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--cached ", options.cached->value(), " + --new ", options.fresh->value(), ": ",
      length.value(), " tokens are more than ",
      options.max_input.has_value() ? "--max-input" : absl::StrCat("the context of ", model), ", ",
      limit.value(), options.max_input.has_value() ? "" : "; --max-input allows more"));
}

// Every n-th, so that at most kMostShapes are left.
std::vector<RequestShape> Thinned(const std::vector<CacheSample>& samples) {
  const size_t stride = (samples.size() + kMostShapes - 1) / kMostShapes;
  std::vector<RequestShape> shapes;
  for (size_t i = 0; i < samples.size(); i += stride) {
    shapes.push_back({samples[i].cached, samples[i].fresh, samples[i].output});
  }
  return shapes;
}

template <class Get>
Tokens Median(const std::vector<RequestShape>& shapes, Get get) {
  std::vector<int64_t> values;
  for (const RequestShape& shape : shapes) values.push_back(get(shape).value());
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return Tokens(*middle);
}

}  // namespace

absl::StatusOr<PlanRequests> LoadPlanRequests(const PlanOptions& options, Tokens max_context,
                                              const std::string& model_name) {
  const Tokens limit = options.max_input.value_or(max_context);
  if (options.cached.has_value()) {
    SLUICE_RETURN_IF_ERROR(CheckLength(options, limit, model_name));
    return OneRequest(*options.cached, *options.fresh, options.output);
  }
  WorkloadSource source;
  source.name_or_path = options.workload.empty() ? kDefaultPlanWorkload : options.workload;
  if (options.requests.has_value()) {
    source.synthetic.requests = *options.requests;
    source.trace.max_requests = *options.requests;
  }
  source.synthetic.seed = static_cast<uint64_t>(options.seed);
  source.synthetic.max_input = limit;
  source.trace.max_input = limit;
  const absl::StatusOr<std::vector<TraceRequest>> workload = LoadWorkload(source);
  if (absl::IsInvalidArgument(workload.status()) && options.workload.empty()) {
    return ShortRequest(limit, options.output);
  }
  if (!workload.ok()) {
    return absl::Status(workload.status().code(),
                        absl::StrCat("--workload: ", workload.status().message()));
  }
  PlanRequests requests;
  requests.shapes = Thinned(SamplePrefixCache(*workload, {}));
  requests.total = static_cast<int64_t>(workload->size());
  requests.name = absl::StrCat(source.name_or_path, ": ", WithCommas(requests.total),
                               " requests of at most ", WithCommas(limit.value()), " tokens");
  return requests;
}

RequestShape TypicalRequest(const std::vector<RequestShape>& shapes) {
  SLUICE_CHECK(!shapes.empty());
  std::vector<RequestShape> warm;
  for (const RequestShape& shape : shapes) {
    if (shape.cached > Tokens(0)) warm.push_back(shape);
  }
  const std::vector<RequestShape>& from = warm.empty() ? shapes : warm;
  return {Median(from, [](const RequestShape& r) { return r.cached; }),
          Median(from, [](const RequestShape& r) { return r.fresh; }),
          Median(from, [](const RequestShape& r) { return r.output; })};
}

std::string WithCommas(int64_t n) {
  const std::string digits = absl::StrCat(n);
  const size_t sign = n < 0 ? 1 : 0;
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > sign && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace sluice
