#include "service/cli/app.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/bench_command.h"
#include "service/cli/cache_command.h"
#include "service/cli/calibrate_command.h"
#include "service/cli/chat_command.h"
#include "service/cli/demo_command.h"
#include "service/cli/generate_command.h"
#include "service/cli/health_command.h"
#include "service/cli/plan_command.h"
#include "service/cli/serve_command.h"
#include "service/cli/simulate_command.h"
#include "service/cli/top_command.h"
#include "service/cli/trace_command.h"
#include "service/cli/version.h"
#include "service/config/config_file.h"
#include "service/config/suggest.h"

namespace sluice {
namespace {

constexpr size_t kHelpColumn = 34;
constexpr size_t kHelpWidth = 100;
constexpr char kConfigFlag[] = "config";
constexpr char kFooter[] =
    "Exit codes: 0 done; 1 the server or the environment refused; 2 wrong usage or configuration;\n"
    "130 interrupted (Ctrl-C); 143 terminated.";

// Breaks `text` into lines of at most `width` characters, at blanks.
std::vector<std::string> Wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) {
      lines.emplace_back();
    }
    absl::StrAppend(&lines.back(), lines.back().empty() ? "" : " ", word);
  }
  return lines;
}

// "  left        right, wrapped"
std::string TwoColumns(const std::string& left, const std::string& right) {
  std::string text = absl::StrCat("  ", left);
  if (text.size() + 2 > kHelpColumn) {
    absl::StrAppend(&text, "\n", std::string(kHelpColumn, ' '));
  } else {
    text.resize(kHelpColumn, ' ');
  }
  bool first = true;
  for (const std::string& line : Wrap(right, kHelpWidth - kHelpColumn)) {
    absl::StrAppend(&text, first ? "" : std::string(kHelpColumn, ' '), line, "\n");
    first = false;
  }
  return text;
}

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool) const override {
    std::string names;
    for (const std::string& name : option->get_snames()) absl::StrAppend(&names, "-", name, ", ");
    for (const std::string& name : option->get_lnames()) absl::StrAppend(&names, "--", name, ", ");
    names.resize(names.size() - 2);
    const std::string value = option->get_type_name();
    return TwoColumns(value.empty() ? names : absl::StrCat(names, " ", value),
                      option->get_description());
  }
  std::string make_subcommand(const CLI::App* sub) const override {
    return TwoColumns(sub->get_name(), sub->get_description());
  }
  std::string make_usage(const CLI::App* app, std::string) const override {
    const bool root = app->get_parent() == nullptr;
    return absl::StrCat("Usage: sluice ", root ? "COMMAND" : app->get_name(), " [FLAGS]\n");
  }
};

std::string Description(const Flag& flag) {
  return absl::StrCat(
      flag.help, flag.required ? " (required)" : "", flag.repeatable ? " (may be repeated)" : "",
      flag.default_text.empty() ? "" : absl::StrCat(" [default: ", flag.default_text, "]"));
}

// Adds `flag` to the CLI11 app. Values are collected as text; FlagSet checks them.
CLI::Option* AddOption(CLI::App& app, const Flag& flag) {
  CLI::Option* option = nullptr;
  if (flag.value_name.empty()) {
    const std::string names = absl::StrCat("--", flag.name, ",!--no-", flag.name);
    option = app.add_flag_function(
        names, [](int64_t) {}, Description(flag));
  } else {
    option = app.add_option(
        absl::StrCat("--", flag.name), [](const CLI::results_t&) { return true; },
        Description(flag));
    option->type_name(flag.value_name)->type_size(1)->allow_extra_args(false);
    option->multi_option_policy(flag.repeatable ? CLI::MultiOptionPolicy::TakeAll
                                                : CLI::MultiOptionPolicy::TakeLast);
  }
  option->group(flag.group);
  return option;
}

// One command as a CLI11 app: its options, so that results can be read back by flag.
struct BoundApp {
  std::vector<std::pair<const Flag*, CLI::Option*>> options;
  CLI::Option* config = nullptr;
};

BoundApp Bind(CLI::App& app, const Command& command, const FlagSet& flags) {
  BoundApp bound;
  app.set_help_flag("-h,--help", "show this and exit");
  app.get_help_ptr()->group("Help");
  if (command.takes_config_file()) {
    bound.config = app.add_option(
        absl::StrCat("--", kConfigFlag), [](const CLI::results_t&) { return true; },
        "YAML file with the same keys as these flags; flags win");
    bound.config->type_name("FILE")->group("Configuration");
  }
  for (const Flag& flag : flags.flags()) bound.options.emplace_back(&flag, AddOption(app, flag));
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(kFooter);
  app.allow_extras();
  return bound;
}

// Rewrites flags to the form CLI11 is given: kebab-case, aliases resolved, "--name=value" split (so
// that an empty value stays a value). Returns INVALID_ARGUMENT for an unknown flag or a stray word.
absl::StatusOr<std::vector<std::string>> Canonical(const std::vector<std::string>& args,
                                                   const Command& command, const FlagSet& flags) {
  std::vector<std::string> known = flags.names();
  if (command.takes_config_file()) known.push_back(kConfigFlag);
  for (const Flag& flag : flags.flags()) {
    if (flag.value_name.empty()) known.push_back(absl::StrCat("no-", flag.name));
  }
  std::vector<std::string> result;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "-h" || arg == "--help") {
      result.push_back("--help");
      continue;
    }
    if (!absl::StartsWith(arg, "--") || arg.size() == 2) {
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", arg,
                                                     "\"; flags are --name VALUE (see sluice ",
                                                     command.name(), " --help)"));
    }
    const size_t equals = arg.find('=');
    std::string name = KebabCase(arg.substr(2, equals == std::string::npos ? equals : equals - 2));
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag --", name,
                                                     DidYouMean(name, known, "--"), " (see sluice ",
                                                     command.name(), " --help)"));
    }
    const Flag* flag = flags.Find(name);
    if (flag != nullptr) name = flag->name;
    const bool boolean = flag != nullptr ? flag->value_name.empty() : name != kConfigFlag;
    if (boolean && equals != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, ": takes no value; write --", name, " or --no-", name));
    }
    result.push_back(absl::StrCat("--", name));
    if (boolean) continue;
    if (equals == std::string::npos && i + 1 == args.size()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, ": needs a value after it"));
    }
    result.push_back(equals == std::string::npos ? args[++i] : arg.substr(equals + 1));
  }
  return result;
}

