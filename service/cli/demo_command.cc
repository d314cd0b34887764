#include "service/cli/demo_command.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/demo_report.h"
#include "service/cli/progress_bar.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

constexpr int64_t kBlockSize = 32;
constexpr int64_t kSpareBlocks = 4;
constexpr absl::Duration kStartTimeout = absl::Minutes(10);  // a large model may be given
constexpr absl::Duration kConnectTimeout = absl::Seconds(10);
constexpr char kReadyPrefix[] = "sluice: serving ";
constexpr char kApiWords[] = " and the OpenAI API on ";

int64_t BlocksFor(Tokens tokens) { return (tokens.value() + kBlockSize - 1) / kBlockSize; }

v1::GenerateRequest MakeRequest(const DemoRequest& request, Tokens output_tokens) {
  v1::GenerateRequest message;
  message.set_request_id(absl::StrCat("demo-", request.session));
  for (const TokenId id : request.prompt) {
    message.mutable_token_ids()->add_ids(static_cast<uint32_t>(id));
  }
  message.mutable_sampling()->set_temperature(0);
  message.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(output_tokens.value()));
  return message;
}

// Runs requests in order, some at a time, on threads of its own.
class Asker {
 public:
  Asker(const DemoPlan& plan, Client& client, Tokens output_tokens)
      : plan_(plan),
        client_(client),
        output_tokens_(output_tokens),
        results_(plan.requests.size()) {}

  void Run(int64_t sessions, ProgressBar& bar) {
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < sessions; ++i) threads.emplace_back([&] { Work(bar); });
    for (std::thread& thread : threads) thread.join();
  }
  void Cancel() {
    const std::lock_guard<std::mutex> lock(mu_);
    cancelled_ = true;
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
  }
  std::vector<CallResult> TakeResults() { return std::move(results_); }

 private:
  void Work(ProgressBar& bar) {
    std::unique_lock<std::mutex> lock(mu_);
    while (!cancelled_ && next_ < plan_.requests.size()) {
      const size_t index = next_++;
      grpc::ClientContext context;
      contexts_.insert(&context);
      lock.unlock();
      CallResult result = RunGenerate(client_.inference(),
                                      MakeRequest(plan_.requests[index], output_tokens_), context);
      lock.lock();
      contexts_.erase(&context);
      results_[index] = std::move(result);
      bar.Update(++done_, plan_.requests[index].document);
    }
  }

  const DemoPlan& plan_;
  Client& client_;
  const Tokens output_tokens_;
  std::mutex mu_;
  std::vector<CallResult> results_;          // guarded by mu_
  std::set<grpc::ClientContext*> contexts_;  // guarded by mu_
  size_t next_ = 0;                          // guarded by mu_
  int64_t done_ = 0;                         // guarded by mu_
  bool cancelled_ = false;                   // guarded by mu_
};

}  // namespace

std::optional<std::string> FirstExisting(const std::vector<std::string>& candidates) {
  for (const std::string& candidate : candidates) {
    std::error_code error;
    if (std::filesystem::exists(candidate, error)) return candidate;
  }
  return std::nullopt;
}

std::vector<std::string> SearchPlaces(const std::string& binary, const std::string& relative) {
  std::vector<std::string> places = {relative};
  std::filesystem::path dir = std::filesystem::path(binary).parent_path();
  while (dir.has_relative_path()) {
    places.push_back((dir / relative).string());
    places.push_back((dir / "share" / "sluice" / relative).string());
    dir = dir.parent_path();
  }
  return places;
}

absl::StatusOr<ReadyLine> ParseReadyLine(const std::string& line) {
  ReadyLine ready;
  const size_t on = line.rfind(" on ", line.rfind(", metrics "));
  const size_t comma = line.find(", metrics ", on);
  if (!absl::StartsWith(line, kReadyPrefix) || on == std::string::npos ||
      comma == std::string::npos) {
    return absl::InternalError(absl::StrCat("cannot make sense of \"", line, "\""));
  }
  ready.endpoint = line.substr(on + 4, comma - on - 4);
  const size_t api = line.find(kApiWords, comma);
  if (api != std::string::npos) ready.http_url = line.substr(api + sizeof kApiWords - 1);
  const std::string metrics(absl::StripSuffix(line.substr(0, api), "/metrics"));
  const size_t colon = metrics.rfind(':');
  if (colon != std::string::npos && colon > comma &&
      !absl::SimpleAtoi(metrics.substr(colon + 1), &ready.metrics_port)) {
    return absl::InternalError(absl::StrCat("no metrics port in \"", line, "\""));
  }
  return ready;
}

