// One story with everything the link does, and the mistakes that its users may make: loads with a
// step that reads them layer by layer, blocks reused after their results, stores, a revocation.
#pragma once

#include <string>

#include "backend/cuda/link/cuda_link.h"

namespace sluice::cuda {

enum class LinkBug {
  kNone,
  kPageablePool,          // the host pool is not pinned
  kNoLayerWait,           // a step does not wait for its loads
  kWrongLayerWait,        // it waits for the layer before
  kStoredBlockReused,     // a device block is written before its store has a result
  kLoadedBlockReused,     // a host block is written before its load has a result
  kNoFence,               // stores begin before the step that computes their blocks has run
  kOverwrittenWhileRead,  // loads begin before the step that reads their targets has run
};
inline constexpr int kLinkBugs = 8;
const char* Name(LinkBug bug);

struct LinkOutcome {
  absl::Status created;  // not OK: nothing ran
  bool wrong = false;    // content that was read or stored is not what it must be
  bool hung = false;     // a copy without a result
  int results = 0;
  int failed = 0;       // results that are not OK
  int unavailable = 0;  // of these
  int started = 0;
  bool lost = false;  // by DeviceHealth
  std::string diagnostics;

  bool noticed() const { return wrong || hung || failed > 0 || !diagnostics.empty(); }
  std::string Text() const;
};

// Runs it on the machine as it is configured, and releases everything.
LinkOutcome RunLink(LinkBug bug, bool own_threads);

}  // namespace sluice::cuda
