// Command: one subcommand of the `sluice` binary.
#pragma once

#include <istream>
#include <ostream>

#include "absl/status/status.h"
#include "service/config/flag_set.h"

namespace sluice {

// Exit codes of every command; the help's footer shows them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;      // the server or the environment said no
inline constexpr int kExitUsage = 2;        // the command line or configuration is wrong
inline constexpr int kExitInterrupt = 130;  // Ctrl-C
inline constexpr int kExitTerminate = 143;  // SIGTERM

// The exit code of a command that ended with this status: OK done, INVALID_ARGUMENT and NOT_FOUND
// wrong usage, others failure.
inline int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  const bool usage = absl::IsInvalidArgument(status) || absl::IsNotFound(status);
  return usage ? kExitUsage : kExitFailure;
}

// The terminal, or a test's stand-in for it.
struct CliIo {
  std::istream& in;
  std::ostream& out;  // results
  std::ostream& err;  // progress, logs, errors
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
};

class Command {
 public:
  virtual ~Command() = default;

  virtual const char* name() const = 0;
  virtual const char* summary() const = 0;  // one line of help

  // Defines the flags; they write into this object.
  virtual void DefineFlags(FlagSet& flags) = 0;

  // Whether --config FILE is accepted.
  virtual bool takes_config_file() const { return false; }

  // The flag that a word right after the command's name stands for: `sluice cache ls` is `sluice
  // cache --action ls`. Null: such a word is an error.
  virtual const char* word_flag() const { return nullptr; }

  // Checks that concern several flags, after all have been set. Not OK: exit code 2.
  virtual absl::Status Validate() const { return absl::OkStatus(); }

  // Does the work and returns the exit code. `flags` holds the resolved settings.
  virtual int Run(const FlagSet& flags, const CliIo& io) = 0;
};

}  // namespace sluice
