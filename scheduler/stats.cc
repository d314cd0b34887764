#include "scheduler/stats.h"

#include <array>

namespace sluice {
namespace {

constexpr std::array<const char*, kRequestPlanCount> kPlans = {"resident", "load", "split",
                                                               "in_place", "recompute"};
constexpr std::array<const char*, kDecisionCount> kDecisions = {
    "admit_resident", "admit_load",        "admit_split",    "admit_in_place", "admit_recompute",
    "admit_overdue",  "wait_blocks",       "wait_link",      "wait_compute",   "wait_join",
    "wait_staging",   "wait_load",         "join_load",      "revoke_load",    "prefetch",
    "preempt_swap",   "preempt_recompute", "store",          "store_skipped",  "store_gated",
    "refuse_queue",   "refuse_never_fits", "refuse_deadline"};

}  // namespace

const char* RequestPlanName(RequestPlan plan) { return kPlans[static_cast<size_t>(plan)]; }
const char* DecisionName(Decision decision) { return kDecisions[static_cast<size_t>(decision)]; }

}  // namespace sluice
