#include "backend/kv/remote_probe.h"

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kProbeTtl = 10;  // seconds, should the process die before it removes the value
constexpr size_t kLeastRounds = 3;

absl::Duration Median(std::vector<absl::Duration> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status Check(const RedisReply& reply, const char* command) {
  if (reply.type != RedisReply::Type::kError) return absl::OkStatus();
  const std::string said = absl::StrCat(command, ": the server says: ", reply.text);
  return absl::StartsWith(reply.text, "OOM") ? absl::ResourceExhaustedError(said)
                                             : absl::PermissionDeniedError(said);
}

class Probe {
 public:
  Probe(const RemoteValueFormat& format, const std::function<absl::Time()>& clock)
      : clock_(clock), key_(format.ProbeKey(std::random_device()())), value_(format.value_bytes()) {
    std::mt19937_64 random(1);  // bytes that do not compress
    for (std::byte& byte : value_) byte = static_cast<std::byte>(random() & 0xFF);
  }

  // One round of measurements. `*refused`: what the server answered instead.
  absl::Status Round(RedisConnection& connection, absl::Status* refused) {
    const absl::Time start = clock_();
    SLUICE_RETURN_IF_ERROR(connection.Call({"PING"}).status());
    const absl::Time pinged = clock_();
    SLUICE_RETURN_IF_ERROR(connection.SendSet(key_, value_, {}, kProbeTtl));
    SLUICE_ASSIGN_OR_RETURN(const RedisReply stored, connection.Receive());
    const absl::Time written = clock_();
    *refused = Check(stored, "SET");
    if (!refused->ok()) return absl::OkStatus();
    connection.Append({"GET", key_});
    SLUICE_RETURN_IF_ERROR(connection.Flush());
    size_t size = 0;
    SLUICE_ASSIGN_OR_RETURN(const RedisReply got, connection.ReceiveValue(value_, {}, &size));
    *refused = Check(got, "GET");
    latency_.push_back(pinged - start);
    write_.push_back(written - pinged);
    read_.push_back(clock_() - written);
    return absl::OkStatus();
  }

  absl::Status Remove(RedisConnection& connection) {
    return connection.Call({"UNLINK", key_}).status();
  }

  size_t rounds() const { return read_.size(); }
  RemoteRates Result() const {
    return {Bytes(static_cast<int64_t>(value_.size())), Median(write_), Median(read_),
            *std::min_element(latency_.begin(), latency_.end())};
  }

 private:
  const std::function<absl::Time()>& clock_;
  const std::string key_;
  std::vector<std::byte> value_;
  std::vector<absl::Duration> latency_;
  std::vector<absl::Duration> write_;
  std::vector<absl::Duration> read_;
};

}  // namespace

absl::StatusOr<RemoteRates> ProbeRemote(RemoteStore& store, absl::Duration time,
                                        const std::function<absl::Time()>& clock) {
  Probe probe(store.format(), clock);
  absl::Status refused;
  const absl::Status asked = store.pool().Run([&](RedisConnection& connection) -> absl::Status {
    const absl::Time end = clock() + time;
    while (probe.rounds() < kLeastRounds || clock() < end) {
      SLUICE_RETURN_IF_ERROR(probe.Round(connection, &refused));
      if (!refused.ok()) return absl::OkStatus();
    }
    return probe.Remove(connection);
  });
  SLUICE_RETURN_IF_ERROR(asked);
  SLUICE_RETURN_IF_ERROR(refused);
  return probe.Result();
}

}  // namespace sluice
