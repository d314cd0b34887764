#include "tests/cuda_on_cpu/backend/link_scenario.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "cuda_emu/control.h"
#include "tests/cuda_on_cpu/backend/link_world.h"

namespace sluice::cuda {
namespace {

constexpr auto kLoad = LinkDirection::kHostToDevice;
constexpr auto kStore = LinkDirection::kDeviceToHost;
constexpr int32_t kBlocks = 4;
constexpr uint32_t kNew = 1000;  // stamps of what comes later

class Scenario {
 public:
  Scenario(LinkBug bug, LinkWorld& world, LinkOutcome* outcome)
      : bug_(bug), world_(world), outcome_(*outcome) {}

  void Run() {
    for (int32_t b = 0; b < kBlocks; ++b) world_.FillHost(b, Stamp(b));
    Load();
    Store();
    Revoke();
    const absl::StatusOr<uint32_t> errors = world_.DeviceErrors();
    outcome_.wrong |= errors.ok() && *errors != 0;
  }

 private:
  static uint32_t Stamp(int32_t block) { return static_cast<uint32_t>(block) + 1; }

  void Start(const std::vector<Copy>& copies, cudaStream_t after) {
    outcome_.started += static_cast<int>(copies.size());
    world_.link().Start(copies, after);
  }
  // Waits for results; whether all are OK.
  bool Take(size_t count) {
    const std::vector<CopyResult> results = world_.Take(count);
    outcome_.hung |= results.size() < count;
    bool ok = results.size() >= count;
    for (const CopyResult& result : results) {
      ++outcome_.results;
      ok &= result.status.ok();
      if (result.status.ok() || absl::IsCancelled(result.status)) continue;
      ++outcome_.failed;
      if (absl::IsUnavailable(result.status)) ++outcome_.unavailable;
    }
    return ok;
  }

  // Two loads, and a step that reads them.
  void Load() {
    // What the step before reads of the blocks that will be overwritten.
    for (int32_t b = 0; b < kBlocks; ++b) {
      static_cast<void>(world_.FillDevice(b, kNew + Stamp(b)).ok() &&
                        world_.CheckDevice(b, kNew + Stamp(b)).ok());
    }
    const Copy first = world_.Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 3));
    const Copy second = world_.Make(kLoad, CopyClass::kPrefetch, Neighbours(3, 3, 1));
    Start({first, second}, bug_ == LinkBug::kOverwrittenWhileRead ? nullptr : world_.compute());
    const CopyId loads[] = {first.id, second.id};
    bool ran = true;
    for (int layer = 0; ran && layer < world_.pools().layers; ++layer) ran = RunLayer(loads, layer);
    if (bug_ == LinkBug::kLoadedBlockReused) {
      world_.FillHost(3, kNew);
    }
    const bool loaded = Take(2);
    if (!loaded) return;
    for (int32_t b = 0; b < kBlocks; ++b) {
      world_.FillHost(b, kNew + Stamp(b));
      static_cast<void>(world_.CheckDevice(b, Stamp(b)));
    }
  }

  bool RunLayer(std::span<const CopyId> loads, int layer) {
    const int waited = bug_ == LinkBug::kWrongLayerWait ? std::max(0, layer - 1) : layer;
    const bool waits = bug_ != LinkBug::kNoLayerWait;
    if (waits && !world_.link().WaitForLayer(world_.compute(), loads, waited).ok()) return false;
    for (int32_t b = 0; b < kBlocks; ++b) {
      if (!world_.CheckDevice(b, Stamp(b), layer).ok()) return false;
    }
    return true;
  }

  // A step computes two blocks, which are stored and then used for something else.
  void Store() {
    const bool computed = world_.FillDevice(5, 50).ok() && world_.FillDevice(6, 60).ok();
    Copy store = world_.Make(kStore, CopyClass::kWriteBack, Neighbours(5, 7, 2));
    Start({store}, bug_ == LinkBug::kNoFence ? nullptr : world_.compute());
    if (bug_ == LinkBug::kStoredBlockReused) static_cast<void>(world_.FillDevice(5, kNew + 5));
    const bool stored = Take(1);
    static_cast<void>(world_.FillDevice(5, kNew + 5));
    if (computed && stored) {
      outcome_.wrong |= !world_.HostHolds(7, 50) || !world_.HostHolds(8, 60);
    }
  }

  // A copy that is taken back, and whose blocks are used at once.
  void Revoke() {
    world_.FillHost(0, 70);
    const Copy load = world_.Make(kLoad, CopyClass::kPrefetch, Neighbours(0, 1, 1));
    Start({load}, world_.compute());
    world_.link().Revoke({&load.id, 1});
    static_cast<void>(Take(1));
    const bool filled = world_.FillDevice(1, 71).ok();
    if (filled) static_cast<void>(world_.CheckDevice(1, 71));
  }

  const LinkBug bug_;
  LinkWorld& world_;
  LinkOutcome& outcome_;
};

}  // namespace

const char* Name(LinkBug bug) {
  static constexpr const char* kNames[kLinkBugs] = {
      "none",          "pageable_pool",       "no_layer_wait", "wrong_layer_wait",
      "stored_reused", "loaded_block_reused", "no_fence",      "overwritten_while_read"};
  return kNames[static_cast<int>(bug)];
}

std::string LinkOutcome::Text() const {
  return absl::StrCat(created.ok() ? "" : created.ToString(), wrong ? "wrong " : "",
                      hung ? "hung " : "", failed, " of ", results, " failed; ", diagnostics);
}

LinkOutcome RunLink(LinkBug bug, bool own_threads) {
  LinkOutcome outcome;
  WorldOptions options;
  options.pageable = bug == LinkBug::kPageablePool;
  options.link.own_threads = own_threads;
  options.link.rate = ByteRate(2048e6);  // slices of a block or two
  options.link.slice_time = absl::Microseconds(2);
  options.link.kernel_below = Bytes(0);
  if (!own_threads) {
    options.link.clock = [t = std::make_shared<int64_t>(0)] {
      return absl::UnixEpoch() + absl::Microseconds(++*t);
    };
  }
  {
    const auto world = LinkWorld::Create(options);
    outcome.created = world.status();
    if (world.ok()) {
      Scenario(bug, **world, &outcome).Run();
      outcome.lost = (*world)->health().lost();
    }
  }
  for (const auto& d : cuda_emu::Diagnostics()) {
    outcome.diagnostics += d.kind + ": " + d.text + "\n";
  }
  return outcome;
}

}  // namespace sluice::cuda
