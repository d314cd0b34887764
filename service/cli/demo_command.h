// sluice demo: a server whose device pool is too small for its workload, the workload, and a table
// of what that did.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/cli/child_process.h"
#include "service/cli/client.h"
#include "service/cli/client_call.h"
#include "service/cli/command.h"
#include "service/cli/demo_workload.h"
#include "service/cli/interrupter.h"

namespace sluice {

struct DemoOptions {
  std::string
      model;  // empty: the demo model, found beside the binary or below the working directory
  std::string docs;  // empty: the same for the prompts
  double link_gbps = 0.5;
  int64_t sessions = 2;  // requests under way at a time
  Tokens output_tokens{48};
  int threads = 0;
  bool keep_serving = false;
};

class DemoCommand : public Command {
 public:
  const char* name() const override { return "demo"; }
  const char* summary() const override {
    return "Show KV offloading at work: server, workload and table in one go.";
  }
  void DefineFlags(FlagSet& flags) override;
  int Run(const FlagSet& flags, const CliIo& io) override;

  const DemoOptions& options() const { return options_; }

 private:
  struct Server {
    std::unique_ptr<ChildProcess> process;
    std::string endpoint;
    int metrics_port = 0;
    std::string http_url;
  };

  absl::Status Demonstrate(Interrupter& interrupter, const CliIo& io);
  absl::Status FindInputs();
  absl::StatusOr<Server> StartServer(const DemoPlan& plan, const CliIo& io) const;
  absl::StatusOr<std::vector<CallResult>> Ask(const DemoPlan& plan, Client& client,
                                              Interrupter& interrupter, const CliIo& io) const;
  void KeepServing(Server& server, Interrupter& interrupter, const CliIo& io) const;

  DemoOptions options_;
};

// The first of `candidates` that exists; nothing if none does.
std::optional<std::string> FirstExisting(const std::vector<std::string>& candidates);

// Where `relative` ("deploy/demo/model") may be: below the working directory, and below every
// directory above the one of `binary`.
std::vector<std::string> SearchPlaces(const std::string& binary, const std::string& relative);

// "127.0.0.1:50051", 9090 and "http://127.0.0.1:8000/v1" from the line that `sluice serve` prints
// when it is ready. A metrics port of 0 means that metrics are off, no URL that HTTP is.
struct ReadyLine {
  std::string endpoint;
  int metrics_port = 0;
  std::string http_url;
};
absl::StatusOr<ReadyLine> ParseReadyLine(const std::string& line);

// A line for a shell that asks that API for a streamed answer; as it would be if the URL is empty.
std::string CurlLine(const std::string& http_url);

}  // namespace sluice
