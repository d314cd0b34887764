// sluice generate: one prompt to a server; the answer streams to the terminal.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/cli/client.h"
#include "service/cli/command.h"
#include "service/cli/interrupter.h"
#include "service/cli/request_flags.h"

namespace sluice {

struct GenerateOptions {
  ConnectionFlags connection;
  std::optional<std::string> prompt;  // exactly one of these three
  std::string prompt_file;            // "-" = stdin
  std::vector<uint32_t> prompt_ids;
  std::optional<int64_t> max_tokens;
  int64_t min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<uint32_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop = false;
  int64_t n = 1;
  std::optional<int64_t> logprobs;
  SamplingFlags sampling;
  SchedulingFlags scheduling;
  std::string request_id;
  double timeout_s = 0;  // 0 = none
  bool json = false;
};

class GenerateCommand : public Command {
 public:
  const char* name() const override { return "generate"; }
  const char* summary() const override {
    return "Send one prompt to a server and print the answer.";
  }
  void DefineFlags(FlagSet& flags) override;
  absl::Status Validate() const override;
  int Run(const FlagSet& flags, const CliIo& io) override;

  const GenerateOptions& options() const { return options_; }

 private:
  int Generate(Client& client, const v1::GenerateRequest& request, Interrupter& interrupter,
               const CliIo& io);

  GenerateOptions options_;
};

// The rpc's request. `in` is read if the prompt comes from it.
// Returns NOT_FOUND if the prompt file cannot be read.
absl::StatusOr<v1::GenerateRequest> BuildRequest(const GenerateOptions& options, std::istream& in);

}  // namespace sluice
