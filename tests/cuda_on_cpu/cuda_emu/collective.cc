// Warp operations: lanes meet, the last one works for all.
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "cuda_emu/block.h"
#include "cuda_emu/warp.h"

namespace cuda_emu {
namespace {

Meeting* FindMeeting(Warp* warp, uint32_t mask) {
  Meeting* unused = nullptr;
  for (Meeting& meeting : warp->meetings) {
    if (meeting.used && meeting.mask == mask) return &meeting;
    if (!meeting.used && unused == nullptr) unused = &meeting;
  }
  if (unused == nullptr) {
    std::fprintf(stderr, "cuda_emu: more than %d masks under way in one warp\n", kMeetings);
    std::abort();
  }
  return unused;
}

// Calls visit(lane record) for each lane of `mask`.
template <class Record, class Visit>
void ForLanes(void* const lanes[32], uint32_t mask, Visit visit) {
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    visit(std::countr_zero(left), static_cast<Record*>(lanes[std::countr_zero(left)]));
  }
}

struct ShuffleLane {
  uint64_t in;
  uint64_t out;
  int source;
  bool valid;
  Site site;
};

void RunShuffle(void* const lanes[32], uint32_t mask) {
  ForLanes<ShuffleLane>(lanes, mask, [lanes, mask](int, ShuffleLane* lane) {
    if (!lane->valid) {
      lane->out = lane->in;
    } else if (lane->source < 0 || lane->source > 31 || (mask >> lane->source & 1) == 0) {
      KernelDiagnostic("shuffle reads a lane that does not take part", lane->site);
      lane->out = ~uint64_t{0};
    } else {
      lane->out = static_cast<ShuffleLane*>(lanes[lane->source])->in;
    }
  });
}

struct ValueLane {
  uint32_t in;
  uint32_t out;
};

void RunVote(void* const lanes[32], uint32_t mask) {
  uint32_t ballot = 0;
  ForLanes<ValueLane>(lanes, mask, [&](int i, ValueLane* lane) { ballot |= lane->in << i; });
  ForLanes<ValueLane>(lanes, mask, [&](int, ValueLane* lane) { lane->out = ballot; });
}

void RunMatch(void* const lanes[32], uint32_t mask) {
  ForLanes<ValueLane>(lanes, mask, [&](int, ValueLane* lane) {
    uint32_t equal = 0;
    ForLanes<ValueLane>(lanes, mask, [&](int i, ValueLane* other) {
      equal |= static_cast<uint32_t>(other->in == lane->in) << i;
    });
    lane->out = equal;
  });
}

template <class Combine>
void RunReduce(void* const lanes[32], uint32_t mask, Combine combine) {
  int64_t total = 0;
  bool first = true;
  ForLanes<ValueLane>(lanes, mask, [&](int, ValueLane* lane) {
    const int64_t value = static_cast<int32_t>(lane->in);
    total = first ? value : combine(total, value);
    first = false;
  });
  ForLanes<ValueLane>(lanes, mask,
                      [&](int, ValueLane* lane) { lane->out = static_cast<uint32_t>(total); });
}

uint32_t MeetWithValue(uint32_t mask, WarpOp op, WarpFunction function, uint32_t value, Site site) {
  ValueLane lane{value, 0};
  Collective(mask, op, false, function, &lane, site);
  return lane.out;
}

int Reduce(uint32_t mask, WarpFunction function, int value, Site site) {
  return static_cast<int>(
      MeetWithValue(mask, WarpOp::kReduce, function, static_cast<uint32_t>(value), site));
}

}  // namespace

void CompleteMeeting(Block* block, int warp, Meeting* meeting, uint32_t lanes,
                     WarpFunction function, uint32_t self) {
  ++block->counts.warp_operations;
  if (function != nullptr && !meeting->mixed) function(meeting->lanes.data(), lanes);
  meeting->used = false;
  MakeReady(block, warp, lanes & ~self);
}

