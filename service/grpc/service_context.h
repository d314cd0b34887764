// What the services need to answer rpcs: handed in, so that tests assemble the same server around
// another backend.
#pragma once

#include <functional>

#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "service/engine/engine.h"
#include "service/grpc/request_checks.h"
#include "service/telemetry/metrics.h"
#include "service/tokenizer/tokenizer.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

struct ServiceContext {
  // These outlive the server.
  Engine& engine;
  const Tokenizer& tokenizer;
  Metrics& metrics;

  // The clock the engine runs on.
  std::function<absl::Time()> clock;

  // Facts that do not change; GetServerInfo answers this, with the uptime added. Requests are
  // checked against its vocab_size, max_model_len and eos_token_ids.
  v1::ServerInfo info;

  // From the model's generation_config.
  SamplingDefaults sampling_defaults;

  // Most tokens of one sample that may wait for a slow client; one more cancels the call.
  Tokens stream_capacity{4096};
};

}  // namespace sluice
