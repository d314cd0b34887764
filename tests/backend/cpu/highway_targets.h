// Runs a test body once for every instruction set of this CPU that our kernels are compiled for.
#pragma once

#include <hwy/highway.h>
#include <hwy/targets.h>

#include "gtest/gtest.h"

namespace sluice::testing {

template <class Body>
void ForEachHighwayTarget(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body();
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace sluice::testing
