// What a streamed token costs the server: CPU time of the server process per token at 1, 32 and 256
// streams, with steps of a fixed length (--step-ms) and no model. The clients are processes of
// their own, so that their time does not count. Prints one JSON object per line.
//
//   server  scheduler, engine, detokenizer and gRPC together
//   engine  the same requests without gRPC and text: what is left is the cost of the API
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "service/engine/token_stream.h"
#include "tests/service/grpc/test_server.h"

namespace sluice {
namespace {

using testing::PlainRequest;
using testing::TestServer;
using testing::TestServerOptions;

constexpr char kPrompt[] = "a prompt of some length, the same for all";

// What a client process is told.
struct Job {
  int port = 0;
  int streams = 0;
  int tokens = 0;  // per stream
};

struct Client {
  pid_t pid = 0;
  int to = -1;    // Job
  int from = -1;  // int64_t messages received, when done
};

int64_t ReadAll(const Job& job) {
  const auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(job.port),
                                           grpc::InsecureChannelCredentials());
  const auto stub = v1::Inference::NewStub(channel);
  std::atomic<int64_t> messages{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < job.streams; ++i) {
    readers.emplace_back([&] {
      grpc::ClientContext context;
      const auto reader =
          stub->Generate(&context, PlainRequest(kPrompt, static_cast<uint32_t>(job.tokens)));
      v1::GenerateResponse response;
      while (reader->Read(&response)) ++messages;
      if (!reader->Finish().ok()) std::abort();
    });
  }
  for (std::thread& reader : readers) reader.join();
  return messages;
}

// Forks a process that waits for its job. Must come before anything starts a thread.
Client ForkClient() {
  std::array<int, 2> job_pipe{};
  std::array<int, 2> done_pipe{};
  SLUICE_CHECK(pipe(job_pipe.data()) == 0 && pipe(done_pipe.data()) == 0);
  Client client{fork(), job_pipe[1], done_pipe[0]};
  if (client.pid != 0) return client;
  Job job;
  if (read(job_pipe[0], &job, sizeof(job)) != sizeof(job)) _exit(1);
  const int64_t messages = ReadAll(job);
  _exit(write(done_pipe[1], &messages, sizeof(messages)) == sizeof(messages) ? 0 : 1);
}

double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

TestServerOptions Options() {
  TestServerOptions options;
  options.scheduler.device_blocks = Blocks(1 << 17);
  return options;
}

// CPU seconds of this process while `client` does its job.
double ServerSeconds(const Client& client, Job job, absl::Duration step, int64_t* messages) {
  TestServer server(Options());
  server.backend().set_step_time(step);
  job.port = server.server().port();
  const double start = CpuSeconds();
  SLUICE_CHECK(write(client.to, &job, sizeof(job)) == sizeof(job));
  SLUICE_CHECK(read(client.from, messages, sizeof(*messages)) == sizeof(*messages));
  const double took = CpuSeconds() - start;
  waitpid(client.pid, nullptr, 0);
  return took;
}

// The same without gRPC: a reader that only looks for the ends.
double EngineSeconds(const Job& job, absl::Duration step) {
  TestServer server(Options());
  server.backend().set_step_time(step);
  std::mutex mu;
  std::condition_variable changed;
  int ended = 0;
  const double start = CpuSeconds();
  std::vector<std::shared_ptr<TokenStream>> streams(static_cast<size_t>(job.streams));
  for (int i = 0; i < job.streams; ++i) {
    std::shared_ptr<TokenStream>& stream = streams[static_cast<size_t>(i)];
    stream = std::make_shared<TokenStream>(Tokens(4096), [&, i] {
      const std::vector<Event> events = streams[static_cast<size_t>(i)]->TakeAll();
      if (events.empty() || !events.back().finish.has_value()) return;
      std::lock_guard<std::mutex> lock(mu);
      ++ended;
      changed.notify_one();
    });
    RequestSpec spec;
    spec.id = RequestId(i);
    spec.prompt = server.tokenizer().Encode(kPrompt, true, true);
    spec.max_new = Tokens(job.tokens);
    spec.sampling = std::make_shared<SamplingParams>();
    SLUICE_CHECK(server.engine().loop().Submit(std::move(spec), stream).ok());
  }
  std::unique_lock<std::mutex> lock(mu);
  changed.wait(lock, [&] { return ended == job.streams; });
  return CpuSeconds() - start;
}

void Report(const Client& client, int streams, int tokens, int step_ms) {
  const Job job{0, streams, tokens};
  const absl::Duration step = absl::Milliseconds(step_ms);
  int64_t messages = 0;
  const double server = ServerSeconds(client, job, step, &messages);
  const double engine = EngineSeconds(job, step);
  const double total = static_cast<double>(streams) * tokens;
  std::printf(
      "{\"streams\": %d, \"tokens_per_stream\": %d, \"step_ms\": %d, "
      "\"tokens_per_message\": %.3f, \"server_us_per_token\": %.2f, "
      "\"engine_us_per_token\": %.2f, \"api_us_per_token\": %.2f}\n",
      streams, tokens, step_ms, total / static_cast<double>(messages - streams),
      1e6 * server / total, 1e6 * engine / total, 1e6 * (server - engine) / total);
  std::fflush(stdout);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  const int step_ms = argc > 2 && std::string(argv[1]) == "--step-ms" ? std::atoi(argv[2]) : 10;
  const std::array<int, 3> streams = {1, 32, 256};
  std::array<sluice::Client, 3> clients;
  for (sluice::Client& client : clients) client = sluice::ForkClient();
  for (size_t i = 0; i < streams.size(); ++i) sluice::Report(clients[i], streams[i], 400, step_ms);
  return 0;
}
