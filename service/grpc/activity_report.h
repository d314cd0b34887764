// The answer of Control.GetActivity.
#pragma once

#include "service/grpc/service_context.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

// Totals as of now. Thread-safe.
v1::Activity MakeActivity(const ServiceContext& context);

v1::TierLoad MakeTierLoad(const TierStats& tier);

}  // namespace sluice
