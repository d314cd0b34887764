// RemoteStats: what a remote tier has done since the start. A plain value, for metrics.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sluice {

// Why something asked of a remote store did not come about.
enum class RemoteError : uint8_t {
  kTimeout,     // no answer in time
  kConnection,  // cannot connect, or the connection broke
  kRefused,     // password, user, rights or certificate
  kFull,        // out of memory, and nothing is evicted there
  kOther,       // any other error it answered with
};
inline constexpr int kRemoteErrorCount = 5;

struct RemoteStats {
  int breaker_state = 0;  // 0 closed, 1 half open, 2 open
  int64_t breaker_opened = 0;
  int64_t breaker_trials = 0;
  int64_t connections_made = 0;

  int64_t blocks_read = 0;
  int64_t blocks_missed = 0;  // known here, and gone there: expired or evicted
  int64_t blocks_written = 0;
  int64_t blocks_shared = 0;  // not written, since another server had
  int64_t lookups = 0;        // prompts asked about
  int64_t blocks_found = 0;   // of these prompts
  std::array<int64_t, kRemoteErrorCount> errors{};
};

// "timeout", for labels and logs.
constexpr const char* RemoteErrorName(RemoteError error) {
  constexpr std::array<const char*, kRemoteErrorCount> kNames = {"timeout", "connection", "refused",
                                                                 "full", "other"};
  return kNames[static_cast<size_t>(error)];
}

}  // namespace sluice
