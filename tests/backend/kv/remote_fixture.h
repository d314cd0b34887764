// A RemoteStore over a real redis-server, with a clock that only tests move.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backend/kv/remote_store.h"
#include "tests/backend/kv/redis_fixture.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {

// A clock that only tests move.
class TestClock {
 public:
  std::function<absl::Time()> function() const {
    return [this] { return absl::UnixEpoch() + absl::Milliseconds(ms_.load()); };
  }
  void Advance(absl::Duration by) { ms_ += absl::ToInt64Milliseconds(by); }

 private:
  std::atomic<int64_t> ms_{0};
};

class RemoteStoreTest : public RedisTest {
 protected:
  RemoteStoreOptions Options(const RedisServer& server, DiskNamespace space = SmallSpace()) {
    RemoteStoreOptions options;
    options.space = std::move(space);
    options.limit = MiB(2);
    options.pool.address = server.address();
    options.pool.timeout = absl::Milliseconds(300);
    options.pool.clock = clock_.function();
    options.pool.log = [this](const std::string& text) {
      std::lock_guard<std::mutex> lock(mu_);
      said_.push_back(text);
      news_.notify_all();
    };
    return options;
  }
  std::unique_ptr<RemoteStore> Open(const RedisServer& server, DiskNamespace space = SmallSpace()) {
    auto store = RemoteStore::Create(Options(server, std::move(space)));
    EXPECT_THAT(store, IsOk());
    return *std::move(store);
  }
  std::vector<std::string> said() {
    std::lock_guard<std::mutex> lock(mu_);
    return said_;
  }
  // Waits until the pool has said this.
  void WaitUntilSaid(const std::string& text) {
    std::unique_lock<std::mutex> lock(mu_);
    const auto has = [&](const std::string& line) { return line.find(text) != std::string::npos; };
    const bool said = news_.wait_for(lock, std::chrono::seconds(20),
                                     [&] { return std::any_of(said_.begin(), said_.end(), has); });
    EXPECT_TRUE(said) << text;
  }
  static std::vector<BlockIdentity> Names(const std::vector<TestBlock>& blocks) {
    std::vector<BlockIdentity> names;
    for (const TestBlock& block : blocks) names.push_back(block.identity);
    return names;
  }
  // Makes known to `store` what another one has written.
  static void Bind(RemoteStore& store, const std::vector<TestBlock>& blocks, int32_t slot = 0) {
    for (const TestBlock& block : blocks) {
      store.Bind(std::vector<StoredBlock>{{BlockId(slot++), block.identity, block.tokens}});
    }
  }
  static std::string Raw(RedisConnection& redis, const std::string& key) {
    const absl::StatusOr<RedisReply> reply = redis.Call({"GET", key});
    EXPECT_THAT(reply, IsOk());
    return reply.ok() ? reply->text : "";
  }

  TestClock clock_;

 private:
  std::mutex mu_;
  std::condition_variable news_;
  std::vector<std::string> said_;  // guarded by mu_
};

}  // namespace sluice::testing