absl::Status Resolve(const Command& command, FlagSet& flags, const BoundApp& bound) {
  std::vector<Assignment> line;
  for (const auto& [flag, option] : bound.options) {
    if (option->count() == 0) continue;
    line.push_back({flag->name, option->results(), absl::StrCat("--", flag->name)});
  }
  std::vector<Assignment> file;
  if (bound.config != nullptr && bound.config->count() > 0) {
    SLUICE_ASSIGN_OR_RETURN(file, LoadConfigFile(bound.config->results().back(), flags));
  }
  SLUICE_RETURN_IF_ERROR(flags.Apply(file, line));
  return command.Validate();
}

std::string RawHelpText(Command* command) {
  CLI::App root(
      "Sluice serves language models over gRPC and keeps KV cache that does not fit on the device "
      "in\n"
      "host memory.",
      "sluice");
  root.set_help_flag("-h,--help", "show this and exit");
  root.add_flag_function(
      "--version", [](int64_t) {}, "show the version and exit");
  root.formatter(std::make_shared<HelpFormatter>());
  root.footer(absl::StrCat("sluice COMMAND --help lists the flags of a command.\n", kFooter));
  FlagSet flags;
  if (command != nullptr) {
    CLI::App* sub = root.add_subcommand(command->name(), command->summary());
    command->DefineFlags(flags);
    Bind(*sub, *command, flags);
    return sub->help();
  }
  for (const std::unique_ptr<Command>& c : AllCommands()) {
    root.add_subcommand(c->name(), c->summary());
  }
  return root.help();
}

int UsageError(const absl::Status& status, const CliIo& io) {
  io.err << "sluice: " << status.message() << std::endl;
  return kExitUsage;
}

int RunCommand(Command& command, std::vector<std::string> args, const CliIo& io) {
  const bool word = !args.empty() && !absl::StartsWith(args.front(), "-");
  if (word && command.word_flag() != nullptr) {
    args.front() = absl::StrCat("--", command.word_flag(), "=", args.front());
  }
  for (const std::string& arg : args) {
    if (arg != "--help" && arg != "-h") continue;
    io.out << HelpText(&command) << std::flush;
    return kExitOk;
  }
  FlagSet flags;
  command.DefineFlags(flags);
  const absl::Status status = ParseCommandLine(command, flags, args);
  if (!status.ok()) return UsageError(status, io);
  return command.Run(flags, io);
}

}  // namespace

std::vector<std::unique_ptr<Command>> AllCommands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(std::make_unique<ServeCommand>());
  commands.push_back(std::make_unique<GenerateCommand>());
  commands.push_back(std::make_unique<ChatCommand>());
  commands.push_back(std::make_unique<BenchCommand>());
  commands.push_back(std::make_unique<HealthCommand>());
  commands.push_back(std::make_unique<TopCommand>());
  commands.push_back(std::make_unique<TraceCommand>());
  commands.push_back(std::make_unique<PlanCommand>());
  commands.push_back(std::make_unique<SimulateCommand>());
  commands.push_back(std::make_unique<CalibrateCommand>());
  commands.push_back(std::make_unique<CacheCommand>());
  commands.push_back(std::make_unique<DemoCommand>());
  return commands;
}

absl::Status ParseCommandLine(Command& command, FlagSet& flags,
                              const std::vector<std::string>& args) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<std::string> canonical, Canonical(args, command, flags));
  CLI::App app(command.summary(), command.name());
  const BoundApp bound = Bind(app, command, flags);
  std::reverse(canonical.begin(), canonical.end());  // CLI11 takes them last first
  try {
    app.parse(std::move(canonical));
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  return Resolve(command, flags, bound);
}

std::string HelpText(Command* command) {
  // CLI11 sets groups two empty lines apart.
  return absl::StrReplaceAll(RawHelpText(command), {{"\n\n\n", "\n\n"}});
}

int RunCli(const std::vector<std::string>& args, const CliIo& io) {
  if (args.empty()) {
    io.err << HelpText(nullptr) << std::flush;
    return kExitUsage;
  }
  const std::string& first = args.front();
  if (first == "--version" || first == "version") {
    io.out << "sluice " << Version() << std::endl;
    return kExitOk;
  }
  if (first == "--help" || first == "-h" || first == "help") {
    io.out << HelpText(nullptr) << std::flush;
    return kExitOk;
  }
  std::vector<std::string> names;
  for (const std::unique_ptr<Command>& command : AllCommands()) {
    if (first == command->name()) return RunCommand(*command, {args.begin() + 1, args.end()}, io);
    names.push_back(command->name());
  }
  return UsageError(
      absl::InvalidArgumentError(absl::StrCat(
          "unknown command \"", first, "\"", DidYouMean(first, names, ""), " (see sluice --help)")),
      io);
}

}  // namespace sluice
