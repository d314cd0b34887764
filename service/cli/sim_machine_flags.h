// The flags that say which machine to simulate, and what follows from them: costs, pools, limits.
// `simulate` and `serve --backend=sim` share them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/sim/sim_options.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/cost_model.h"
#include "service/config/flag_set.h"

namespace sluice {

struct SimMachineFlags {
  std::string model = "llama-3.1-8b";
  std::string hardware = "h100-pcie5";
  std::vector<std::string> profile_dirs;
  int64_t tensor_parallel = 1;
  std::optional<double> link_gbps;
  std::string weights = "bf16";
  std::string kv = "bf16";
  Tokens block_size{64};
  std::optional<Bytes> device_kv;
  std::optional<Bytes> host_kv;
  std::optional<Bytes> disk_kv;
  bool attend_in_place = false;

  void Define(FlagSet& flags);
};

struct SimMachineSetup {
  Deployment deployment;
  // Costs, geometry, pools and description are filled in; trouble is not.
  SimOptions machine;

  // "Llama-3.1-8B on 1 x h100-pcie5".
  std::string Describe() const;
};

// Returns the errors of the catalogue and of Deployment::Validate(); INVALID_ARGUMENT if the device
// has no room for KV.
absl::StatusOr<SimMachineSetup> ResolveSimMachine(const SimMachineFlags& flags);

}  // namespace sluice