std::string CurlLine(const std::string& http_url) {
  return absl::StrCat("  curl -N ", http_url.empty() ? "http://127.0.0.1:8000/v1" : http_url,
                      "/chat/completions -H 'Content-Type: application/json' -d '{\"messages\": "
                      "[{\"role\": \"user\", \"content\": \"Hello\"}], \"max_tokens\": 32, "
                      "\"stream\": true}'\n");
}

void DemoCommand::DefineFlags(FlagSet& flags) {
  flags.Group("Demo");
  flags.String("model", &options_.model, "DIR", "model to serve").Default("deploy/demo/model");
  flags.String("docs", &options_.docs, "DIR", "directory of long .txt documents to ask about")
      .Default("deploy/demo/prompts");
  flags.Number("link-gbps", &options_.link_gbps, 0, 10000, "GB/S",
               "emulated link between device and host pool, in 10^9 bytes/s per direction; 0 = as "
               "fast as memory");
  flags.Integer("sessions", &options_.sessions, 1, 64, "N", "requests under way at a time");
  flags.Integer("output-tokens", &options_.output_tokens, 1, 4096, "TOKENS",
                "most output tokens of a request");
  flags.Integer("threads", &options_.threads, 0, 4096, "N", "compute threads; 0 = one per CPU");
  flags.Bool("keep-serving", &options_.keep_serving, "leave the server running until Ctrl-C");
}

absl::Status DemoCommand::FindInputs() {
  const std::vector<std::pair<std::string*, const char*>> inputs = {
      {&options_.model, "deploy/demo/model"}, {&options_.docs, "deploy/demo/prompts"}};
  for (const auto& [path, relative] : inputs) {
    if (!path->empty()) continue;
    const std::optional<std::string> found = FirstExisting(SearchPlaces(SelfPath(), relative));
    if (!found.has_value()) {
      return absl::NotFoundError(
          absl::StrCat("cannot find ", relative, "; run from the top of the repository, or give ",
                       path == &options_.model ? "--model DIR" : "--docs DIR"));
    }
    *path = *found;
  }
  return absl::OkStatus();
}

absl::StatusOr<DemoCommand::Server> DemoCommand::StartServer(const DemoPlan& plan,
                                                             const CliIo& io) const {
  // Room for the requests under way and little else: what was asked before must make way.
  const int64_t device = options_.sessions * BlocksFor(plan.longest_request) + kSpareBlocks;
  const int64_t documents = BlocksFor(plan.document_tokens);
  const int64_t host = 2 * documents + device;
  io.out << "Device pool: " << device << " blocks of " << kBlockSize
         << " tokens; the documents need " << documents << ". Host pool: " << host
         << " blocks. Link: "
         << (options_.link_gbps > 0
                 ? absl::StrCat("emulated at ", FormatNumber(options_.link_gbps), " GB/s.")
                 : "as fast as memory.")
         << std::endl;
  Server server;
  SLUICE_ASSIGN_OR_RETURN(server.process, ChildProcess::Start({SelfPath(),
                                                               "serve",
                                                               "--model",
                                                               options_.model,
                                                               "--host",
                                                               "127.0.0.1",
                                                               "--port",
                                                               "0",
                                                               "--metrics-port",
                                                               "0",
                                                               "--block-size",
                                                               absl::StrCat(kBlockSize),
                                                               "--device-kv-blocks",
                                                               absl::StrCat(device),
                                                               "--host-kv-blocks",
                                                               absl::StrCat(host),
                                                               "--link-gbps",
                                                               FormatNumber(options_.link_gbps),
                                                               "--threads",
                                                               absl::StrCat(options_.threads)}));
  absl::StatusOr<std::string> line = server.process->WaitForLine(kReadyPrefix, kStartTimeout);
  if (!line.ok()) {
    return absl::UnavailableError(
        absl::StrCat("the server did not start: ", line.status().message()));
  }
  SLUICE_ASSIGN_OR_RETURN(const ReadyLine ready, ParseReadyLine(*line));
  server.endpoint = ready.endpoint;
  server.metrics_port = ready.metrics_port;
  server.http_url = ready.http_url;
  return server;
}

