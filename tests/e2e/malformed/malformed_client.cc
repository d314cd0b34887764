// malformed_client --endpoint H:P [--count 1000] [--seed 1]
//
// Exits with 1 at the first wrong answer, and with 0 if all were right.
#include <iostream>

#include "CLI/CLI.hpp"
#include "tests/e2e/malformed/malformed.h"

int main(int argc, char** argv) {
  sluice::malformed::Options options;
  CLI::App app("Sends malformed requests to a Sluice server and checks every answer.");
  app.add_option("--endpoint", options.endpoint, "host:port")->required();
  app.add_option("--count", options.count, "requests to send")->capture_default_str();
  app.add_option("--seed", options.seed, "of the choice of requests")->capture_default_str();
  app.add_option("--max-receive-bytes", options.max_receive_bytes,
                 "the server's limit on a message")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const sluice::malformed::Result result = sluice::malformed::Attack(options);
  std::cout << "seed " << options.seed << "\n";
  sluice::malformed::Print(result, std::cout);
  return result.failure.empty() ? 0 : 1;
}
