// What every registered policy owes the scheduler (policy.h), on random views.
#include <algorithm>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/policy/step_forming.h"
#include "tests/scheduler/policy/views.h"

namespace sluice::testing {
namespace {

constexpr uint64_t kFirstSeed = 20250711;
constexpr uint64_t kSchedules = 300;

// Costs with every term, so that no policy can rely on one being absent.
const CostCoefficients& FullCost() {
  static const CostCoefficients cost = [] {
    CostCoefficients c;
    c.launch = Seconds(2e-4);
    c.floor = Seconds(5e-3);
    c.weight_read = Seconds(4e-3);
    c.per_token = Seconds(2e-5);
    c.per_pair = Seconds(1e-10);
    c.per_context_token = Seconds(4e-8);
    c.per_in_place_token = Seconds(1e-7);
    for (LinkCoefficients& link : c.links) link.per_byte = Seconds(2e-11);
    c.kv_bytes_per_token = Bytes(131072);
    c.layers = 32;
    return c;
  }();
  return cost;
}

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  int64_t Int(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }
  bool Chance(double p) { return std::bernoulli_distribution(p)(random_); }
  // Small and large alike.
  Tokens SomeTokens(int64_t most) { return Tokens(Int(0, 1) == 0 ? 0 : Int(0, Int(1, most))); }

  WaitingView Waiting(int64_t arrival, Seconds now) {
    WaitingView w;
    w.request = RequestId(arrival);
    w.arrival = arrival;
    w.arrived = now * std::uniform_real_distribution<double>(0, 1)(random_);
    w.priority = Chance(0.2) ? static_cast<int32_t>(Int(-1, 1)) : 0;
    w.tenant = static_cast<int32_t>(Int(0, 3));
    w.resumed = Chance(0.1);
    if (Chance(0.2)) w.overdue_at = w.arrived + Seconds(static_cast<double>(Int(0, 20)));
    w.on_device = SomeTokens(20000);
    w.on_host = SomeTokens(60000);
    w.on_disk = Chance(0.2) ? SomeTokens(60000) : Tokens(0);
    const Tokens fresh = Tokens(1) + SomeTokens(20000);
    w.pending = Chance(0.3) ? Tokens(Int(0, fresh.value())) : Tokens(0);
    w.tokens = w.on_device + w.on_host + w.on_disk + fresh;
    w.max_new = Tokens(Int(1, 2000));
    w.need = Blocks((w.tokens + w.max_new).value() / 16 + 1);
    w.need_in_place = std::max(Blocks(1), w.need - Blocks(w.on_host.value() / 16));
    Price(&w);
    return w;
  }

  static void Price(WaitingView* w) {
    const CostCoefficients& cost = FullCost();
    const auto copy = [&cost](Tokens n) {
      return n == Tokens(0)
                 ? Seconds(0)
                 : CopyTime(cost.links[0], Bytes(n.value() * cost.kv_bytes_per_token.value()), 1);
    };
    w->load = copy(w->on_host);
    w->stage = copy(w->on_disk) * 8;
    w->compute = PrefillTime(cost, w->tokens - w->fresh(), w->fresh());
    w->recompute = PrefillTime(cost, w->on_device, w->tokens - w->on_device) - w->compute;
    w->hold = w->load + w->compute + Seconds(1);
  }

  // With `idle`, as the scheduler guarantees it when nothing runs: every request fits alone.
  MachineView Machine(bool idle) {
    MachineView m;
    m.now = Seconds(static_cast<double>(Int(1, 100)));
    m.cost = &FullCost();
    m.capacity = Blocks(20000);
    m.available = idle ? m.capacity : Blocks(Int(0, 20000));
    m.max_running = Int(1, 256);
    m.step_token_limit = Tokens(Int(1, 8192));
    m.tpot_target = Seconds(0.05);
    m.attends_in_place = Chance(0.5);
    if (idle) return m;
    m.running = Int(0, m.max_running);
    m.decoding = Int(0, m.running);
    for (Seconds& backlog : m.link_backlog) backlog = Chance(0.5) ? Backlog() : Seconds(0);
    if (m.running > m.decoding) m.compute_backlog = Backlog();
    m.decode_step = Seconds(0.01);
    m.longest_step = Seconds(0.5);
    m.drain = Seconds(100);
    return m;
  }

  Seconds Backlog() { return Seconds(std::exponential_distribution<double>(4)(random_)); }

  void AddRunning(RunningViews* views, Seconds now) {
    std::vector<CopyId> loads;
    for (int64_t n = Chance(0.4) ? Int(1, 3) : 0; n > 0; --n) loads.emplace_back(Int(1, 20));
    const bool loading = !loads.empty();
    RunningView& r = views->Add(!loading && Chance(0.5) ? 1 : Int(1, 20000), std::move(loads));
    r.arrived = now * std::uniform_real_distribution<double>(0, 1)(random_);
    r.tenant = static_cast<int32_t>(Int(0, 3));
    r.first = SomeTokens(60000);
    r.decoding = !loading && r.remaining == Tokens(1) && Chance(0.9);
    if (!loading) return;
    if (Chance(0.3)) r.before_loads = Tokens(Int(1, r.remaining.value()));
    r.joinable = Chance(0.7);
    r.load_left = Backlog();
  }

