// Deficit round robin over tenants (Shreedhar and Varghese, SIGCOMM 1995), as NVIDIA Dynamo's
// router queues requests: each tenant earns a quantum of tokens per round and pays max(1, uncached
// tokens) per request, first come first served within; tenants whose next does not fit are passed
// over (docs.nvidia.com/dynamo, "Deficit Round Robin Queue Scheduling"). A 10 GB hit costs 1 token.
// Deviations: classes are tenants; priorities come before tenants; the engine is vLLM's.
#include <algorithm>
#include <cmath>
#include <limits>

#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

constexpr double kQuantum = 4096;  // tokens per round at weight 1
constexpr size_t kNobody = std::numeric_limits<size_t>::max();

class DrrPolicy final : public ParkingPolicy {
 public:
  explicit DrrPolicy(const PolicyOptions& options) : weights_(options.tenant_weights) {}

  const char* name() const override { return "drr"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    next_ = kNobody;
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    FindHeads(waiting);
    bool any_fits = false;
    for (const Tenant& t : tenants_) {
      any_fits = any_fits || (Competes(t, waiting) && Fits(machine, waiting[t.head]));
    }
    if (!any_fits && Idle(machine)) {
      return Load(AnyThatFits(machine, waiting), Decision::kWaitBlocks);
    }
    double best = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < tenants_.size(); ++i) {
      const Tenant& t = tenants_[i];
      if (!Competes(t, waiting) || (any_fits && !Fits(machine, waiting[t.head]))) continue;
      const double turn = TurnOf(i, Cost(waiting[t.head]));
      if (turn < best) {
        best = turn;
        next_ = i;
      }
    }
    turn_ = best;
    return Load(tenants_[next_].head, Decision::kWaitBlocks);
  }

  // The rounds up to the chosen turn are played only when its request is really admitted.
  void OnAdmitted(const MachineView& machine, const WaitingView& request,
                  const Choice& choice) override {
    ParkingPolicy::OnAdmitted(machine, request, choice);
    if (next_ == kNobody) return;
    for (size_t i = 0; i < tenants_.size(); ++i) {
      if (tenants_[i].head != kNobody) tenants_[i].deficit += VisitsBy(turn_, i) * Quantum(i);
    }
    tenants_[next_].deficit -= Cost(request);
    cursor_ = next_;
    next_ = kNobody;
  }

 private:
  struct Tenant {
    double deficit = 0;     // tokens earned and not spent
    size_t head = kNobody;  // its next request
  };

  static double Cost(const WaitingView& w) { return std::max(1.0, AsDouble(Uncached(w))); }

  double Quantum(size_t tenant) const {
    return std::max(1.0, kQuantum * (tenant < weights_.size() ? weights_[tenant] : 1.0));
  }

  static bool Before(const WaitingView& a, const WaitingView& b) {
    if (a.priority != b.priority) return a.priority > b.priority;
    if (a.resumed != b.resumed) return a.resumed;
    return a.arrival < b.arrival;
  }

  // Whose next request is of the highest priority that waits.
  bool Competes(const Tenant& t, std::span<const WaitingView> waiting) const {
    return t.head != kNobody && waiting[t.head].priority == highest_;
  }

  void FindHeads(std::span<const WaitingView> waiting) {
    for (Tenant& t : tenants_) t.head = kNobody;
    highest_ = waiting.front().priority;
    for (size_t i = 0; i < waiting.size(); ++i) {
      const auto tenant = static_cast<size_t>(waiting[i].tenant);
      if (tenant >= tenants_.size()) tenants_.resize(tenant + 1);
      size_t& head = tenants_[tenant].head;
      if (head == kNobody || Before(waiting[i], waiting[head])) head = i;
      highest_ = std::max(highest_, waiting[i].priority);
    }
    for (Tenant& t : tenants_) {
      if (t.head == kNobody) t.deficit = 0;  // credit is not saved up while nothing waits
    }
  }

  // Where the ring stands when the tenant can pay: whole rounds x tenants + steps from the cursor.
  // The tenant at the cursor has had its quantum for the present visit.
  double TurnOf(size_t tenant, double cost) const {
    const double lacking = std::max(0.0, cost - tenants_[tenant].deficit);
    const double visits = std::ceil(lacking / Quantum(tenant));
    const size_t steps = StepsTo(tenant);
    const double rounds = steps == 0 ? visits : std::max(visits, 1.0) - 1;
    return rounds * static_cast<double>(tenants_.size()) + static_cast<double>(steps);
  }

  // Quanta a tenant earns until the ring stands at `turn`.
  double VisitsBy(double turn, size_t tenant) const {
    const double n = static_cast<double>(tenants_.size());
    const double steps = static_cast<double>(StepsTo(tenant));
    if (steps == 0) return std::floor(turn / n);
    return turn < steps ? 0 : std::floor((turn - steps) / n) + 1;
  }

  size_t StepsTo(size_t tenant) const {
    const size_t n = tenants_.size();
    return (tenant + n - cursor_ % n) % n;
  }

  static std::optional<size_t> AnyThatFits(const MachineView& machine,
                                           std::span<const WaitingView> waiting) {
    return FirstBy(machine, waiting, Misfit::kIsOvertaken, [](const WaitingView&) { return 0; });
  }

  std::vector<double> weights_;
  std::vector<Tenant> tenants_;
  size_t cursor_ = 0;
  int32_t highest_ = 0;
  size_t next_ = kNobody;  // tenant of the last pick
  double turn_ = 0;        // when the ring reaches it
};

}  // namespace

std::unique_ptr<Policy> MakeDrrPolicy(const PolicyOptions& options) {
  return std::make_unique<DrrPolicy>(options);
}

}  // namespace sluice
