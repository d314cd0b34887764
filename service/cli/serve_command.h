// sluice serve: loads a model and serves it until SIGTERM or SIGINT.
#pragma once

#include "service/cli/command.h"
#include "service/config/serve_config.h"

namespace sluice {

class ServeCommand : public Command {
 public:
  const char* name() const override { return "serve"; }
  const char* summary() const override { return "Load a model and serve it over gRPC."; }
  bool takes_config_file() const override { return true; }
  void DefineFlags(FlagSet& flags) override { DefineServeFlags(flags, &config_); }
  absl::Status Validate() const override { return config_.Validate(); }

  // Prints one line to io.out when requests are accepted. The first signal drains: new requests are
  // refused, live ones may finish within --shutdown-timeout, then the exit code is 0. The second
  // signal ends the process at once.
  int Run(const FlagSet& flags, const CliIo& io) override;

  const ServeConfig& config() const { return config_; }

 private:
  ServeConfig config_;
};

}  // namespace sluice
