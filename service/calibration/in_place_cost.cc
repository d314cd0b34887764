#include "service/calibration/in_place_cost.h"

#include <algorithm>

#include "absl/functional/function_ref.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// The two sides are measured in turn: what else runs on the machine changes by the second.
constexpr int kRounds = 2;
// What is added cannot be told from noise below this share of the whole.
constexpr double kLeastShare = 0.01;
// Nor is a read from a cache that much cheaper than one from memory: the work is the same.
constexpr double kLeastOfFirst = 0.1;

struct Pair {
  RunTimes device;
  RunTimes host;

  // Seconds that the host's side takes longer.
  double Added() const {
    const double least = kLeastShare * absl::ToDoubleSeconds(device.best);
    return std::max(absl::ToDoubleSeconds(host.best - device.best), least);
  }
};

using Probe = absl::FunctionRef<absl::StatusOr<RunTimes>(bool in_place)>;

absl::StatusOr<Pair> InTurn(Probe time) {
  Pair pair;
  for (int round = 0; round < kRounds; ++round) {
    SLUICE_ASSIGN_OR_RETURN(const RunTimes device, time(false));
    SLUICE_ASSIGN_OR_RETURN(const RunTimes host, time(true));
    if (round == 0 || device.best < pair.device.best) pair.device = device;
    if (round == 0 || host.best < pair.host.best) pair.host = host;
  }
  return pair;
}

}  // namespace

absl::StatusOr<InPlaceRead> MeasureInPlaceRead(AttentionProbe& probe, const ProbeControl& control) {
  ProbeControl part = control;
  part.time = control.time / kRounds;
  SLUICE_ASSIGN_OR_RETURN(const Pair decodes, InTurn([&](bool in_place) {
                            return in_place ? probe.TimeInPlace(part) : probe.TimeDecode(part);
                          }));
  SLUICE_ASSIGN_OR_RETURN(const Pair chunks,
                          InTurn([&](bool in_place) { return probe.TimeTiles(in_place, part); }));
  // Decodes go over far more KV than a cache holds, chunks over the same few MiB again and again.
  const double first = decodes.Added() / AsDouble(probe.decode_bytes());
  const double each = chunks.Added() / (probe.tile_bytes() * static_cast<double>(probe.tiles()));
  const double again = std::clamp(each, kLeastOfFirst * first, first);
  InPlaceRead read;
  read.first = ByteRate(ThreeDigits(1 / first));
  read.again = ByteRate(ThreeDigits(1 / again));
  read.figures = {MeasuredTime("decodes over KV on the device", decodes.device),
                  MeasuredTime("the same in place", decodes.host),
                  MeasuredTime("chunks over KV on the device", chunks.device),
                  MeasuredTime("the same in place", chunks.host)};
  return read;
}

}  // namespace sluice
