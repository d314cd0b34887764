// Bucket bounds of all histograms, in one place. Those of latencies are vLLM's and keep
// OpenTelemetry's as a subset, so that dashboards can show both engines side by side; below them
// are some of our own, because small models decode in less than 10 ms.
#pragma once

#include "prometheus/histogram.h"
#include "scheduler/kv/residency.h"

namespace sluice::buckets {

using Bounds = prometheus::Histogram::BucketBoundaries;

inline const Bounds kTtftSeconds = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                    0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                    20,    40,    80,   160,  640,  2560};
inline const Bounds kItlSeconds = {0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.025, 0.05,
                                   0.075, 0.1,   0.15,  0.2,   0.3,   0.4,  0.5,   0.75,
                                   1,     2.5,   5,     7.5,   10,    20,   40,    80};
inline const Bounds kE2eSeconds = {0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5, 5,    10,
                                   15,   20,   30,  40,  50,  60,  120, 240, 480, 960, 1920, 7680};
// Of one tenant: few, because there is one set per tenant.
inline const Bounds kTenantSeconds = {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 40, 160};

inline const Bounds kCopySeconds = {1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1, 5};
inline const Bounds kCopyBytes = {1 << 14, 1 << 16, 1 << 18, 1 << 20,
                                  1 << 22, 1 << 24, 1 << 26, 1 << 28};
inline const Bounds kStepTokens = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
inline const Bounds kStepSeconds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                    0.1,    0.25,  0.5,    1,     2.5,  10};
inline const Bounds kRequestTokens = {1,    2,    5,    10,    20,    50,    100,    200,    500,
                                      1000, 2000, 5000, 10000, 20000, 50000, 100000, 1000000};
inline const Bounds kRpcSeconds = {0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60};

// The scheduler counts in these.
inline const Bounds kResidencySeconds(Residency::kBounds.begin(), Residency::kBounds.end());

// Cached tokens loaded per token computed. The first holds requests that loaded nothing.
inline const Bounds kKappa = {0, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000};
// Seconds of compute less seconds of loading, of one request. Below zero: the link is the longer.
inline const Bounds kSlackSeconds = {-10,   -2.5, -1,    -0.25, -0.1, -0.025, -0.01, -0.001, 0,
                                     0.001, 0.01, 0.025, 0.1,   0.25, 1,      2.5,   10};
// (actual - predicted) / predicted.
inline const Bounds kErrorRatio = {-0.9, -0.5, -0.25, -0.1, -0.05, 0, 0.05,
                                   0.1,  0.25, 0.5,   1,    2,     5, 10};

}  // namespace sluice::buckets
