// The command line of the `sluice` binary: finds the subcommand, parses its flags and its
// configuration file, runs it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "service/cli/command.h"

namespace sluice {

// Every subcommand, in the order of the help.
std::vector<std::unique_ptr<Command>> AllCommands();

// Runs one command line (without the program's name) and returns the exit code. Usage errors are
// one line on io.err and code 2.
int RunCli(const std::vector<std::string>& args, const CliIo& io);

// Parses `args` into the flags of `command` without running it: for RunCli() and tests.
// Returns INVALID_ARGUMENT with the text that the user sees.
absl::Status ParseCommandLine(Command& command, FlagSet& flags,
                              const std::vector<std::string>& args);

// What `sluice <command> --help` prints; null: `sluice --help`.
std::string HelpText(Command* command);

}  // namespace sluice
