// sluice trace: the last seconds of a server on a time line, for ui.perfetto.dev.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "service/cli/client.h"
#include "service/cli/command.h"
#include "service/cli/interrupter.h"
#include "service/cli/request_flags.h"

namespace sluice {

struct TraceCommandOptions {
  ConnectionFlags connection;
  double seconds = 10;  // 0: all the server keeps
  std::string output = "sluice-trace.json";
};

class TraceCommand : public Command {
 public:
  const char* name() const override { return "trace"; }
  const char* summary() const override {
    return "Save what a server did in the last seconds, for ui.perfetto.dev.";
  }
  void DefineFlags(FlagSet& flags) override;
  int Run(const FlagSet& flags, const CliIo& io) override;

  const TraceCommandOptions& options() const { return options_; }

 private:
  absl::Status Save(Client& client, Interrupter& interrupter, const CliIo& io) const;

  TraceCommandOptions options_;
};

}  // namespace sluice
