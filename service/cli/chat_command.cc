#include "service/cli/chat_command.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "service/cli/table.h"

namespace sluice {
namespace {
constexpr char kUser[] = "User:";
constexpr char kAssistant[] = "Assistant:";
constexpr char kHelp[] = "/reset starts over, /stats shows token counts, /quit (or Ctrl-D) ends";
}  // namespace

void Conversation::Reset() {
  text_ = system_.empty() ? "" : absl::StrCat(system_, "\n\n");
  turns_ = 0;
}

std::string Conversation::PromptFor(const std::string& message) const {
  return absl::StrCat(text_, kUser, " ", message, "\n", kAssistant);
}

void Conversation::AddTurn(const std::string& message, const std::string& answer) {
  text_ = absl::StrCat(PromptFor(message), answer, "\n");
  ++turns_;
}

void ChatCommand::DefineFlags(FlagSet& flags) {
  options_.connection.Define(flags);
  flags.Group("Conversation");
  flags.String("system", &options_.system, "TEXT", "what the conversation begins with");
  flags.Integer("max-tokens", &options_.max_tokens, 1, std::numeric_limits<uint32_t>::max(), "N",
                "most tokens of one answer");
  options_.sampling.Define(flags);
  options_.scheduling.Define(flags);
}

void ChatCommand::CountTurn(const v1::Finished& end, const CliIo& io) {
  const v1::Usage& u = end.usage();
  ++totals_.turns;
  totals_.prompt += u.prompt_tokens();
  totals_.device += u.cached_device_tokens();
  totals_.host += u.cached_host_tokens();
  totals_.computed += u.computed_tokens();
  totals_.output += u.output_tokens();
  io.err << "[prompt " << u.prompt_tokens() << " tokens: " << u.cached_device_tokens()
         << " device, " << u.cached_host_tokens() << " host, " << u.computed_tokens()
         << " computed; κ_ratio " << Fixed(end.timing().kappa_ratio(), 2) << "; first token "
         << Fixed(end.timing().ttft_s() * 1e3, 0) << " ms; " << u.output_tokens()
         << " output tokens]" << std::endl;
}

void ChatCommand::TakeTurn(const std::string& message, Client& client, Interrupter& interrupter,
                           const CliIo& io) {
  v1::GenerateRequest request;
  request.set_text(conversation_->PromptFor(message));
  options_.sampling.Fill(request.mutable_sampling());
  options_.scheduling.Fill(request.mutable_scheduling());
  request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(options_.max_tokens));
  request.mutable_stopping()->add_stop(absl::StrCat("\n", kUser));

  grpc::ClientContext context;
  interrupter.SetHandler([&context] { context.TryCancel(); });
  const CallResult result =
      RunGenerate(client.inference(), request, context,
                  [&io](const v1::Output& output) { io.out << output.text() << std::flush; });
  interrupter.SetHandler(nullptr);
  io.out << std::endl;
  if (interrupter.signal() != 0) return;
  if (!result.ok()) {
    io.err << "sluice: " << DescribeError(result.status) << "\n[the turn was not kept; " << kHelp
           << "]" << std::endl;
    return;
  }
  const SampleResult sample = result.samples.empty() ? SampleResult() : result.samples.front();
  conversation_->AddTurn(message, sample.text);
  if (sample.finished.has_value()) CountTurn(*sample.finished, io);
}

bool ChatCommand::HandleLine(const std::string& line, Client& client, Interrupter& interrupter,
                             const CliIo& io) {
  if (line == "/quit" || line == "/exit") return false;
  if (line == "/reset") {
    conversation_->Reset();
    io.err << "[new conversation]" << std::endl;
  } else if (line == "/stats") {
    io.err << "[" << totals_.turns << " turns; prompt tokens " << totals_.prompt << ": "
           << totals_.device << " device, " << totals_.host << " host, " << totals_.computed
           << " computed; output tokens " << totals_.output << "]" << std::endl;
  } else if (line[0] == '/') {
    io.err << "[" << kHelp << "]" << std::endl;
  } else {
    TakeTurn(line, client, interrupter, io);
  }
  return interrupter.signal() == 0;
}

int ChatCommand::Run(const FlagSet&, const CliIo& io) {
  Interrupter interrupter;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(options_.connection);
  if (!client.ok()) {
    io.err << "sluice: " << client.status().message() << std::endl;
    return ExitCodeOf(client.status());
  }
  const absl::StatusOr<v1::ServerInfo> info = (*client)->GetServerInfo();
  if (!info.ok()) {
    io.err << "sluice: " << info.status().message() << std::endl;
    return kExitFailure;
  }
  io.err << "[" << info->model() << " at " << options_.connection.endpoint << ", context "
         << info->max_model_len() << " tokens; " << kHelp << "]" << std::endl;
  conversation_.emplace(options_.system);
  std::string line;
  while (true) {
    if (io.in_is_terminal) io.out << "> " << std::flush;
    if (!std::getline(io.in, line)) break;
    line = std::string(absl::StripAsciiWhitespace(line));
    if (line.empty()) continue;
    if (!HandleLine(line, **client, interrupter, io)) break;
  }
  return interrupter.signal() == 0 ? kExitOk : 128 + interrupter.signal();
}

}  // namespace sluice
