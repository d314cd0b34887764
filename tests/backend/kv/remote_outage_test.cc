// The remote store against a redis-server that is killed, hangs, is full or locked; look-ups and
// measurements.
#include <fstream>
#include <set>

#include "backend/kv/remote_lookup.h"
#include "backend/kv/remote_probe.h"
#include "tests/backend/kv/link_world.h"
#include "tests/backend/kv/remote_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// ---- Servers that fail -----------------------------------------------------------------------

TEST_F(RemoteStoreTest, AKilledServerCostsNothingAndIsFoundAgain) {
  RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 4);
  const auto store = Open(server);
  ASSERT_THAT(store->pool().Start(), IsOk());
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  server.Kill();
  std::vector<std::byte> bytes;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(absl::IsUnavailable(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes)));
  }
  EXPECT_EQ(store->stats().breaker_state, 2);
  EXPECT_EQ(store->stats().breaker_opened, 1);
  EXPECT_THAT(said(), SizeIs(1));
  EXPECT_THAT(said()[0], HasSubstr("is left alone until it answers"));
  const int64_t errors = store->stats().errors[static_cast<size_t>(RemoteError::kConnection)];
  const absl::Time start = absl::Now();
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(absl::IsUnavailable(store->Find(Names(blocks)).status()));
  }
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(500)) << "nobody was asked";
  EXPECT_EQ(store->stats().errors[static_cast<size_t>(RemoteError::kConnection)], errors);

  store->pool().Tend();  // too early
  EXPECT_EQ(store->stats().breaker_trials, 0);
  clock_.Advance(absl::Seconds(1));
  store->pool().Tend();
  EXPECT_EQ(store->stats().breaker_trials, 1);
  EXPECT_EQ(store->stats().breaker_state, 2);
  server.Start();
  clock_.Advance(absl::Seconds(10));
  store->pool().Tend();
  EXPECT_EQ(store->stats().breaker_state, 0);
  EXPECT_THAT(said().back(), HasSubstr("answers again"));
  EXPECT_TRUE(absl::IsNotFound(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes)))
      << "it has forgotten everything";
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  EXPECT_THAT(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes), IsOk());
}

TEST_F(RemoteStoreTest, ARestartBetweenTwoCallsIsNoFailure) {
  RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 4);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  server.Kill();
  server.Start();
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  EXPECT_EQ(store->stats().errors, (std::array<int64_t, kRemoteErrorCount>{}));
}

TEST_F(RemoteStoreTest, AServerThatHangsCostsATimeoutPerCallUntilTheBreakerOpens) {
  RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 4);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  server.Stop();
  const absl::Time start = absl::Now();
  std::vector<std::byte> bytes;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes)));
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_EQ(store->stats().breaker_state, 2);
  EXPECT_EQ(store->stats().errors[static_cast<size_t>(RemoteError::kTimeout)], 3);
  server.Continue();
  clock_.Advance(absl::Seconds(10));
  store->pool().Tend();
  EXPECT_EQ(store->stats().breaker_state, 0);
  EXPECT_THAT(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes), IsOk());
  EXPECT_EQ(bytes, blocks[0].bytes);
}

TEST_F(RemoteStoreTest, KilledInTheMiddleOfManyLoadsWhatArrivedIsRightAndTheRestFails) {
  RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 100);
  const auto store = Open(server);
  LinkWorld world(*store, 200);
  ASSERT_THAT(world.Spill(0, blocks, 0, 0).status, IsOk());
  world.ClearHost();
  for (int64_t i = 1; i <= 20; ++i) world.StartStage(i, blocks, 0, 100);
  server.Kill();
  for (const CopyResult& staged : world.Take(20)) {
    const std::set<int32_t> failed(staged.failed.begin(), staged.failed.end());
    EXPECT_EQ(staged.corrupt, 0);
    EXPECT_EQ(staged.status.ok(), failed.empty());
  }
  EXPECT_EQ(store->stats().breaker_state, 2);
}

