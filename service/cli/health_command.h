// sluice health: asks a server how it is, for container health checks and probes that speak TLS.
#pragma once

#include <string>

#include "service/cli/command.h"
#include "service/cli/request_flags.h"

namespace sluice {

struct HealthOptions {
  ConnectionFlags connection;
  std::string service;  // empty: is the process alive
};

class HealthCommand : public Command {
 public:
  const char* name() const override { return "health"; }
  const char* summary() const override { return "Ask a server whether it is alive, or ready."; }
  void DefineFlags(FlagSet& flags) override;

  // Prints SERVING and returns 0, or prints what it is instead and returns 1.
  int Run(const FlagSet& flags, const CliIo& io) override;

  const HealthOptions& options() const { return options_; }

 private:
  HealthOptions options_;
};

}  // namespace sluice
