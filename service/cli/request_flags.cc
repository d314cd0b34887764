#include "service/cli/request_flags.h"

#include <limits>

namespace sluice {

void ConnectionFlags::Define(FlagSet& flags) {
  flags.Group("Server");
  flags.String("endpoint", &endpoint, "HOST:PORT", "gRPC address of the server").aliases = {
      "target"};
  flags.Number("connect-timeout", &connect_timeout_s, 0, 3600, "SECONDS",
               "how long to wait for the server to answer");
  flags.String("tls-ca", &security.tls_ca, "FILE|system",
               "speak TLS with a server whose certificate this PEM file has signed");
  flags.String("tls-cert", &security.tls_cert, "FILE",
               "PEM certificate of this client, where the server wants one");
  flags.String("tls-key", &security.tls_key, "FILE", "PEM key of --tls-cert");
  flags.String("tls-server-name", &security.tls_server_name, "NAME",
               "name in the server's certificate (default: the endpoint's host)");
  flags.String("token-file", &security.token_file, "FILE",
               "file with the bearer token to show to the server");
}

void SamplingFlags::Define(FlagSet& flags) {
  flags.Group("Sampling (unset: the model's generation_config, else the value shown)");
  flags.Number("temperature", &temperature, 0, 100, "X", "0 = greedy").Default("1");
  flags.Number("top-p", &top_p, 0, 1, "P", "keep the likeliest tokens up to this mass; 1 = all")
      .Default("1");
  flags
      .Integer("top-k", &top_k, 0, std::numeric_limits<int32_t>::max(), "K",
               "keep the K likeliest tokens; 0 = all")
      .Default("0");
  flags
      .Number("min-p", &min_p, 0, 1, "P",
              "drop tokens less likely than this share of the likeliest; 0 = off")
      .Default("0");
  flags
      .Number("repetition-penalty", &repetition_penalty, 0, 10, "X",
              "over prompt and output; 1 = off")
      .Default("1");
  flags.Number("presence-penalty", &presence_penalty, -2, 2, "X", "over the output; 0 = off")
      .Default("0");
  flags.Number("frequency-penalty", &frequency_penalty, -2, 2, "X", "over the output; 0 = off")
      .Default("0");
  flags.Unsigned("seed", &seed, "same seed, same tokens (default: drawn by the server)");
}

void SamplingFlags::Fill(v1::Sampling* s) const {
  if (temperature) s->set_temperature(static_cast<float>(*temperature));
  if (top_p) s->set_top_p(static_cast<float>(*top_p));
  if (top_k) s->set_top_k(static_cast<uint32_t>(*top_k));
  if (min_p) s->set_min_p(static_cast<float>(*min_p));
  if (repetition_penalty) s->set_repetition_penalty(static_cast<float>(*repetition_penalty));
  if (presence_penalty) s->set_presence_penalty(static_cast<float>(*presence_penalty));
  if (frequency_penalty) s->set_frequency_penalty(static_cast<float>(*frequency_penalty));
  if (seed) s->set_seed(*seed);
}

void SchedulingFlags::Define(FlagSet& flags) {
  flags.Group("Scheduling");
  flags.String("tenant", &tenant, "NAME", "who the request is for").Default("default");
  flags.Integer("priority", &priority, -100, 100, "N",
                "higher runs first and may preempt lower ones");
  flags.Integer("ttft-deadline-ms", &ttft_deadline_ms, 0, std::numeric_limits<uint32_t>::max(),
                "MS", "give up if not admitted after this many milliseconds; 0 = never");
  flags.String("cache-salt", &cache_salt, "TEXT",
               "share cached KV only with requests of equal salt");
}

void SchedulingFlags::Fill(v1::Scheduling* s) const {
  s->set_tenant(tenant);
  s->set_priority(static_cast<int32_t>(priority));
  s->set_ttft_deadline_ms(static_cast<uint32_t>(ttft_deadline_ms));
  s->set_cache_salt(cache_salt);
}

}  // namespace sluice
