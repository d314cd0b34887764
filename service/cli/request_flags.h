// Flags that describe a generation request, shared by the client commands.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "service/cli/client_security.h"
#include "service/config/flag_set.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

inline constexpr char kDefaultEndpoint[] = "127.0.0.1:50051";

// Where the server is, how long to try, and how to prove who asks.
struct ConnectionFlags {
  std::string endpoint = kDefaultEndpoint;
  double connect_timeout_s = 5;
  ClientSecurity security;

  void Define(FlagSet& flags);
};

// Unset: the model's generation_config, else the server's default.
struct SamplingFlags {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<uint64_t> seed;

  void Define(FlagSet& flags);
  void Fill(v1::Sampling* sampling) const;
};

struct SchedulingFlags {
  std::string tenant;
  int64_t priority = 0;
  int64_t ttft_deadline_ms = 0;
  std::string cache_salt;

  void Define(FlagSet& flags);
  void Fill(v1::Scheduling* scheduling) const;
};

}  // namespace sluice
