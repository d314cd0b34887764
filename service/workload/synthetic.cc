#include "service/workload/synthetic.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/status_macros.h"
#include "service/workload/random.h"
#include "service/workload/recipes.h"

namespace sluice {
namespace {

constexpr std::string_view kUniform = "uniform";
constexpr int64_t kMaxRequests = int64_t{1} << 32U;
constexpr int64_t kMaxTokens = int64_t{1} << 30U;
constexpr int32_t kMaxTenants = 1 << 16U;
constexpr double kMaxSkew = 10;
constexpr int kMaxTries = 10000;

absl::Status OutOfRange(const char* option, const std::string& value, const char* range) {
  return absl::InvalidArgumentError(
      absl::StrCat("workload: ", option, ": ", value, " is not in ", range));
}

absl::Status CheckUniform(const SyntheticOptions& o) {
  if (o.cached < Tokens(0) || o.cached > Tokens(kMaxTokens)) {
    return OutOfRange("cached", absl::StrCat(o.cached.value()), "[0, 2^30] tokens");
  }
  for (const auto& [name, tokens] : {std::pair("fresh", o.fresh), std::pair("output", o.output)}) {
    if (tokens < Tokens(1) || tokens > Tokens(kMaxTokens)) {
      return OutOfRange(name, absl::StrCat(tokens.value()), "[1, 2^30] tokens");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const SyntheticOptions& o) {
  if (!IsSyntheticName(o.name)) {
    return absl::InvalidArgumentError(absl::StrCat("workload: \"", o.name, "\" is not one of ",
                                                   absl::StrJoin(SyntheticNames(), ", ")));
  }
  if (o.requests < 1 || o.requests > kMaxRequests) {
    return OutOfRange("requests", absl::StrCat(o.requests), "[1, 2^32]");
  }
  if (o.rate.has_value() && !(*o.rate > 0 && std::isfinite(*o.rate))) {
    return OutOfRange("rate", absl::StrCat(*o.rate), "(0, infinity) requests per second");
  }
  if (o.tenants < 1 || o.tenants > kMaxTenants) {
    return OutOfRange("tenants", absl::StrCat(o.tenants), "[1, 65536]");
  }
  if (!(o.tenant_skew >= 0 && o.tenant_skew <= kMaxSkew)) {
    return OutOfRange("tenant skew", absl::StrCat(o.tenant_skew), "[0, 10]");
  }
  if (o.scale < 1) return OutOfRange("scale", absl::StrCat(o.scale), "[1, 2^63)");
  if (o.max_input < Tokens(1)) {
    return OutOfRange("max input", absl::StrCat(o.max_input.value()), "[1, 2^63) tokens");
  }
  return CheckUniform(o);
}

// Gives every session a tenant, such that shares are as exact as whole sessions allow.
class TenantWheel {
 public:
  TenantWheel(int32_t tenants, double skew) {
    double sum = 0;
    for (int32_t i = 0; i < tenants; ++i) {
      shares_.push_back(std::pow(i + 1.0, -skew));
      sum += shares_.back();
    }
    for (double& share : shares_) share /= sum;
    given_.resize(shares_.size());
  }

  // The tenant that is furthest behind its share; the first of several.
  int32_t Next() {
    ++sessions_;
    size_t best = 0;
    double largest = Behind(0);
    for (size_t i = 1; i < shares_.size(); ++i) {
      if (Behind(i) <= largest) continue;
      best = i;
      largest = Behind(i);
    }
    ++given_[best];
    return static_cast<int32_t>(best);
  }

 private:
  double Behind(size_t i) const { return shares_[i] * static_cast<double>(sessions_) - given_[i]; }

  std::vector<double> shares_;
  std::vector<double> given_;
  int64_t sessions_ = 0;
};

// Hands out texts that no other workload of another seed has.
class Texts {
 public:
  explicit Texts(uint64_t seed) : seed_(MixBits(seed)) {}
  uint64_t New() { return MixBits(seed_ + ++count_); }

 private:
  const uint64_t seed_;
  uint64_t count_ = 0;
};

// What the sessions of a workload have in common.
struct Shared {
  Shared(const SyntheticOptions& o)
      : options(o), random(o.seed), texts(o.seed), tenants(o.tenants, o.tenant_skew) {}

  int64_t Scaled(int64_t tokens) const { return std::max<int64_t>(1, tokens / options.scale); }
  int64_t Length(const Spread& spread) { return Scaled(spread.Draw(random)); }

  const SyntheticOptions& options;
  Random random;
  Texts texts;
  TenantWheel tenants;
  int64_t sessions = 0;  // begun
};

struct Session {
  PromptShape context;  // that the next prompt begins with
  int64_t turns_left = 0;
  TraceRequest next;
};

// The open sessions of one recipe.
class SessionGroup {
 public:
  SessionGroup(const Recipe& recipe, Shared* shared)
      : recipe_(recipe),
        shared_(*shared),
        common_text_(shared->texts.New()),
        max_input_(
            std::min(Tokens(static_cast<int64_t>(recipe.most_input)), shared->options.max_input)),
        context_unit_(shared->random.Unit()) {
    // Few requests get few sessions: more would leave most of them at their cold start.
    const double sessions =
        recipe.share * static_cast<double>(shared_.options.requests) / (2 * recipe.turns.median);
    open_.resize(static_cast<size_t>(
        std::clamp(static_cast<int64_t>(sessions), int64_t{1}, recipe.concurrent)));
  }

  double share() const { return recipe_.share; }

  // A request of one of the open sessions, which is replaced when it is over.
  // Returns INVALID_ARGUMENT if max_input is too small for this recipe.
  absl::StatusOr<TraceRequest> Next() {
    Session& session = open_[shared_.random.Below(open_.size())];
    if (session.turns_left == 0) SLUICE_RETURN_IF_ERROR(Begin(&session));
    TraceRequest request = session.next;
    Advance(&session);
    return request;
  }

 private:
  absl::Status Begin(Session* session);
  int64_t NextContext();
  void Advance(Session* session);
  void MakeNext(Session* session);

  const Recipe& recipe_;
  Shared& shared_;
  const uint64_t common_text_;
  const Tokens max_input_;
  std::vector<Session> open_;
  double context_unit_;  // where in their distribution the last context was drawn
};

// A few dozen documents make up the cached tokens of a thousand requests. Steps of the golden ratio
// spread them evenly over their distribution (Kronecker sequence), so that small workloads have the
// published figures too.
int64_t SessionGroup::NextContext() {
  constexpr double kGoldenRatio = 0.6180339887498949;
  context_unit_ += kGoldenRatio;
  if (context_unit_ >= 1) context_unit_ -= 1;
  return recipe_.context.Quantile(context_unit_);
}

absl::Status SessionGroup::Begin(Session* session) {
  for (int i = 0; i < kMaxTries; ++i) {
    *session = Session();
    const int64_t scale = shared_.options.scale;
    session->context.Append(common_text_, Tokens(recipe_.common_tokens / scale));
    session->context.Append(shared_.texts.New(), Tokens(shared_.Scaled(NextContext())));
    MakeNext(session);
    if (session->next.input() > max_input_) continue;
    session->turns_left = recipe_.turns.Draw(shared_.random);
    session->next.tenant = shared_.tenants.Next();
    session->next.session = shared_.sessions++;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "workload: max input: ", max_input_.value(), " tokens is less than nearly every ",
      shared_.options.name, " prompt; raise it, or the scale"));
}

// Fills in lengths and prompt of the next request, from the context.
void SessionGroup::MakeNext(Session* session) {
  session->next.prompt = session->context;
  session->next.prompt.Append(shared_.texts.New(), Tokens(shared_.Length(recipe_.fresh)));
  session->next.output = Tokens(shared_.Length(recipe_.output));
}

void SessionGroup::Advance(Session* session) {
  if (--session->turns_left == 0) return;
  if (recipe_.kind == SessionKind::kGrows) {
    session->context = session->next.prompt;
    if (recipe_.quotes_output) session->context.Append(shared_.texts.New(), session->next.output);
  }
  MakeNext(session);
  ++session->next.turn;
  if (session->next.input() > max_input_) session->turns_left = 0;
}

// Requests by recipe, in proportion to the recipes' shares.
class RecipeMixer {
 public:
  RecipeMixer(std::span<const Recipe> recipes, Shared* shared) : shared_(*shared) {
    for (const Recipe& recipe : recipes) groups_.emplace_back(recipe, shared);
  }

  absl::StatusOr<TraceRequest> Next() {
    double at = shared_.random.Unit();
    size_t i = 0;
    for (; i + 1 < groups_.size() && at >= groups_[i].share(); ++i) at -= groups_[i].share();
    return groups_[i].Next();
  }

 private:
  Shared& shared_;
  std::vector<SessionGroup> groups_;
};

TraceRequest UniformRequest(const SyntheticOptions& options, uint64_t document, Shared* shared) {
  TraceRequest request;
  request.prompt.Append(document, options.cached);
  request.prompt.Append(shared->texts.New(), options.fresh);
  request.output = options.output;
  request.tenant = shared->tenants.Next();
  return request;
}

// Sets Poisson arrivals, in whole microseconds so that the last bit of a logarithm does not show.
void SetArrivals(double rate, uint64_t seed, std::vector<TraceRequest>* requests) {
  Random random(MixBits(seed));
  double at_s = 0;
  for (TraceRequest& request : *requests) {
    request.arrival = absl::Microseconds(std::llround(at_s * 1e6));
    at_s += random.Exponential(1 / rate);
  }
}

}  // namespace

std::vector<std::string> SyntheticNames() {
  std::vector<std::string> names(RecipeNames().begin(), RecipeNames().end());
  names.emplace_back(kUniform);
  return names;
}

bool IsSyntheticName(std::string_view name) {
  return name == kUniform || !FindRecipes(name).empty();
}

absl::StatusOr<std::vector<TraceRequest>> MakeSynthetic(const SyntheticOptions& options) {
  SLUICE_RETURN_IF_ERROR(CheckOptions(options));
  Shared shared(options);
  std::vector<TraceRequest> requests;
  if (options.name == kUniform) {
    const uint64_t document = shared.texts.New();
    for (int64_t i = 0; i < options.requests; ++i) {
      requests.push_back(UniformRequest(options, document, &shared));
    }
  } else {
    RecipeMixer mixer(FindRecipes(options.name), &shared);
    for (int64_t i = 0; i < options.requests; ++i) {
      SLUICE_ASSIGN_OR_RETURN(requests.emplace_back(), mixer.Next());
    }
  }
  if (options.rate.has_value()) SetArrivals(*options.rate, options.seed, &requests);
  return requests;
}

}  // namespace sluice
