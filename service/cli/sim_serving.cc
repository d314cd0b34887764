#include "service/cli/sim_serving.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/sim/real_time_backend.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<SimServing> MakeSimServing(const SimMachineFlags& flags, double mean_output,
                                          std::function<absl::Time()> clock) {
  SLUICE_ASSIGN_OR_RETURN(SimMachineSetup setup, ResolveSimMachine(flags));
  setup.machine.mean_output = mean_output;
  SimServing serving;
  SLUICE_ASSIGN_OR_RETURN(serving.backend, MakeRealTimeSimBackend(setup.machine, std::move(clock)));
  const ModelProfile& profile = setup.deployment.model;
  ModelConfig& model = serving.model;
  model.architecture = "simulated";
  model.model_type = profile.name;
  model.layers = static_cast<int32_t>(profile.layers);
  model.hidden = static_cast<int32_t>(profile.hidden);
  model.heads = static_cast<int32_t>(profile.heads);
  model.kv_heads = static_cast<int32_t>(profile.kv_heads);
  model.head_dim = static_cast<int32_t>(profile.head_dim);
  model.vocab = setup.machine.vocab_size;
  model.max_position_embeddings = profile.max_context;
  // The last id ends an answer.
  model.eos_ids = {setup.machine.vocab_size - 1};
  serving.parameters = std::llround(profile.total_parameters);
  serving.fingerprint = absl::StrCat("sim:", profile.name, ":", flags.kv);
  serving.cost = setup.machine.cost;
  return serving;
}

}  // namespace sluice