 private:
  std::mt19937_64 random_;
};

class EveryPolicy : public ::testing::TestWithParam<std::string> {
 protected:
  // Runs `check(generator)` on many seeds.
  template <class Check>
  void ForManySeeds(const Check& check) {
    for (uint64_t seed = kFirstSeed; seed < kFirstSeed + kSchedules; ++seed) {
      SCOPED_TRACE(absl::StrCat(GetParam(), ", seed ", seed));
      Generator generator(seed);
      check(&generator);
      if (HasFailure()) return;
    }
  }

  std::vector<WaitingView> Waiting(Generator* generator, Seconds now) {
    std::vector<WaitingView> waiting;
    for (int64_t n = generator->Int(1, 40), at = 0; n > 0; --n) {
      at += generator->Int(1, 3);
      waiting.push_back(generator->Waiting(at, now));
    }
    return waiting;
  }

  RunningViews Running(Generator* generator, Seconds now) {
    RunningViews running;
    for (int64_t n = generator->Int(0, 30); n > 0; --n) generator->AddRunning(&running, now);
    return running;
  }
};

void CheckLegal(const MachineView& machine, const std::vector<WaitingView>& waiting,
                const Verdict& verdict) {
  EXPECT_TRUE(!verdict.next.has_value() || *verdict.next < waiting.size());
  if (!verdict.choice.has_value()) {
    const Decision waits[] = {Decision::kWaitBlocks, Decision::kWaitLink, Decision::kWaitCompute,
                              Decision::kWaitJoin, Decision::kWaitStaging};
    EXPECT_THAT(waits, ::testing::Contains(verdict.pass));
    return;
  }
  const Choice& choice = *verdict.choice;
  ASSERT_LT(choice.index, waiting.size());
  const WaitingView& w = waiting[choice.index];
  EXPECT_TRUE(machine.attends_in_place || choice.plan != RequestPlan::kInPlace);
  EXPECT_GE(choice.recompute, Tokens(0));
  EXPECT_LE(choice.recompute, w.on_host);
  EXPECT_TRUE(choice.recompute == Tokens(0) || choice.plan == RequestPlan::kSplit);
}

TEST_P(EveryPolicy, GivesItsRegisteredName) {
  EXPECT_EQ((*MakePolicy(GetParam(), {}))->name(), GetParam());
}

TEST_P(EveryPolicy, MakesLegalChoices) {
  ForManySeeds([this](Generator* generator) {
    const auto policy = Make(GetParam());
    const MachineView machine = generator->Machine(generator->Chance(0.2));
    const std::vector<WaitingView> waiting = Waiting(generator, machine.now);
    CheckLegal(machine, waiting, policy->Pick(machine, waiting));
  });
}

// Or the two would take turns: preempted for the other, and admitted again before it.
TEST_P(EveryPolicy, DoesNotChooseWhomItPreemptedBeforeTheOneThatMadeItDoSo) {
  ForManySeeds([this](Generator* generator) {
    const auto policy = Make(GetParam());
    const MachineView machine = generator->Machine(false);
    std::vector<WaitingView> waiting = Waiting(generator, machine.now);
    const Verdict before = policy->Pick(machine, waiting);
    if (!before.choice.has_value()) return;
    WaitingView victim = generator->Waiting(0, Seconds(0));  // arrived before them all
    victim.resumed = true;
    victim.priority = waiting[before.choice->index].priority - 1;
    waiting.insert(waiting.begin(), victim);
    const Verdict after = policy->Pick(machine, waiting);
    EXPECT_TRUE(after.choice.has_value() && after.choice->index != 0);
  });
}

TEST_P(EveryPolicy, FormsLegalStepsAndAnEmptyOneOnlyIfNothingCanRun) {
  ForManySeeds([this](Generator* generator) {
    const auto policy = Make(GetParam());
    MachineView machine = generator->Machine(false);
    const RunningViews running = Running(generator, machine.now);
    const auto views = running.views();
    std::vector<StepShare> shares;
    policy->FormStep(machine, views, &shares);
    std::map<size_t, int> times;
    Tokens total;
    for (const StepShare& share : shares) {
      ASSERT_LT(share.index, views.size());
      const RunningView& r = views[share.index];
      EXPECT_EQ(++times[share.index], 1) << "sequence " << share.index << " twice";
      EXPECT_GT(share.count, Tokens(0));
      EXPECT_LE(share.count, CanJoin(r) ? r.remaining : ReadyTokens(r));
      total += share.count;
    }
    EXPECT_LE(total, machine.step_token_limit);
    const bool can_run = std::any_of(views.begin(), views.end(), [](const RunningView& r) {
      return r.loads.empty() || r.before_loads > Tokens(0) || r.joinable;
    });
    EXPECT_EQ(!shares.empty(), can_run);
  });
}

TEST_P(EveryPolicy, AdmitsSomebodyWhenNothingRunsOrMoves) {
  ForManySeeds([this](Generator* generator) {
    const auto policy = Make(GetParam());
    // What went before must not matter: requests it admitted, steps it formed.
    const MachineView before = generator->Machine(false);
    const std::vector<WaitingView> earlier = Waiting(generator, before.now);
    Order(*policy, before, earlier);
    StepOf(*policy, before, Running(generator, before.now));
    const MachineView machine = generator->Machine(true);
    const std::vector<WaitingView> waiting = Waiting(generator, machine.now);
    const Verdict verdict = policy->Pick(machine, waiting);
    ASSERT_TRUE(verdict.choice.has_value());
    EXPECT_LE(waiting[verdict.choice->index].need, machine.available);
  });
}

TEST_P(EveryPolicy, ChoosesOneThatFitsOfThoseThatDoWhenNothingRunsOrMoves) {
  ForManySeeds([this](Generator* generator) {
    const auto policy = Make(GetParam());
    MachineView machine = generator->Machine(true);
    machine.available = Blocks(generator->Int(1, 1000));  // stores still hold the rest
    std::vector<WaitingView> waiting = Waiting(generator, machine.now);
    for (WaitingView& w : waiting) {  // a higher priority may hold back the others
      w.priority = 0;
      w.resumed = false;
    }
    const Verdict verdict = policy->Pick(machine, waiting);
    const auto fits = [&machine](const WaitingView& w) { return w.need <= machine.available; };
    if (std::none_of(waiting.begin(), waiting.end(), fits)) return;
    ASSERT_TRUE(verdict.choice.has_value());
    // A policy with a waiting bound may insist on the overdue one.
    const WaitingView& chosen = waiting[verdict.choice->index];
    const bool in_place = verdict.choice->plan == RequestPlan::kInPlace;
    EXPECT_TRUE(verdict.choice->overdue || fits(chosen) ||
                (in_place && chosen.need_in_place <= machine.available));
  });
}

// A script of calls as the scheduler makes them, and all answers as text.
std::string Play(Policy* policy, uint64_t seed) {
  Generator generator(seed);
  std::string log;
  MachineView machine = generator.Machine(false);
  std::vector<WaitingView> waiting;
  RunningViews running;
  for (int step = 0; step < 10; ++step) {
    machine.now += Seconds(0.1);
    for (int64_t n = generator.Int(0, 8); n > 0; --n) {
      const auto arrival = static_cast<int64_t>(100 * step + n);
      waiting.push_back(generator.Waiting(arrival, machine.now));
    }
    while (!waiting.empty() && machine.running < machine.max_running) {
      const Verdict v = policy->Pick(machine, waiting);
      absl::StrAppend(&log, v.choice.has_value(), ":", static_cast<int>(v.pass));
      if (!v.choice.has_value()) break;
      absl::StrAppend(&log, ":", v.choice->index, ",", static_cast<int>(v.choice->plan), ",",
                      v.choice->recompute.value());
      policy->OnAdmitted(machine, waiting[v.choice->index], *v.choice);
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(v.choice->index));
      generator.AddRunning(&running, machine.now);
      ++machine.running;
    }
    std::vector<StepShare> shares;
    policy->FormStep(machine, running.views(), &shares);
    for (const StepShare& s : shares) absl::StrAppend(&log, " ", s.index, "=", s.count.value());
  }
  return log;
}