TEST_F(RemoteStoreTest, AFullServerRefusesWritesAndIsReadOn) {
  const RedisServer server({"--maxmemory", "3mb", "--maxmemory-policy", "noeviction"});
  const auto store = Open(server);
  const std::vector<TestBlock> blocks = MakePrompt(1, 160);
  LinkWorld world(*store, 320);
  const CopyResult spilled = world.Spill(1, blocks, 0, 0);
  EXPECT_TRUE(absl::IsResourceExhausted(spilled.status)) << spilled.status;
  EXPECT_THAT(std::string(spilled.status.message()), HasSubstr("maxmemory-policy"));
  ASSERT_FALSE(spilled.failed.empty());
  ASSERT_LT(spilled.failed.size(), blocks.size());
  const CopyResult staged = world.Stage(2, blocks, 0, 160);
  EXPECT_EQ(staged.failed, spilled.failed);
  EXPECT_EQ(store->stats().breaker_state, 0);
  EXPECT_EQ(store->stats().errors[static_cast<size_t>(RemoteError::kFull)],
            static_cast<int64_t>(spilled.failed.size()));
  EXPECT_THAT(world.complaints(), Contains(HasSubstr("remote KV tier: cannot write")));
}

TEST_F(RemoteStoreTest, AnswersToOneCommandDoNotOpenTheBreakerThoseToAllDo) {
  const RedisServer server;
  const auto store = Open(server);
  const std::vector<TestBlock> blocks = MakePrompt(1, 2);
  ASSERT_THAT(WriteAll(*store, blocks), IsOk());
  const auto redis = server.Connect();
  ASSERT_THAT(redis->Call({"REPLICAOF", "127.0.0.1", "1"}), IsOk());  // of nobody: read-only
  for (uint64_t i = 2; i < 10; ++i) {
    EXPECT_TRUE(absl::IsPermissionDenied(WriteAll(*store, MakePrompt(i, 1), 5)));
  }
  EXPECT_EQ(store->stats().breaker_state, 0);
  EXPECT_EQ(store->stats().errors[static_cast<size_t>(RemoteError::kRefused)], 8);
  std::vector<std::byte> bytes;
  EXPECT_THAT(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes), IsOk());
  ASSERT_THAT(redis->Call({"CONFIG", "SET", "replica-serve-stale-data", "no"}), IsOk());
  for (int i = 0; i < 3; ++i) {  // MASTERDOWN
    EXPECT_TRUE(absl::IsUnavailable(ReadBack(*store, BlockId(0), blocks[0].identity, &bytes)));
  }
  EXPECT_EQ(store->stats().breaker_state, 2);
}

TEST_F(RemoteStoreTest, AServerThatIsNotThereAtTheStartIsFoundLater) {
  RedisServer server;
  server.Kill();
  const auto store = Open(server);
  EXPECT_FALSE(store->pool().Start().ok());
  EXPECT_EQ(store->stats().breaker_state, 2);
  server.Start();
  RemoteLookup lookup(*store, clock_.function());  // its thread makes the trial
  clock_.Advance(absl::Seconds(10));
  WaitUntilSaid("answers again");
  EXPECT_TRUE(store->pool().closed());
}

// ---- Passwords -------------------------------------------------------------------------------

class RemotePasswordTest : public RemoteStoreTest {
 protected:
  static void Put(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
  }
};

TEST_F(RemotePasswordTest, TheRightOneIsTakenFromTheFile) {
  const RedisServer server({"--requirepass", "open sesame"});
  Put(server.path("password"), "open sesame\n");
  RemoteStoreOptions options = Options(server);
  options.pool.password_file = server.path("password");
  const auto store = *RemoteStore::Create(std::move(options));
  EXPECT_THAT(store->pool().Start(), IsOk());
  EXPECT_THAT(WriteAll(*store, MakePrompt(1, 2)), IsOk());
}

TEST_F(RemotePasswordTest, WrongMissingAndUnreadableOnesAreTold) {
  const RedisServer server({"--requirepass", "right"});
  EXPECT_TRUE(absl::IsPermissionDenied(Open(server)->pool().Start()));
  const std::string file = server.path("password");
  for (const auto& [content, code] : {std::pair{"wrong\n", absl::StatusCode::kPermissionDenied},
                                      std::pair{"\nright\n", absl::StatusCode::kNotFound}}) {
    Put(file, content);
    RemoteStoreOptions options = Options(server);
    options.pool.password_file = file;
    const auto store = *RemoteStore::Create(std::move(options));
    const absl::Status status = store->pool().Start();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::Not(HasSubstr("right")));
    EXPECT_EQ(store->stats().breaker_state, 2);
  }
  RemoteStoreOptions options = Options(server);
  options.pool.password_file = "/nowhere/password";
  EXPECT_THAT(std::string((*RemoteStore::Create(std::move(options)))->pool().Start().message()),
              HasSubstr("/nowhere/password"));
}

