// sluice top: a server at work, live on the terminal.
#pragma once

#include "absl/status/status.h"
#include "service/cli/client.h"
#include "service/cli/command.h"
#include "service/cli/interrupter.h"
#include "service/cli/request_flags.h"

namespace sluice {

struct TopOptions {
  ConnectionFlags connection;
  double interval_s = 1;
  bool once = false;
};

class TopCommand : public Command {
 public:
  const char* name() const override { return "top"; }
  const char* summary() const override {
    return "Watch a server: how busy device and links are, and what holds it back.";
  }
  void DefineFlags(FlagSet& flags) override;

  // On a terminal: a picture that renews itself until q, Ctrl-C or the server's end. Elsewhere:
  // plain pictures, one after the other. With --once one picture, of the last half second.
  int Run(const FlagSet& flags, const CliIo& io) override;

  const TopOptions& options() const { return options_; }

 private:
  absl::Status Show(Client& client, Interrupter& interrupter, const CliIo& io) const;

  TopOptions options_;
};

}  // namespace sluice