TEST_P(EveryPolicy, AnswersTheSameCallsAlike) {
  ForManySeeds([](Generator* generator) {
    const auto seed = static_cast<uint64_t>(generator->Int(0, 1 << 30));
    EXPECT_EQ(Play(Make(GetParam()).get(), seed), Play(Make(GetParam()).get(), seed));
  });
}

// Asking changes nothing: the scheduler asks again when a choice does not fit or was stale.
TEST_P(EveryPolicy, AnswersTheSameWhenAskedAgain) {
  ForManySeeds([this](Generator* generator) {
    const auto policy = Make(GetParam());
    const MachineView machine = generator->Machine(false);
    const std::vector<WaitingView> waiting = Waiting(generator, machine.now);
    const Verdict first = policy->Pick(machine, waiting);
    const Verdict second = policy->Pick(machine, waiting);
    ASSERT_EQ(first.choice.has_value(), second.choice.has_value());
    EXPECT_TRUE(!first.choice.has_value() || first.choice->index == second.choice->index);
  });
}

INSTANTIATE_TEST_SUITE_P(Registered, EveryPolicy, ::testing::ValuesIn(PolicyNames()),
                         [](const auto& test) {
                           return absl::StrReplaceAll(test.param, {{"-", "_"}});
                         });

TEST(RegistryTest, OursComesFirstAndNoNameTwice) {
  std::vector<std::string> names = PolicyNames();
  EXPECT_EQ(names.front(), "slack");
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(RegistryTest, AnUnknownNameListsTheChoices) {
  const auto policy = MakePolicy("sjf", {});
  ASSERT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(policy.status().message(), ::testing::HasSubstr("policy \"sjf\" does not exist"));
  EXPECT_THAT(policy.status().message(), ::testing::HasSubstr("slack, fcfs, vllm-fcfs-skip"));
}

}  // namespace
}  // namespace sluice::testing
