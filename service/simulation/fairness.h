// How evenly tenants were served, by dominant share (Ghodsi et al. 2011): of device time, link time
// and device memory x time, the one of which a tenant had the largest part.
//
// Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "service/simulation/request_record.h"

namespace sluice {

// Jain's index (Jain, Chiu, Hawe 1984): (Σx)² / (n Σx²), 1 if all are equal, 1/n if one has all.
// 1 without any, and if all are 0.
double JainIndex(const std::vector<double>& shares);

struct Fairness {
  // Jain's index of what tenants got while they competed. The run is cut into windows; tenants that
  // have requests waiting at both ends of a window compete in it. What a tenant gets there is its
  // dominant share over its weight, relative to the mean of its competitors; over the windows it
  // competes in, that is averaged. 1 if there was no such window: nobody had to be unfair.
  double jain = 1;
  int64_t contended_windows = 0;
  std::vector<double> dominant_share;  // by tenant, of the whole run
};

// `weights` by tenant; missing ones are 1. What a request used counts evenly from its admission to
// its end. REQUIRES: windows >= 1.
Fairness FairnessOf(const std::vector<RequestRecord>& records, const std::vector<double>& weights,
                    int windows);

}  // namespace sluice
