#include "service/cli/health_command.h"

#include <memory>

#include "absl/time/time.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/client.h"

namespace sluice {
namespace {

absl::StatusOr<std::string> AskHealth(const HealthOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(options.connection));
  return client->GetHealth(options.service);
}

}  // namespace

void HealthCommand::DefineFlags(FlagSet& flags) {
  options_.connection.Define(flags);
  flags.Group("Question");
  flags.String("service", &options_.service, "NAME",
               "health of this service; sluice.v1.Inference is readiness, not serving while the "
               "server drains (default: whether the process is alive)");
}

int HealthCommand::Run(const FlagSet&, const CliIo& io) {
  const absl::StatusOr<std::string> health = AskHealth(options_);
  if (!health.ok()) {
    io.err << "sluice: " << health.status().message() << std::endl;
    return ExitCodeOf(health.status());
  }
  io.out << *health << std::endl;
  return *health == "SERVING" ? kExitOk : kExitFailure;
}

}  // namespace sluice
