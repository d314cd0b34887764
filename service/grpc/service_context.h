// What the services need to answer rpcs: handed in, so that tests assemble the same server around
// another backend.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "service/engine/engine.h"
#include "service/grpc/request_checks.h"
#include "service/telemetry/metrics.h"
#include "service/telemetry/power_meter.h"
#include "service/tokenizer/tokenizer.h"
#include "service/trace/engine_trace.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

class AccessControl;

// The end of a Generate rpc, for a log. `request_id` is the client's own: any UTF-8.
struct RequestEnd {
  const char* service = "";
  std::string request_id;
  absl::StatusCode code = absl::StatusCode::kOk;
  absl::Duration took;
  std::string trace_id;   // 32 hex digits; empty: the client named no trace
  std::string parent_id;  // 16 hex digits, or empty
};

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

  // Of the model's config.json: "llama".
  std::string model_type = "";

  // Called when a Generate rpc has ended, by any thread; must not block. Null: nobody.
  std::function<void(const RequestEnd&)> on_request_end = nullptr;

  // Who may do what; null: everybody may do everything. Outlives the server.
  AccessControl* access = nullptr;

  // What the engine did lately; null: nobody keeps it. Outlives the server.
  const EngineTrace* trace = nullptr;
  // Null: nothing here counts energy. Outlives the server.
  const PowerMeter* power = nullptr;
};

}  // namespace sluice
