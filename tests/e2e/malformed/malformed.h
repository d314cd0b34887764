// Sends a server what no good client would, and checks every answer.
#pragma once

#include <cstdint>
#include <map>
#include <ostream>
#include <string>

namespace sluice::malformed {

struct Options {
  std::string endpoint;
  int count = 1000;
  uint64_t seed = 1;
  // The server's limit, to be exceeded.
  int64_t max_receive_bytes = int64_t{64} << 20;
};

struct Result {
  // Kind of request -> status code -> how often.
  std::map<std::string, std::map<std::string, int>> counts;
  // What was wrong with the first wrong answer; empty: everything was right.
  std::string failure;
};

// Sends `count` requests of random kinds, or fewer if an answer is wrong; then checks that a good
// request is answered and that no block is left in use.
Result Attack(const Options& options);

// A table of kinds and codes.
void Print(const Result& result, std::ostream& out);

}  // namespace sluice::malformed
