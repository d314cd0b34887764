#include "service/cli/remote_tier.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

constexpr absl::Duration kProbeTime = absl::Milliseconds(150);
// What a store is taken for until it has been measured: one behind a network of 10 Gbit/s.
constexpr double kGuessedRate = 1e9;
constexpr Seconds kGuessedLatency{5e-4};

absl::Status WithFlag(const char* flag, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(flag, ": ", status.message()));
}

// The time beyond an empty answer's is that of the bytes.
LinkCoefficients CostOf(absl::Duration value, absl::Duration latency, Bytes bytes) {
  LinkCoefficients cost;
  const absl::Duration moving = std::max(value - latency, value / 4);
  cost.per_byte = Seconds(absl::ToDoubleSeconds(moving) / AsDouble(bytes));
  cost.per_run = Seconds(0);  // pipelined
  cost.latency = Seconds(absl::ToDoubleSeconds(latency));
  return cost;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteTier>> RemoteTier::Open(const RemoteConfig& config,
                                                             const DiskNamespace& space,
                                                             std::function<absl::Time()> clock) {
  RemoteStoreOptions options;
  absl::StatusOr<RemoteAddress> address = RemoteAddress::Parse(config.url);
  if (!address.ok()) return WithFlag("--kv-remote-url", address.status());
  options.space = space;
  options.limit = config.Limit();
  options.ttl = absl::Seconds(config.ttl_s);
  options.pool.address = *std::move(address);
  options.pool.password_file = config.password_file;
  options.pool.tls = {config.ca_file, config.cert_file, config.key_file};
  options.pool.timeout = absl::Milliseconds(config.timeout_ms);
  options.pool.breaker.seed = std::random_device()();
  options.pool.log = [](const std::string& message) { spdlog::warn("{}", message); };
  options.pool.clock = clock;
  std::unique_ptr<RemoteTier> tier(new RemoteTier);
  tier->seed_ = space.Seed();
  absl::StatusOr<std::unique_ptr<RemoteStore>> store = RemoteStore::Create(std::move(options));
  if (!store.ok()) return WithFlag("--kv-remote-gib", store.status());
  tier->store_ = *std::move(store);
  const StoreShape& shape = tier->store_->shape();
  const KvGeometry geometry{shape.tokens_per_block, shape.payload};
  spdlog::info("remote KV tier: up to {} blocks = {} tokens = {}; {}", shape.slots.value(),
               geometry.TokensIn(shape.slots).value(), FormatBytes(geometry.BytesFor(shape.slots)),
               tier->store_->description());
  SLUICE_RETURN_IF_ERROR(tier->Connect());
  tier->Measure(clock);
  tier->lookup_ = std::make_unique<RemoteLookup>(*tier->store_, std::move(clock));
  return tier;
}

absl::Status RemoteTier::Connect() {
  const absl::Status connected = store_->pool().Start();
  if (absl::IsPermissionDenied(connected) || absl::IsNotFound(connected)) {
    const bool tls = absl::StartsWith(connected.message(), "TLS: ");
    return WithFlag(tls ? "--kv-remote-url" : "--kv-remote-password-file", connected);
  }
  return absl::OkStatus();  // the pool says in the log what else there is to say
}

void RemoteTier::Measure(const std::function<absl::Time()>& clock) {
  const absl::StatusOr<RemoteRates> rates = ProbeRemote(*store_, kProbeTime, clock);
  if (!rates.ok()) {
    spdlog::warn("remote KV tier: not measured ({}); its cost starts from a guess",
                 std::string(rates.status().message()));
    return;
  }
  rates_ = *rates;
  const auto rate = [&](absl::Duration time) {
    return AsDouble(rates->value) / absl::ToDoubleSeconds(time) * 1e-9;
  };
  spdlog::info("remote KV tier: reads {:.2f} GB/s, writes {:.2f} GB/s, {:.2f} ms per answer",
               rate(rates->read), rate(rates->write), absl::ToDoubleMilliseconds(rates->latency));
}

void RemoteTier::Price(const KvGeometry& host, CostCoefficients& cost) const {
  LinkCoefficients& read = cost.links[static_cast<size_t>(LinkDirection::kDiskToHost)];
  LinkCoefficients& write = cost.links[static_cast<size_t>(LinkDirection::kHostToDisk)];
  if (rates_.has_value()) {
    read = CostOf(rates_->read, rates_->latency, rates_->value);
    write = CostOf(rates_->write, rates_->latency, rates_->value);
  } else {
    read.per_byte = write.per_byte = Seconds(1 / kGuessedRate);
    read.per_run = write.per_run = Seconds(0);
    read.latency = write.latency = kGuessedLatency;
  }
  const double share = AsDouble(store_->shape().payload) / AsDouble(host.bytes_per_block);
  read.per_byte = read.per_byte * share;
  write.per_byte = write.per_byte * share;
}

}  // namespace sluice