TEST_F(RemotePasswordTest, AChangedPasswordIsReadAgain) {
  const RedisServer server({"--requirepass", "one"});
  const std::string file = server.path("password");
  Put(file, "one\n");
  RemoteStoreOptions options = Options(server);
  options.pool.password_file = file;
  const auto store = *RemoteStore::Create(std::move(options));
  ASSERT_THAT(store->pool().Start(), IsOk());
  const auto redis = server.Connect("one");
  ASSERT_THAT(redis->Call({"CONFIG", "SET", "requirepass", "two"}), IsOk());
  Put(file, "two\n");
  ASSERT_THAT(redis->Call({"CLIENT", "KILL", "TYPE", "normal"}), IsOk());
  EXPECT_THAT(WriteAll(*store, MakePrompt(1, 2)), IsOk());
}

TEST_F(RemotePasswordTest, UsersAndDatabasesAreChosen) {
  const RedisServer server(
      {"--user", "alice", "on", ">wonder", "~sluice:*", "+@all", "--user", "default", "off"});
  Put(server.path("password"), "wonder");
  RemoteStoreOptions options = Options(server);
  options.pool.address.user = "alice";
  options.pool.address.db = 3;
  options.pool.password_file = server.path("password");
  const auto store = *RemoteStore::Create(std::move(options));
  ASSERT_THAT(store->pool().Start(), IsOk());
  EXPECT_THAT(WriteAll(*store, MakePrompt(1, 2)), IsOk());
}

// ---- Look-ups and measurements ---------------------------------------------------------------

TEST_F(RemoteStoreTest, LookupsAreAnsweredOnAThreadOfTheirOwn) {
  const RedisServer server;
  const std::vector<TestBlock> blocks = MakePrompt(1, 10);
  const auto store = Open(server);
  ASSERT_THAT(WriteAll(*store, {blocks.begin(), blocks.begin() + 6}), IsOk());
  std::mutex mu;
  std::condition_variable answered;
  std::vector<size_t> answers;
  RemoteLookup lookup(*store, clock_.function());
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(lookup.Ask(Names(blocks), [&](size_t found) {
      std::lock_guard<std::mutex> lock(mu);
      answers.push_back(found);
      answered.notify_all();
    }));
  }
  std::unique_lock<std::mutex> lock(mu);
  answered.wait(lock, [&] { return answers.size() == 5; });
  EXPECT_EQ(answers, (std::vector<size_t>{6, 6, 6, 6, 6}));
}

TEST_F(RemoteStoreTest, LookupsOfAServerThatIsAwayAreRefusedAtOnce) {
  RedisServer server;
  const auto store = Open(server);
  server.Kill();
  EXPECT_FALSE(store->pool().Start().ok());
  RemoteLookup lookup(*store, clock_.function());
  EXPECT_FALSE(lookup.Ask(Names(MakePrompt(1, 2)), [](size_t) { ADD_FAILURE(); }));
}

TEST_F(RemoteStoreTest, ProbesMeasureAndLeaveNothingBehind) {
  const RedisServer server;
  const auto store = Open(server);
  const absl::StatusOr<RemoteRates> rates =
      ProbeRemote(*store, absl::Milliseconds(20), [] { return absl::Now(); });
  ASSERT_THAT(rates, IsOk());
  EXPECT_GT(rates->read, absl::ZeroDuration());
  EXPECT_GT(rates->write, absl::ZeroDuration());
  EXPECT_GT(rates->latency, absl::ZeroDuration());
  EXPECT_EQ(rates->value, store->value_bytes());
  EXPECT_EQ(server.Connect()->Call({"DBSIZE"})->integer, 0);
}

}  // namespace
}  // namespace sluice::testing
