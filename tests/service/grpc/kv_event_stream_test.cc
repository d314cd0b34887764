// SubscribeKvEvents through a real server and a real client that keeps an index, as a gateway does.
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/grpc/test_server.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace sluice {
namespace {

namespace common = smg::grpc::common;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::PlainRequest;
using testing::TestServer;
using testing::TestServerOptions;
using vllm::grpc::engine::VllmEngine;

constexpr size_t kBlock = 16;  // tokens

TestServerOptions Options(int64_t capacity = 10000) {
  TestServerOptions options;
  options.scheduler.kv_events = true;
  options.engine.kv_event_capacity = capacity;
  return options;
}

// A prompt of `blocks` full blocks and a bit, unlike those of other names.
std::string Prompt(char name, size_t blocks) { return std::string(blocks * kBlock + 2, name); }

// One subscription, and what it has told.
class Index {
 public:
  explicit Index(TestServer& server, uint64_t start = 0,
                 const grpc::ChannelArguments& arguments = {})
      : stub_(VllmEngine::NewStub(server.NewChannel(arguments))) {
    common::SubscribeKvEventsRequest request;
    request.set_start_sequence_number(start);
    reader_ = stub_->SubscribeKvEvents(&context_, request);
  }
  ~Index() {
    context_.TryCancel();
    common::KvEventBatch batch;
    while (!finished_ && reader_->Read(&batch)) {
    }
    if (!finished_) reader_->Finish();
  }

  void WaitForMetadata() { reader_->WaitForInitialMetadata(); }

  // Reads one batch. False at the end of the stream.
  bool ReadOne() {
    common::KvEventBatch batch;
    if (!reader_->Read(&batch)) return false;
    if (last_ > 0) {
      EXPECT_EQ(batch.sequence_number(), last_ + 1);
    }
    last_ = batch.sequence_number();
    for (const auto& event : batch.events()) {
      if (event.has_cleared()) blocks_.clear();
      for (const auto& block : event.stored().blocks()) {
        EXPECT_EQ(block.token_ids_size(), static_cast<int>(kBlock));
        EXPECT_EQ(block.block_size(), static_cast<int32_t>(kBlock));
        EXPECT_TRUE(blocks_.insert(block.block_hash()).second);
      }
      for (const int64_t block : event.removed().block_hashes()) {
        EXPECT_EQ(blocks_.erase(block), 1U);
      }
    }
    return true;
  }
  // Until there are `count` blocks.
  void ReadUntil(size_t count) {
    while (blocks_.size() != count && ReadOne()) {
    }
  }
  grpc::Status Finish() {
    finished_ = true;
    return reader_->Finish();
  }

  const std::set<int64_t>& blocks() const { return blocks_; }
  uint64_t last() const { return last_; }

 private:
  std::unique_ptr<VllmEngine::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<common::KvEventBatch>> reader_;
  std::set<int64_t> blocks_;
  uint64_t last_ = 0;
  bool finished_ = false;
};

void RunPrompt(TestServer& server, const std::string& prompt, const std::string& salt = "") {
  v1::GenerateRequest request = PlainRequest(prompt, 1);
  request.mutable_scheduling()->set_cache_salt(salt);
  EXPECT_TRUE(server.Generate(request).status.ok());
}

TEST(KvEventStreamTest, InitialMetadataComesWithoutAnyEvent) {
  TestServer server(Options());
  Index index(server);
  index.WaitForMetadata();  // would never end otherwise
}

TEST(KvEventStreamTest, ASubscriberHearsOfBlocksAsTheyCome) {
  TestServer server(Options());
  Index index(server);
  index.WaitForMetadata();
  RunPrompt(server, Prompt('a', 3));
  index.ReadUntil(3);
  EXPECT_EQ(index.last(), 1U);        // the first number
  RunPrompt(server, Prompt('a', 5));  // goes on where the other ended
  index.ReadUntil(5);
  EXPECT_EQ(index.blocks().size(), 5U);
}

TEST(KvEventStreamTest, ALateSubscriberGetsASnapshotAndTheSameNames) {
  TestServer server(Options());
  Index early(server);
  early.WaitForMetadata();
  RunPrompt(server, Prompt('a', 3));
  RunPrompt(server, Prompt('b', 2));
  early.ReadUntil(5);
  Index late(server);
  late.ReadUntil(5);
  EXPECT_EQ(late.blocks(), early.blocks());
  RunPrompt(server, Prompt('c', 1));
  late.ReadUntil(6);
  early.ReadUntil(6);
  EXPECT_EQ(late.blocks(), early.blocks());
  EXPECT_EQ(late.last(), early.last());
}

TEST(KvEventStreamTest, BlocksUnderASaltAreNotTold) {
  TestServer server(Options());
  Index index(server);
  index.WaitForMetadata();
  RunPrompt(server, Prompt('a', 3), "tenant 1");
  RunPrompt(server, Prompt('b', 2));
  index.ReadUntil(2);
  Index late(server);
  late.ReadUntil(2);
  EXPECT_EQ(late.blocks(), index.blocks());
}

TEST(KvEventStreamTest, EvictionFromTheLastTierIsRemovalAndMovingToTheHostIsNot) {
  TestServerOptions options = Options();
  options.scheduler.device_blocks = Blocks(8);
  options.scheduler.host_blocks = Blocks(8);
  options.scheduler.max_model_len = Tokens(8 * static_cast<int64_t>(kBlock));
  TestServer server(options);
  Index index(server);
  index.WaitForMetadata();
  std::set<int64_t> first;
  for (const char name : {'a', 'b', 'c', 'd', 'e', 'f'}) {
    RunPrompt(server, Prompt(name, 4));
    if (name == 'a') {
      index.ReadUntil(4);
      first = index.blocks();
    }
    if (name == 'b') {  // 'a' has left the device, or is about to: it is on the host
      index.ReadUntil(8);
      for (const int64_t block : first) EXPECT_EQ(index.blocks().count(block), 1U);
    }
  }
  // 24 blocks were stored, there is room for 16.
  while (index.blocks().count(*first.begin()) > 0 && index.ReadOne()) {
  }
  EXPECT_EQ(index.blocks().count(*first.begin()), 0U);
  const Index late(server);
}

TEST(KvEventStreamTest, ResumesAfterANumberWithoutASnapshot) {
  TestServer server(Options());
  uint64_t last = 0;
  {
    Index index(server);
    index.WaitForMetadata();
    RunPrompt(server, Prompt('a', 3));
    index.ReadUntil(3);
    last = index.last();
  }
  RunPrompt(server, Prompt('b', 2));
  Index resumed(server, last);
  resumed.ReadUntil(2);
  EXPECT_EQ(resumed.blocks().size(), 2U);  // only what is new
  EXPECT_EQ(resumed.last(), last + 1);
}

TEST(KvEventStreamTest, ANumberThatNeverWasIsOutOfRange) {
  TestServer server(Options());
  Index index(server, 1000);  // of a server before this one
  EXPECT_FALSE(index.ReadOne());
  const grpc::Status status = index.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(status.error_message(), HasSubstr("start at 0"));
}

TEST(KvEventStreamTest, ANumberTooOldIsOutOfRange) {
  TestServer server(Options(/*capacity=*/4));
  for (const char name : {'a', 'b', 'c', 'd'}) RunPrompt(server, Prompt(name, 3));
  Index index(server, 1);
  EXPECT_FALSE(index.ReadOne());
  EXPECT_EQ(index.Finish().error_code(), grpc::StatusCode::OUT_OF_RANGE);
}

TEST(KvEventStreamTest, WhoReadsTooSlowlyIsDroppedAndNobodyWaits) {
  TestServerOptions options = Options(/*capacity=*/40);
  options.scheduler.max_model_len = Tokens(20000);
  options.scheduler.device_blocks = Blocks(4096);
  options.scheduler.step_token_limit = Tokens(4096);
  TestServer server(options);
  // A window that does not grow: the server notices soon that nobody reads.
  grpc::ChannelArguments small;
  small.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  small.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 15U);
  Index slow(server, 0, small);
  slow.WaitForMetadata();
  // More than the connection's buffers hold.
  for (int i = 0; i < 60; ++i) {
    v1::GenerateRequest request = PlainRequest("", 1);
    for (uint32_t t = 0; t < 16000; ++t) {
      request.mutable_token_ids()->add_ids((static_cast<uint32_t>(i) * 7919 + t * (1 + t % 7)) %
                                           256);
    }
    ASSERT_TRUE(server.Generate(request).status.ok());
  }
  while (slow.ReadOne()) {
  }
  const grpc::Status status = slow.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(status.error_message(), HasSubstr("dropped before they were read"));
}

TEST(KvEventStreamTest, WithoutEventsItIsUnimplemented) {
  TestServer server;
  Index index(server);
  EXPECT_FALSE(index.ReadOne());
  EXPECT_EQ(index.Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST(KvEventStreamTest, ShutdownEndsSubscriptionsAtOnce) {
  auto server = std::make_unique<TestServer>(Options());
  Index index(*server);
  index.WaitForMetadata();
  const absl::Time start = absl::Now();
  server->server().Shutdown(absl::Seconds(60));
  EXPECT_FALSE(index.ReadOne());
  EXPECT_EQ(index.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
}

}  // namespace
}  // namespace sluice
