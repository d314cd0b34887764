// sluice chat: a conversation with a server, on the terminal.
//
// The prompt of a turn is the whole conversation so far in a plain format that any base or instruct
// model can follow:
//
//   <system text>
//
//   User: <first message>
//   Assistant: <first answer>
//   User: <second message>
//   Assistant:
//
// with "\nUser:" as stop text. The model's own chat template is not used. Each turn repeats the
// earlier ones, so its prefix is normally found in the KV cache; the line after each answer shows
// where it was.
#pragma once

#include <optional>
#include <string>

#include "service/cli/client.h"
#include "service/cli/client_call.h"
#include "service/cli/command.h"
#include "service/cli/interrupter.h"
#include "service/cli/request_flags.h"

namespace sluice {

struct ChatOptions {
  ConnectionFlags connection;
  SamplingFlags sampling;
  SchedulingFlags scheduling;
  std::string system;
  int64_t max_tokens = 256;
};

// The text of a conversation; see above.
class Conversation {
 public:
  explicit Conversation(std::string system) : system_(std::move(system)) { Reset(); }

  void Reset();
  // The prompt for `message`: everything so far, the message, and the cue for the answer.
  std::string PromptFor(const std::string& message) const;
  // Keeps a finished turn.
  void AddTurn(const std::string& message, const std::string& answer);
  int turns() const { return turns_; }

 private:
  std::string system_;
  std::string text_;
  int turns_ = 0;
};

class ChatCommand : public Command {
 public:
  const char* name() const override { return "chat"; }
  const char* summary() const override { return "Talk to a model, turn by turn."; }
  void DefineFlags(FlagSet& flags) override;
  int Run(const FlagSet& flags, const CliIo& io) override;

  const ChatOptions& options() const { return options_; }

 private:
  struct Totals {
    int turns = 0;
    int64_t prompt = 0;
    int64_t device = 0;
    int64_t host = 0;
    int64_t computed = 0;
    int64_t output = 0;
  };

  // False: the conversation ends.
  bool HandleLine(const std::string& line, Client& client, Interrupter& interrupter,
                  const CliIo& io);
  void TakeTurn(const std::string& message, Client& client, Interrupter& interrupter,
                const CliIo& io);
  void CountTurn(const v1::Finished& end, const CliIo& io);

  ChatOptions options_;
  std::optional<Conversation> conversation_;  // set while running
  Totals totals_;
};

}  // namespace sluice
