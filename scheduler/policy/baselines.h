// The baselines, one per file; each file's head says what it does, after which source, and where
// the interface forces it to deviate. README.md has them side by side.
#pragma once

#include <memory>

#include "scheduler/policy/policy.h"
#include "scheduler/policy_options.h"

namespace sluice {

std::unique_ptr<Policy> MakeFcfsPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeVllmFcfsSkipPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeHicacheFcfsPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeLpmPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeHrrnPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeShortestPrefillPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeDrrPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeStrataPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeNaiveDeferralPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeBidawPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeCakePolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeKvprPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeTimedPrefetchPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeAgedWsptPolicy(const PolicyOptions& options);
std::unique_ptr<Policy> MakeJohnsonPolicy(const PolicyOptions& options);

}  // namespace sluice
