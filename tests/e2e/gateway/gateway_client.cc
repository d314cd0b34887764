// gateway_client --endpoint H:P SCENARIO …: lives a gateway's life with one engine, encoded by hand
// from the protocol's tables. Exits with 1 at the first thing that is not as it should be.
#include "CLI/CLI.hpp"
#include "tests/e2e/gateway/edges.h"
#include "tests/e2e/gateway/index.h"
#include "tests/e2e/gateway/life.h"

int main(int argc, char** argv) {
  using namespace sluice::gateway;
  std::string endpoint;
  std::string path;
  std::string stop;
  Ids prompt;
  constexpr size_t kWidth = 32;  // tokens per block
  size_t device_blocks = 0;
  size_t host_blocks = 0;
  uint64_t last = 0;
  CLI::App app("Uses a Sluice server as a gateway would, and checks every answer.");
  app.add_option("--endpoint", endpoint, "host:port")->required();
  CLI::App* life = app.add_subcommand("life", "everything but KV events");
  life->add_option("--tokenizer", path, "where to write the tokenizer's archive")->required();
  life->add_option("--prompt", prompt, "token ids")->delimiter(',')->required();
  life->add_option("--stop", stop, "a string in the prompt's greedy continuation")->required();
  CLI::App* events = app.add_subcommand("events", "KV events across offload and eviction");
  events->add_option("--device-blocks", device_blocks, "of the server")->required();
  events->add_option("--host-blocks", host_blocks, "of the server")->required();
  CLI::App* restarted = app.add_subcommand("restarted", "KV events after a restart");
  restarted->add_option("--last", last, "a number of the server before")->required();
  CLI::App* leaving = app.add_subcommand("leaving", "a drain, which begins after \"running\"");
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);

  const Channel channel = Connect(endpoint);
  if (*life) {
    Probe(channel);
    PrintModelInfo(channel);
    FetchTokenizer(channel, path);
    GenerateAllWays(channel, prompt);
    StopAtString(channel, prompt, stop);
    LeaveOutWhatMayBe(channel);
    RefuseBadRequests(channel);
    GiveUp(channel);
    PollLoads(channel);
    ReadLoadReports(channel);
  }
  if (*events) FollowEvents(channel, kWidth, device_blocks, host_blocks);
  if (*leaving) SeeItLeave(channel);
  if (*restarted) FollowAfterRestart(channel, kWidth, last);
  return 0;
}
