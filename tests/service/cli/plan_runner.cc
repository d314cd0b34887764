#include "tests/service/cli/plan_runner.h"

#include <algorithm>
#include <sstream>

#include "gtest/gtest.h"

namespace sluice::testing {
namespace {

// What the command line parser does with well-formed flags.
absl::Status Apply(const std::vector<std::string>& args, FlagSet& flags) {
  std::vector<Assignment> line;
  for (const std::string& arg : args) {
    const size_t equals = arg.find('=');
    const std::string name = arg.substr(2, equals == std::string::npos ? equals : equals - 2);
    const std::string value = equals == std::string::npos ? "true" : arg.substr(equals + 1);
    const auto known =
        std::find_if(line.begin(), line.end(), [&](const Assignment& a) { return a.flag == name; });
    if (known != line.end()) {
      known->values.push_back(value);
    } else {
      line.push_back({name, {value}, "--" + name});
    }
  }
  return flags.Apply({}, line);
}

}  // namespace

PlanOutcome RunPlan(const std::vector<std::string>& args) {
  PlanCommand command;
  FlagSet flags;
  command.DefineFlags(flags);
  absl::Status status = Apply(args, flags);
  if (status.ok()) status = command.Validate();
  if (!status.ok()) return {kExitUsage, "", std::string(status.message())};
  std::istringstream in;
  std::ostringstream out, err;
  const int code = command.Run(flags, CliIo{in, out, err});
  return {code, out.str(), err.str()};
}

PlanOptions PlanOptionsOf(const std::vector<std::string>& args) {
  PlanOptions options;
  FlagSet flags;
  options.Define(flags);
  const absl::Status status = Apply(args, flags);
  EXPECT_TRUE(status.ok()) << status;
  return options;
}

}  // namespace sluice::testing
