// What the gateway services are made of: traceparent, the tokenizer's archive, KV event messages.
#include <zlib.h>

#include <array>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/grpc/kv_event_messages.h"
#include "service/grpc/tokenizer_zip.h"
#include "service/grpc/trace_parent.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// ---- traceparent -----------------------------------------------------------------------------

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(TraceParentTest, ReadsAHeader) {
  const auto trace = ParseTraceParent(kTrace);
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->trace_id, "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(trace->parent_id, "b7ad6b7169203331");
  EXPECT_TRUE(trace->sampled);
  EXPECT_FALSE(
      ParseTraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")->sampled);
  // A later version may append.
  EXPECT_TRUE(ParseTraceParent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"));
}

TEST(TraceParentTest, RefusesEverythingElse) {
  const std::string good = kTrace;
  for (const std::string& bad :
       {std::string(), good.substr(1), good + "-x", std::string(1 << 20, 'a'),
        "ff" + good.substr(2), "00-" + std::string(32, '0') + good.substr(35),
        good.substr(0, 36) + std::string(16, '0') + "-01",
        std::string("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
        std::string("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        "01" + good.substr(2) + "x"}) {
    EXPECT_FALSE(ParseTraceParent(bad).has_value()) << bad.substr(0, 80);
  }
}

// ---- The tokenizer's archive -----------------------------------------------------------------

uint32_t Get(const std::string& bytes, size_t at, int width) {
  uint32_t value = 0;
  for (int i = width; i-- > 0;) {
    value = (value << 8) | static_cast<unsigned char>(bytes[at + static_cast<size_t>(i)]);
  }
  return value;
}

// Reads a stored archive by its central directory, and checks every sum on the way.
std::map<std::string, std::string> Unzip(const std::string& zip) {
  std::map<std::string, std::string> files;
  const size_t end = zip.size() - 22;
  EXPECT_EQ(Get(zip, end, 4), 0x06054b50U);
  size_t at = Get(zip, end + 16, 4);
  EXPECT_EQ(at + Get(zip, end + 12, 4), end);
  for (uint32_t i = 0; i < Get(zip, end + 10, 2); ++i) {
    EXPECT_EQ(Get(zip, at, 4), 0x02014b50U);
    const uint32_t crc = Get(zip, at + 16, 4);
    const uint32_t size = Get(zip, at + 20, 4);
    const uint32_t name_size = Get(zip, at + 28, 2);
    const size_t local = Get(zip, at + 42, 4);
    const std::string name = zip.substr(at + 46, name_size);
    EXPECT_EQ(Get(zip, local, 4), 0x04034b50U);
    EXPECT_EQ(zip.substr(local + 4, 26), zip.substr(at + 6, 26));
    EXPECT_EQ(zip.substr(local + 30, name_size), name);
    files[name] = zip.substr(local + 30 + name_size, size);
    EXPECT_EQ(crc32(0, reinterpret_cast<const Bytef*>(files[name].data()), size), crc);
    at += 46 + name_size;
  }
  EXPECT_EQ(at, end);
  return files;
}

TEST(TokenizerZipTest, HoldsTheFilesByteForByte) {
  const std::string binary("\0\xff\n", 3);
  const auto files = Unzip(MakeStoredZip({{"a.json", "{}"}, {"b", binary}, {"empty", ""}}));
  EXPECT_EQ(files,
            (std::map<std::string, std::string>{{"a.json", "{}"}, {"b", binary}, {"empty", ""}}));
  EXPECT_TRUE(Unzip(MakeStoredZip({})).empty());
}

TEST(TokenizerZipTest, DigestIsSha256) {
  EXPECT_EQ(Sha256Hex("abc"),  // FIPS 180-4, example
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(TokenizerZipTest, TakesTokenizerFilesAndNothingElse) {
  const testing::TempDir dir;
  const auto write = [&dir](const std::string& name, const std::string& text) {
    std::ofstream(dir.path() + "/" + name, std::ios::binary) << text;
  };
  const auto none = ReadTokenizerFiles(dir.path());
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("has no tokenizer files"));
  write("model.safetensors", "weights");
  write("tokenizer.json", "{1}");
  write("config.json", "{2}");
  write("chat_template_tool.jinja", "{3}");
  write("secret.txt", "x");
  EXPECT_THAT(*ReadTokenizerFiles(dir.path()),
              ElementsAre(NamedFile("chat_template_tool.jinja", "{3}"),
                          NamedFile("config.json", "{2}"), NamedFile("tokenizer.json", "{1}")));
}

// ---- KV events -------------------------------------------------------------------------------

void Store(uint64_t block, std::optional<uint64_t> parent, KvEvents* events) {
  const std::array<TokenId, 2> tokens = {static_cast<TokenId>(block), 1000};
  events->AddStored(block, parent, 0, tokens);
}

TEST(KvEventMessagesTest, NeighboursShareAnEvent) {
  KvEventBatch batch{17, absl::UnixEpoch() + absl::Milliseconds(1500), KvEvents(Tokens(2)), false};
  Store(1, std::nullopt, &batch.events);
  Store(2, 1, &batch.events);
  Store(~uint64_t{0}, 1, &batch.events);
  batch.events.AddRemoved(2, 0);
  batch.events.AddRemoved(1, 0);
  Store(3, std::nullopt, &batch.events);
  const auto message = MakeKvEventBatch(batch);
  EXPECT_EQ(message.sequence_number(), 17U);
  EXPECT_EQ(message.timestamp(), 1.5);
  ASSERT_EQ(message.events_size(), 4);
  ASSERT_EQ(message.events(0).stored().blocks_size(), 2);
  EXPECT_FALSE(message.events(0).stored().has_parent_block_hash());
  EXPECT_THAT(message.events(0).stored().blocks(1).token_ids(), ElementsAre(2, 1000));
  EXPECT_EQ(message.events(0).stored().blocks(1).block_size(), 2);
  EXPECT_EQ(message.events(1).stored().parent_block_hash(), 1);
  EXPECT_EQ(message.events(1).stored().blocks(0).block_hash(), -1);
  EXPECT_THAT(message.events(2).removed().block_hashes(), ElementsAre(2, 1));
  EXPECT_FALSE(message.events(3).stored().has_parent_block_hash());
  EXPECT_EQ(message.events(3).event_id(), 4U);
}

TEST(KvEventMessagesTest, SnapshotsNameParentsBeforeChildren) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::mt19937_64 rng(seed);
    const size_t count = rng() % 60;
    std::vector<size_t> shuffled(count);
    for (size_t i = 0; i < count; ++i) shuffled[i] = i;
    std::shuffle(shuffled.begin(), shuffled.end(), rng);
    std::vector<std::optional<uint64_t>> parents;  // of block i: an earlier one, or a missing one
    for (size_t i = 0; i < count; ++i) {
      const uint64_t draw = rng() % (i + 2);
      parents.push_back(draw < i    ? std::optional<uint64_t>(draw)
                        : draw == i ? std::nullopt
                                    : std::optional<uint64_t>(1u << 30));
    }
    KvSnapshot snapshot{KvEvents(Tokens(2)), absl::UnixEpoch(), 5, (count + 6) / 7};
    for (const size_t i : shuffled) Store(i, parents[i], &snapshot.blocks);
    const std::vector<size_t> order = ParentsFirst(snapshot.blocks);
    std::set<int64_t> seen;
    for (uint64_t b = 0; b < snapshot.batches; ++b) {
      const auto message = MakeSnapshotBatch(snapshot, order, b, 7);
      EXPECT_EQ(message.sequence_number(), 5 + b);
      EXPECT_EQ(message.events(0).has_cleared(), b == 0);
      for (const auto& event : message.events()) {
        std::optional<int64_t> parent;
        if (event.stored().has_parent_block_hash()) parent = event.stored().parent_block_hash();
        for (const auto& block : event.stored().blocks()) {
          const auto id = static_cast<size_t>(block.block_hash());
          ASSERT_EQ(parent, parents[id].has_value()
                                ? std::optional<int64_t>(static_cast<int64_t>(*parents[id]))
                                : std::nullopt)
              << "seed " << seed;
          if (parent.has_value() && *parent < 60) {
            EXPECT_EQ(seen.count(*parent), 1U) << "seed " << seed;
          }
          EXPECT_TRUE(seen.insert(block.block_hash()).second) << "seed " << seed;
          parent = block.block_hash();
        }
      }
    }
    EXPECT_EQ(seen.size(), count) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sluice