void Collective(uint32_t mask, WarpOp op, bool aligned, WarpFunction function, void* lane,
                Site site) {
  Block* const block = current_block;
  Fiber* const me = current_fiber;
  Warp& warp = block->warps[static_cast<size_t>(me->warp)];
  const uint32_t self = 1u << me->lane;
  if ((mask & self) == 0) KernelDiagnostic("the calling lane is not in the mask", site);
  Meeting* const meeting = FindMeeting(&warp, mask);
  if (!meeting->used) {
    meeting->used = true;
    meeting->mixed = false;
    meeting->mask = mask;
    meeting->arrived = 0;
    meeting->op = op;
    meeting->site = site;
  } else if (meeting->op != op || !meeting->site.SameLine(site)) {
    meeting->mixed |= meeting->op != op;
    // From Volta on only the masks need to agree, for instructions that are not .aligned; our
    // kernels keep to one line per operation.
    KernelDiagnostic(
        "lanes of one warp meet in different operations: others wait at " + meeting->site.Text(),
        site);
  }
  meeting->lanes[static_cast<size_t>(me->lane)] = lane;
  meeting->arrived |= self;
  const uint32_t needed = mask & warp.exist & ~warp.exited;
  if (meeting->arrived == needed) {
    if (aligned && needed != kFullMask) {
      KernelDiagnostic("an .aligned instruction without all 32 lanes", site);
    }
    CompleteMeeting(block, me->warp, meeting, needed, function, self);
    MaybeYield(block, me);
  } else {
    me->state = ThreadState::kInWarp;
    me->waits_at = site;
    Suspend(block, me);
    me->state = ThreadState::kReady;
  }
}

void SyncWarp(uint32_t mask, Site site) {
  if (!kTsan) {
    Collective(mask, WarpOp::kSync, false, nullptr, nullptr, site);
    return;
  }
  // __syncwarp orders memory; shuffles and votes do not.
  Warp& warp = current_block->warps[static_cast<size_t>(current_fiber->warp)];
  size_t slot = 0;
  while (slot + 1 < warp.syncs.size() && warp.syncs[slot].mask != 0 &&
         warp.syncs[slot].mask != mask) {
    ++slot;
  }
  WarpSync& sync = warp.syncs[slot];
  sync.mask = mask;
  SyncPoint* const point =
      &current_block->points->warps[static_cast<size_t>(current_fiber->warp)][slot][sync.phase & 1];
  HappensBefore(point);
  constexpr WarpFunction kNextPhase = [](void* const lanes[32], uint32_t present) {
    ++static_cast<WarpSync*>(lanes[std::countr_zero(present)])->phase;
  };
  Collective(mask, WarpOp::kSync, false, kNextPhase, &sync, site);
  HappensAfter(point);
}

uint64_t Shuffle(uint32_t mask, uint64_t bits, int source, bool valid, Site site) {
  ShuffleLane lane{bits, 0, source, valid, site};
  Collective(mask, WarpOp::kShuffle, false, RunShuffle, &lane, site);
  return lane.out;
}

uint32_t Vote(uint32_t mask, bool predicate, Site site) {
  return MeetWithValue(mask, WarpOp::kVote, RunVote, predicate ? 1 : 0, site);
}
uint32_t MatchAny(uint32_t mask, uint32_t value, Site site) {
  return MeetWithValue(mask, WarpOp::kMatch, RunMatch, value, site);
}
int ReduceAdd(uint32_t mask, int value, Site site) {
  constexpr WarpFunction kRun = [](void* const lanes[32], uint32_t present) {
    RunReduce(lanes, present, [](int64_t a, int64_t b) { return a + b; });
  };
  return Reduce(mask, kRun, value, site);
}
int ReduceMax(uint32_t mask, int value, Site site) {
  constexpr WarpFunction kRun = [](void* const lanes[32], uint32_t present) {
    RunReduce(lanes, present, [](int64_t a, int64_t b) { return a > b ? a : b; });
  };
  return Reduce(mask, kRun, value, site);
}
int ReduceMin(uint32_t mask, int value, Site site) {
  constexpr WarpFunction kRun = [](void* const lanes[32], uint32_t present) {
    RunReduce(lanes, present, [](int64_t a, int64_t b) { return a < b ? a : b; });
  };
  return Reduce(mask, kRun, value, site);
}

int Lane() { return current_fiber->lane; }
uint32_t ActiveMask() { return 1u << current_fiber->lane; }

}  // namespace cuda_emu