absl::StatusOr<std::vector<CallResult>> DemoCommand::Ask(const DemoPlan& plan, Client& client,
                                                         Interrupter& interrupter,
                                                         const CliIo& io) const {
  Asker asker(plan, client, options_.output_tokens);
  {
    ProgressBar bar(io.err, io.err_is_terminal, "asking",
                    static_cast<int64_t>(plan.requests.size()));
    interrupter.SetHandler([&asker] { asker.Cancel(); });
    asker.Run(options_.sessions, bar);
    interrupter.SetHandler(nullptr);
  }
  if (interrupter.signal() != 0) return absl::CancelledError("interrupted");
  std::vector<CallResult> results = asker.TakeResults();
  for (const CallResult& result : results) {
    if (!result.ok()) {
      return absl::UnavailableError(
          absl::StrCat("a request failed: ", DescribeError(result.status)));
    }
  }
  return results;
}

void DemoCommand::KeepServing(Server& server, Interrupter& interrupter, const CliIo& io) const {
  io.out << "\nStill serving on " << server.endpoint
         << ", metrics on http://127.0.0.1:" << server.metrics_port
         << "/metrics. Try:\n  sluice generate --endpoint " << server.endpoint
         << " --prompt \"It was a dark night\" --max-tokens 64\n"
         << CurlLine(server.http_url) << "Ctrl-C ends it." << std::endl;
  interrupter.SetHandler([&server] { server.process->Signal(SIGTERM); });
  server.process->Wait();
  interrupter.SetHandler(nullptr);
}

absl::Status DemoCommand::Demonstrate(Interrupter& interrupter, const CliIo& io) {
  SLUICE_RETURN_IF_ERROR(FindInputs());
  SLUICE_ASSIGN_OR_RETURN(const std::vector<DemoDocument> documents, LoadDocuments(options_.docs));
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          Tokenizer::Load(options_.model));
  const DemoPlan plan = PlanDemo(documents, *tokenizer, options_.output_tokens);
  io.out << documents.size() << " documents, " << plan.document_tokens.value() << " tokens; "
         << plan.requests.size() << " requests from " << plan.requests.size()
         << " sessions, each document asked about again after all the others." << std::endl;
  SLUICE_ASSIGN_OR_RETURN(Server server, StartServer(plan, io));
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Client> client,
                          Client::Connect(server.endpoint, kConnectTimeout));
  SLUICE_ASSIGN_OR_RETURN(const v1::ServerInfo info, client->GetServerInfo());
  io.out << "Server: " << info.model() << ", " << info.architecture() << ", " << info.dtype()
         << ", " << info.device() << ".\n"
         << (server.http_url.empty()
                 ? "The OpenAI-compatible API is off: its port is in use.\n"
                 : absl::StrCat("OpenAI-compatible API: ", server.http_url, "\n"))
         << std::endl;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<CallResult> results,
                          Ask(plan, *client, interrupter, io));
  SLUICE_ASSIGN_OR_RETURN(const MetricValues metrics,
                          ScrapeMetrics("127.0.0.1", server.metrics_port));
  io.out << RenderRequests(plan, results) << '\n'
         << RenderTotals(results, metrics, info) << '\n'
         << RenderAnswer(plan, results) << std::flush;
  if (options_.keep_serving) {
    KeepServing(server, interrupter, io);
  } else {
    io.out << "\nWith --keep-serving the server stays, for this and every other OpenAI client:\n"
           << CurlLine(server.http_url) << std::flush;
  }
  return absl::OkStatus();
}

int DemoCommand::Run(const FlagSet&, const CliIo& io) {
  Interrupter interrupter;
  const absl::Status status = Demonstrate(interrupter, io);
  if (interrupter.signal() != 0 && !options_.keep_serving) return 128 + interrupter.signal();
  if (status.ok()) return kExitOk;
  io.err << "sluice: " << status.message() << std::endl;
  return kExitFailure;
}

}  // namespace sluice
