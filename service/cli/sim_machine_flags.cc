#include "service/cli/sim_machine_flags.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/profiles/catalogue.h"

namespace sluice {
namespace {

constexpr int64_t kMostBlocks = int64_t{1} << 30;
constexpr double kMostGbps = 1e6;
// Of the machine's memory, where nothing else is asked for: the rest is the system's and weights'
// on their way.
constexpr double kHostShare = 0.5;

std::vector<std::string> FormatNames() {
  std::vector<std::string> names;
  for (int i = 0; i < kNumberFormatCount; ++i) {
    names.emplace_back(NumberFormatName(static_cast<NumberFormat>(i)));
  }
  return names;
}

// REQUIRES: `name` is one of FormatNames().
NumberFormat FormatOf(const std::string& name) {
  const std::vector<std::string> names = FormatNames();
  return static_cast<NumberFormat>(std::find(names.begin(), names.end(), name) - names.begin());
}

Bytes DefaultDeviceKv(const Deployment& d) {
  const double usable = static_cast<double>(d.hardware.memory.value()) *
                        static_cast<double>(d.tensor_parallel) * d.memory_share;
  return Bytes(static_cast<int64_t>(usable)) - WeightBytes(d.model, d.weights);
}

Bytes DefaultHostKv(const Deployment& d) {
  return Bytes(
      static_cast<int64_t>(static_cast<double>(d.hardware.host_memory.value()) * kHostShare));
}

Blocks BlocksIn(Bytes bytes, const KvGeometry& geometry) {
  return std::min(geometry.BlocksIn(bytes), Blocks(kMostBlocks));
}

absl::StatusOr<Deployment> ResolveDeployment(const SimMachineFlags& flags) {
  SLUICE_ASSIGN_OR_RETURN(const Catalogue catalogue, Catalogue::Load(flags.profile_dirs));
  Deployment d;
  SLUICE_ASSIGN_OR_RETURN(d.model, catalogue.FindModel(flags.model));
  SLUICE_ASSIGN_OR_RETURN(d.hardware, catalogue.FindHardware(flags.hardware));
  d.tensor_parallel = flags.tensor_parallel;
  d.weights = FormatOf(flags.weights);
  d.kv = FormatOf(flags.kv);
  d.kv_offload = d.kv;
  if (flags.link_gbps.has_value()) d.link = ByteRate(*flags.link_gbps * 1e9);
  SLUICE_RETURN_IF_ERROR(d.Validate());
  return d;
}

}  // namespace

void SimMachineFlags::Define(FlagSet& flags) {
  flags.Group("Machine");
  flags.String("model", &model, "NAME|PATH", "model profile, or a config.json");
  flags.String("hardware", &hardware, "NAME|PATH", "hardware profile");
  flags.Strings("profiles", &profile_dirs, "DIR", "directory with further profiles");
  flags.Integer("tp", &tensor_parallel, 1, 1024, "N", "devices that share the model")
      .aliases.push_back("tensor-parallel-size");
  flags
      .Number("link", &link_gbps, 1e-6, kMostGbps, "GB/S",
              "rate between host and device, each way, all devices together; instead of the "
              "profile's")
      .aliases.push_back("link-gbps");
  flags.Choice("weights", &weights, FormatNames(), "format of the weights");
  flags.Choice("kv-cache-dtype", &kv, FormatNames(), "format of the KV cache, in all tiers");
  flags.Integer("block-size", &block_size, 1, 65536, "TOKENS", "tokens per KV block");
  flags.Size("device-kv-gib", &device_kv,
             "KV pool on the device; default: what weights leave of "
             "90 % of its memory");
  flags.Size("host-kv-gib", &host_kv, "KV pool in host memory; default: half of it; 0 = none");
  flags.Size("disk-kv-gib", &disk_kv, "KV pool on disk; default: none");
  flags.Bool("attend-in-place", &attend_in_place,
             "the host can attend to KV in its own memory, without moving it");
}

absl::StatusOr<SimMachineSetup> ResolveSimMachine(const SimMachineFlags& flags) {
  SimMachineSetup setup;
  SLUICE_ASSIGN_OR_RETURN(setup.deployment, ResolveDeployment(flags));
  const Deployment& d = setup.deployment;
  SimOptions& machine = setup.machine;
  machine.cost = MakeCoefficients(d);
  machine.geometry.tokens_per_block = flags.block_size;
  machine.geometry.bytes_per_block = Bytes(
      std::llround(KvBytesPerToken(d.model, d.kv) * static_cast<double>(flags.block_size.value())));
  machine.device_blocks = BlocksIn(flags.device_kv.value_or(DefaultDeviceKv(d)), machine.geometry);
  machine.host_blocks = BlocksIn(flags.host_kv.value_or(DefaultHostKv(d)), machine.geometry);
  machine.disk_blocks = BlocksIn(flags.disk_kv.value_or(Bytes(0)), machine.geometry);
  machine.attends_in_place = flags.attend_in_place;
  machine.device = setup.Describe();
  if (machine.device_blocks < Blocks(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the device has no room for KV: one block takes ",
                     FormatBytes(machine.geometry.bytes_per_block),
                     "; set --device-kv-gib, or use more devices (--tp) or smaller --weights"));
  }
  SLUICE_RETURN_IF_ERROR(machine.Validate());
  return setup;
}

std::string SimMachineSetup::Describe() const {
  return absl::StrCat(deployment.model.name, " on ", deployment.tensor_parallel, " x ",
                      deployment.hardware.name);
}

}  // namespace sluice
