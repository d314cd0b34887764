// What `sluice top` shows, computed from two answers of Control.GetActivity. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sluice/v1/control.pb.h"

namespace sluice {

struct TopRates {
  struct Link {
    std::string name;  // "host -> device"
    double busy = 0;   // share of the interval, [0, 1]
    double bytes_per_s = 0;
    uint64_t in_flight = 0;
  };
  struct Tenant {
    std::string name;
    uint32_t live = 0;
    uint64_t finished = 0;  // since start
    double tokens_per_s = 0;
    double device = 0;  // share of the device time that tenants got in the interval
    double link = 0;
  };

  double seconds = 0;  // the interval, by the server's own clock
  double device_busy = 0;
  double overlap = 0;  // device and a link both busy
  double idle = 0;
  double stall = 0;  // a step waited for a copy
  std::vector<Link> links;
  double output_tokens_per_s = 0;
  double prompt_tokens_per_s = 0;
  double finished_per_s = 0;
  double kappa = 0;     // tokens loaded from off the device per token computed, in the interval
  bool loaded = false;  // anything was computed, so that `kappa` means something
  std::vector<Tenant> tenants;
  std::map<std::string, double> decisions_per_s;
};

// REQUIRES: `now` is not before `before`. Equal totals: rates are 0.
TopRates MakeTopRates(const v1::Activity& before, const v1::Activity& now);

// What holds the server back, in words; one line without a newline.
std::string Bottleneck(const v1::Activity& now, const TopRates& rates);

}  // namespace sluice
