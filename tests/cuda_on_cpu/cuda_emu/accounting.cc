// Lanes run one after another, so the 32 addresses of one warp-wide access come separately. The nth
// execution of a line by each lane is taken as one access, which is wrong only where lanes of a
// warp execute a line different numbers of times. While accounting is on, blocks run one at a time.
#include "cuda_emu/accounting.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "cuda_emu/access.h"
#include "cuda_emu/block.h"

namespace cuda_emu {
namespace {

constexpr uintptr_t kSectorBytes = 32;
constexpr uintptr_t kBankBytes = 4;
constexpr size_t kBanks = 32;

struct Line {
  std::string file;
  int line;
  Space space;
  auto operator<=>(const Line&) const = default;
};
struct WarpAccess {
  Line line;
  int warp;
  uint32_t nth;
  auto operator<=>(const WarpAccess&) const = default;
};
struct Lanes {
  uint32_t mask = 0;
  size_t bytes = 0;
  std::array<uintptr_t, kWarpLanes> address{};
};

std::mutex mutex;
// Never destroyed: kernels of another static object's lifetime may still count.
auto& open = *new std::map<WarpAccess, Lanes>;
auto& executions = *new std::map<std::pair<Line, int>, uint32_t>;  // line, thread
auto& sites = *new std::map<Line, AccessSite>;

const char* Name(Space space) {
  switch (space) {
    case Space::kGlobalRead:
      return "global read";
    case Space::kGlobalWrite:
      return "global write";
    case Space::kSharedRead:
      return "shared read";
    case Space::kSharedWrite:
      return "shared write";
    case Space::kLdmatrix:
      break;
  }
  return "ldmatrix";
}

void CountSectors(const Lanes& lanes, AccessSite* site) {
  std::set<uintptr_t> sectors;
  std::set<uintptr_t> distinct;
  for (size_t i = 0; i < kWarpLanes; ++i) {
    if ((lanes.mask >> i & 1) == 0) continue;
    distinct.insert(lanes.address[i]);
    const uintptr_t last = lanes.address[i] + lanes.bytes - 1;
    for (uintptr_t s = lanes.address[i] / kSectorBytes; s <= last / kSectorBytes; ++s) {
      sectors.insert(s);
    }
  }
  site->cost += sectors.size();
  site->ideal += (distinct.size() * lanes.bytes + kSectorBytes - 1) / kSectorBytes;
}

// Passes: 32 lanes of up to 4 bytes, 16 of 8 bytes or 8 of 16 bytes share one, as long as no bank
// is asked for two different words.
void CountPasses(const Lanes& lanes, AccessSite* site) {
  const size_t together = lanes.bytes >= 16 ? 8 : lanes.bytes >= 8 ? 16 : 32;
  for (size_t first = 0; first < kWarpLanes; first += together) {
    std::array<std::set<uintptr_t>, kBanks> words;
    for (size_t i = first; i < first + together; ++i) {
      if ((lanes.mask >> i & 1) == 0) continue;
      for (uintptr_t w = 0; w < std::max<uintptr_t>(1, lanes.bytes / kBankBytes); ++w) {
        const uintptr_t word = lanes.address[i] / kBankBytes + w;
        words[word % kBanks].insert(word);
      }
    }
    size_t passes = 0;
    for (const auto& bank : words) passes = std::max(passes, bank.size());
    site->cost += passes;
    site->ideal += passes == 0 ? 0 : 1;
  }
}

void Close(const Line& line, const Lanes& lanes) {
  AccessSite& site = sites[line];
  ++site.requests;
  const bool global = line.space == Space::kGlobalRead || line.space == Space::kGlobalWrite;
  global ? CountSectors(lanes, &site) : CountPasses(lanes, &site);
}

}  // namespace

void CountAccess(Space space, const void* p, size_t bytes, Site site) {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(mutex);
  const Fiber& me = *current_fiber;
  const Line line{site.file, site.line, space};
  const WarpAccess access{line, me.warp, executions[{line, me.warp * kWarpLanes + me.lane}]++};
  Lanes& lanes = open[access];
  lanes.mask |= 1u << me.lane;
  lanes.bytes = bytes;
  lanes.address[static_cast<size_t>(me.lane)] = reinterpret_cast<uintptr_t>(p);
  if (lanes.mask == kFullMask) {
    Close(line, lanes);
    open.erase(access);
  }
}

void FinishAccounting() {
  if (!accounting) return;
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [access, lanes] : open) Close(access.line, lanes);
  open.clear();
  executions.clear();
}

void CountAccesses(bool on) {
  const std::lock_guard<std::mutex> lock(mutex);
  accounting = on;
  open.clear();
  executions.clear();
  sites.clear();
}

std::vector<AccessSite> AccessReport() {
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<AccessSite> report;
  for (const auto& [line, site] : sites) {
    report.push_back(site);
    report.back().where = Site{line.file.c_str(), line.line}.Text();
    report.back().kind = Name(line.space);
  }
  return report;
}

}  // namespace cuda_emu
