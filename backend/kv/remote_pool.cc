#include "backend/kv/remote_pool.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// One per direction, one for look-ups, one to spare.
constexpr size_t kMostIdle = 4;

RemoteError KindOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return RemoteError::kTimeout;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kNotFound:  // a file of ours
      return RemoteError::kRefused;
    case absl::StatusCode::kUnavailable:
      return RemoteError::kConnection;
    default:
      return RemoteError::kOther;
  }
}

absl::StatusOr<std::string> ReadPassword(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat("the password file ", path, " cannot be read"));
  }
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string line = text.substr(0, text.find_first_of("\r\n"));
  if (!line.empty()) return line;
  return absl::NotFoundError(
      absl::StrCat("the first line of the password file ", path, " is empty"));
}

}  // namespace

RemotePool::RemotePool(RemotePoolOptions options)
    : options_(std::move(options)), breaker_(options_.breaker) {}

absl::StatusOr<std::unique_ptr<RedisConnection>> RemotePool::Connect() {
  SLUICE_ASSIGN_OR_RETURN(const std::string password, ReadPassword(options_.password_file));
  absl::StatusOr<std::unique_ptr<RedisConnection>> connection =
      RedisConnection::Connect(options_.address, password, options_.timeout, options_.tls);
  if (!connection.ok()) return connection;
  std::lock_guard<std::mutex> lock(mu_);
  ++connections_made_;
  return connection;
}

std::unique_ptr<RedisConnection> RemotePool::TakeIdle() {
  std::lock_guard<std::mutex> lock(mu_);
  if (idle_.empty()) return nullptr;
  std::unique_ptr<RedisConnection> connection = std::move(idle_.back());
  idle_.pop_back();
  return connection;
}

absl::Status RemotePool::Run(absl::FunctionRef<absl::Status(RedisConnection&)> work) {
  if (!closed()) return absl::UnavailableError("left alone for a while, since it failed");
  std::unique_ptr<RedisConnection> connection = TakeIdle();
  bool used_before = connection != nullptr;
  while (true) {
    if (connection == nullptr) {
      absl::StatusOr<std::unique_ptr<RedisConnection>> made = Connect();
      if (!made.ok()) {
        Fail(made.status(), /*trial=*/false);
        return made.status();
      }
      connection = *std::move(made);
    }
    const int64_t replies = connection->replies();
    const int64_t refusals = Refusals();
    absl::Status status = work(*connection);
    if (status.ok()) {
      if (Refusals() == refusals) Succeed(/*trial=*/false);
      std::lock_guard<std::mutex> lock(mu_);
      if (idle_.size() < kMostIdle) idle_.push_back(std::move(connection));
      return status;
    }
    const bool stale =
        used_before && absl::IsUnavailable(status) && connection->replies() == replies;
    connection.reset();
    if (!stale) {
      Fail(status, /*trial=*/false);
      return status;
    }
    used_before = false;
    std::lock_guard<std::mutex> lock(mu_);
    idle_.clear();  // they are no better
  }
}

void RemotePool::NoteRefusal(const absl::Status& status) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    ++refusals_;
  }
  Fail(status, /*trial=*/false);
}

int64_t RemotePool::Refusals() const {
  std::lock_guard<std::mutex> lock(mu_);
  return refusals_;
}

bool RemotePool::closed() const {
  std::lock_guard<std::mutex> lock(mu_);
  return breaker_.closed();
}

absl::Time RemotePool::next_trial() const {
  std::lock_guard<std::mutex> lock(mu_);
  return breaker_.next_trial();
}

void RemotePool::Tend() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (!breaker_.StartTrial(options_.clock())) return;
  }
  absl::StatusOr<std::unique_ptr<RedisConnection>> connection = Connect();  // says PING
  if (!connection.ok()) return Fail(connection.status(), /*trial=*/true);
  {
    std::lock_guard<std::mutex> lock(mu_);
    idle_.push_back(*std::move(connection));
  }
  Succeed(/*trial=*/true);
}

absl::Status RemotePool::Start() {
  absl::StatusOr<std::unique_ptr<RedisConnection>> connection = Connect();
  if (connection.ok()) {
    std::lock_guard<std::mutex> lock(mu_);
    idle_.push_back(*std::move(connection));
    return absl::OkStatus();
  }
  for (int i = 0; i < options_.breaker.failures; ++i) Fail(connection.status(), /*trial=*/false);
  return connection.status();
}

void RemotePool::Succeed(bool trial) {
  bool back = false;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const bool was_closed = breaker_.closed();
    breaker_.OnSuccess(trial);
    back = !was_closed && breaker_.closed();
  }
  if (back) Say(absl::StrCat("remote KV tier: ", options_.address.ToText(), " answers again"));
}

void RemotePool::Fail(const absl::Status& status, bool trial) {
  bool opened = false;
  {
    std::lock_guard<std::mutex> lock(mu_);
    ++errors_[static_cast<size_t>(KindOf(status))];
    const int64_t before = breaker_.times_opened();
    breaker_.OnFailure(options_.clock(), trial);
    opened = breaker_.times_opened() > before;
    if (opened) idle_.clear();
  }
  if (!opened) return;
  Say(absl::StrCat("remote KV tier: ", options_.address.ToText(),
                   " is left alone until it answers: ", status.message(),
                   "; what is not read is computed"));
}

void RemotePool::AddStats(RemoteStats* stats) const {
  std::lock_guard<std::mutex> lock(mu_);
  stats->breaker_state = static_cast<int>(breaker_.state());
  stats->breaker_opened = breaker_.times_opened();
  stats->breaker_trials = breaker_.trials();
  stats->connections_made = connections_made_;
  for (size_t i = 0; i < errors_.size(); ++i) stats->errors[i] += errors_[i];
}

}  // namespace sluice
