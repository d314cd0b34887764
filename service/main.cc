// The `sluice` binary. Everything it can do is a command; see service/cli/app.h.

#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "service/cli/app.h"

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  const sluice::CliIo io{std::cin,
                         std::cout,
                         std::cerr,
                         isatty(STDIN_FILENO) != 0,
                         isatty(STDOUT_FILENO) != 0,
                         isatty(STDERR_FILENO) != 0};
  return sluice::RunCli(args, io);
}
