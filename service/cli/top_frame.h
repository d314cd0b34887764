// One picture of `sluice top`, as lines of text.
#pragma once

#include <string>
#include <vector>

#include "service/cli/top_rates.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

struct TopSize {
  int columns = 80;
  int rows = 24;
};

// At most `size.rows` lines of at most `size.columns` ASCII characters (longer names are cut).
// `uptime_s`: of `info`, which does not change otherwise.
std::vector<std::string> MakeTopFrame(const v1::ServerInfo& info, const std::string& endpoint,
                                      const v1::Activity& now, const TopRates& rates, TopSize size);

// "[####......]" of `width` characters, brackets included. REQUIRES: width >= 3.
std::string Bar(double share, int width);

// "1.5 GB", "12 kB": at most 7 characters, 10^3 steps.
std::string ShortBytes(double bytes);

}  // namespace sluice
