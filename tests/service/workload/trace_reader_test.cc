#include "service/workload/trace_reader.h"

#include <zlib.h>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::sluice::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Two sessions, one with a branch of its own; trees "a" (crc32 share 0.909) and "b" (0.444).
constexpr char kSessions[] = R"(
{"arrival_ms":1000,"input_tokens":100,"output_tokens":7,"session":"a","turn":0,"block_tokens":16,"shared_prefix_tokens":0,"ref":null,"think_ms":4}
{"arrival_ms":2000,"input_tokens":150,"output_tokens":30,"session":"a","turn":1,"block_tokens":16,"shared_prefix_tokens":96,"ref":0}
{"arrival_ms":2500,"input_tokens":40,"output_tokens":5,"session":"b","turn":0,"block_tokens":16,"shared_prefix_tokens":0,"ref":null}
{"arrival_ms":3000,"input_tokens":80,"output_tokens":9,"session":"a/x","turn":0,"block_tokens":16,"shared_prefix_tokens":72,"ref":1}
{"arrival_ms":4000,"input_tokens":200,"output_tokens":3,"session":"a","turn":2,"block_tokens":16,"shared_prefix_tokens":144,"ref":1}
)";

constexpr char kBlocks[] =
    R"({"arrival_ms":0,"input_tokens":10,"output_tokens":1,"block_tokens":4,"block_hashes":[0,1,2]}
{"arrival_ms":5,"input_tokens":10,"output_tokens":1,"block_tokens":4,"block_hashes":[0,1,2]}
{"arrival_ms":6,"input_tokens":12,"output_tokens":0,"block_tokens":4,"block_hashes":[0,1,3]}
{"arrival_ms":7,"input_tokens":8,"output_tokens":1,"block_tokens":4,"block_hashes":[0,9],"tenant":2,"priority":-1}
{"arrival_ms":9,"input_tokens":3,"output_tokens":1,"block_tokens":4,"block_hashes":[18446744073709551615]})";

class TraceReaderTest : public ::testing::Test {
 protected:
  absl::StatusOr<Trace> Read(const std::string& text, const TraceOptions& options = {}) {
    return ReadTrace(dir_.Write("t.jsonl", text), options);
  }
  std::vector<TraceRequest> Requests(const std::string& text, const TraceOptions& options = {}) {
    const absl::StatusOr<Trace> trace = Read(text, options);
    EXPECT_THAT(trace, IsOk());
    return trace.ok() ? trace->requests : std::vector<TraceRequest>();
  }
  // "input/output" of each.
  static std::string Lengths(const std::vector<TraceRequest>& requests) {
    std::string text;
    for (const TraceRequest& r : requests) {
      text += std::to_string(r.input().value()) + "/" + std::to_string(r.output.value()) + " ";
    }
    return text;
  }

  const TempDir dir_;
};

int64_t Common(const TraceRequest& a, const TraceRequest& b) {
  return CommonPrefix(a.prompt, b.prompt).value();
}

TEST_F(TraceReaderTest, SessionFormSharesWithTheLineItRefersTo) {
  const std::vector<TraceRequest> r = Requests(kSessions);
  ASSERT_EQ(r.size(), 5U);
  EXPECT_EQ(Lengths(r), "100/7 150/30 40/5 80/9 200/3 ");
  EXPECT_EQ(Common(r[0], r[1]), 96);
  EXPECT_EQ(Common(r[0], r[2]), 0);
  EXPECT_EQ(Common(r[1], r[3]), 72);
  EXPECT_EQ(Common(r[0], r[3]), 72);  // by way of line 1
  EXPECT_EQ(Common(r[1], r[4]), 144);
  EXPECT_EQ(Common(r[0], r[4]), 96);
  EXPECT_EQ(r[0].session, r[4].session);
  EXPECT_NE(r[0].session, r[3].session);
  EXPECT_EQ(r[4].turn, 2);
  EXPECT_EQ(r[4].block_tokens, Tokens(16));
  EXPECT_FALSE(r[4].names_partial_block);
}

TEST_F(TraceReaderTest, BlockFormSharesWhereIdsAreEqual) {
  const std::vector<TraceRequest> r = Requests(kBlocks);
  ASSERT_EQ(r.size(), 5U);
  EXPECT_EQ(Lengths(r), "10/1 10/1 12/1 8/1 3/1 ");  // no output in the file is 1
  EXPECT_EQ(r[0].prompt, r[1].prompt);
  EXPECT_EQ(Common(r[0], r[2]), 8);
  EXPECT_EQ(Common(r[0], r[3]), 4);
  EXPECT_EQ(Common(r[0], r[4]), 0);
  EXPECT_EQ(r[0].prompt.segments().size(), 1U);  // neighbouring ids are one segment
  EXPECT_TRUE(r[0].names_partial_block);
  EXPECT_EQ(r[3].tenant, 2);
  EXPECT_EQ(r[3].priority, -1);
}

TEST_F(TraceReaderTest, PromptsThatIdsDoNotCoverEndWithTextOfTheirOwn) {
  const std::string line =
      R"({"arrival_ms":0,"input_tokens":10,"output_tokens":1,"block_tokens":4,"block_hashes":[5]})";
  const std::vector<TraceRequest> r = Requests(line + "\n" + line + "\n");
  ASSERT_EQ(r.size(), 2U);
  EXPECT_EQ(r[0].input(), Tokens(10));
  EXPECT_EQ(Common(r[0], r[1]), 4);
}

TEST_F(TraceReaderTest, PlainFormSharesNothing) {
  const std::string line = R"({"arrival_ms":3,"input_tokens":10,"output_tokens":1})";
  const std::vector<TraceRequest> r = Requests(line + "\n\n" + line);
  ASSERT_EQ(r.size(), 2U);
  EXPECT_EQ(Common(r[0], r[1]), 0);
  EXPECT_EQ(r[0].block_tokens, Tokens(0));
  EXPECT_EQ(r[0].session, -1);
}

TEST_F(TraceReaderTest, ScaleDividesLengthsAndSharing) {
  const std::vector<TraceRequest> sessions = Requests(kSessions, {.scale = 4});
  EXPECT_EQ(Lengths(sessions), "25/1 37/7 10/1 20/2 50/1 ");
  EXPECT_EQ(Common(sessions[0], sessions[1]), 24);
  EXPECT_EQ(Common(sessions[1], sessions[3]), 18);
  EXPECT_EQ(Common(sessions[1], sessions[4]), 36);
  EXPECT_EQ(sessions[0].block_tokens, Tokens(4));
  const std::vector<TraceRequest> blocks = Requests(kBlocks, {.scale = 2});
  EXPECT_EQ(Lengths(blocks), "5/1 5/1 6/1 4/1 1/1 ");
  EXPECT_EQ(Common(blocks[0], blocks[2]), 4);
  EXPECT_EQ(Lengths(Requests(kSessions, {.scale = 4, .output_scale = 3})),
            "25/2 37/10 10/1 20/3 50/1 ");
}

TEST_F(TraceReaderTest, RequestsThatAreLeftOutCanStillBeReferredTo) {
  const absl::StatusOr<Trace> trace = Read(kSessions, {.max_input = Tokens(120)});
  ASSERT_THAT(trace, IsOk());
  EXPECT_EQ(Lengths(trace->requests), "100/7 40/5 80/9 ");
  EXPECT_EQ(Common(trace->requests[0], trace->requests[2]), 72);
  EXPECT_EQ(trace->left_out_too_long, 2);
  EXPECT_EQ(trace->left_out_trees, 0);
}

TEST_F(TraceReaderTest, KeepTakesWholeTrees) {
  const absl::StatusOr<Trace> half = Read(kSessions, {.keep = 0.5});
  ASSERT_THAT(half, IsOk());
  EXPECT_EQ(Lengths(half->requests), "40/5 ");
  EXPECT_EQ(half->left_out_trees, 4);
  EXPECT_EQ(Lengths(Requests(kSessions, {.keep = 0.4})), "");
  EXPECT_EQ(Requests(kSessions, {.keep = 0.91}).size(), 5U);
  // Trees of the block form: b1 0.2805, b9 0.2855, b18446744073709551615 0.4639.
  EXPECT_EQ(Requests(kBlocks, {.keep = 0.28}).size(), 0U);
  EXPECT_EQ(Requests(kBlocks, {.keep = 0.281}).size(), 3U);
  EXPECT_EQ(Requests(kBlocks, {.keep = 0.29}).size(), 4U);
  EXPECT_EQ(Requests(kBlocks, {.keep = 0.47}).size(), 5U);
}

TEST_F(TraceReaderTest, TimeIsScaledCutAndShifted) {
  const auto arrivals = [this](const TraceOptions& options) {
    std::vector<int64_t> ms;
    for (const TraceRequest& r : Requests(kSessions, options)) {
      ms.push_back(absl::ToInt64Milliseconds(r.arrival));
    }
    return ms;
  };
  using Ms = std::vector<int64_t>;
  EXPECT_EQ(arrivals({}), (Ms{0, 1000, 1500, 2000, 3000}));
  EXPECT_EQ(arrivals({.start_at_zero = false}), (Ms{1000, 2000, 2500, 3000, 4000}));
  EXPECT_EQ(arrivals({.rate_scale = 3, .start_at_zero = false}), (Ms{333, 666, 833, 1000, 1333}));
  EXPECT_EQ(arrivals({.time_limit = absl::Milliseconds(2500)}), (Ms{0, 1000, 1500}));
  EXPECT_EQ(arrivals({.rate_scale = 2, .time_limit = absl::Milliseconds(1499)}), (Ms{0, 500, 750}));
  EXPECT_EQ(arrivals({.max_requests = 2}), (Ms{0, 1000}));
  // The first one that is kept comes at 0.
  EXPECT_EQ(arrivals({.max_input = Tokens(90)}), (Ms{0, 500}));
}

TEST_F(TraceReaderTest, GzipGivesTheSameAsPlainText) {
  const std::string path = dir_.File("t.jsonl.gz");
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  gzwrite(file, kSessions, sizeof(kSessions) - 1);
  gzclose(file);
  const absl::StatusOr<Trace> trace = ReadTrace(path, {});
  ASSERT_THAT(trace, IsOk());
  EXPECT_EQ(trace->requests, Requests(kSessions));
}

TEST_F(TraceReaderTest, DamagedGzipIsDataLoss) {
  std::string big;
  for (int i = 0; i < 5000; ++i) {
    big += "{\"arrival_ms\":" + std::to_string(i) +
           ",\"input_tokens\":" + std::to_string(1 + i * 7919 % 1000) + ",\"output_tokens\":1}\n";
  }
  const std::string path = dir_.File("t.jsonl.gz");
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  gzwrite(file, big.data(), static_cast<unsigned>(big.size()));
  gzclose(file);
  const std::string bytes = dir_.Read("t.jsonl.gz");
  const std::string cut = dir_.Write("cut.jsonl.gz", bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(ReadTrace(cut, {}), StatusIs(absl::StatusCode::kDataLoss,
                                           AllOf(HasSubstr("cut.jsonl.gz"), HasSubstr("line "))));
  std::string wrong = bytes;
  wrong[bytes.size() / 2] = static_cast<char>(wrong[bytes.size() / 2] ^ 0x55);
  EXPECT_FALSE(ReadTrace(dir_.Write("wrong.jsonl.gz", wrong), {}).ok());
}

TEST_F(TraceReaderTest, AMissingFileIsNotFound) {
  EXPECT_THAT(ReadTrace(dir_.File("no.jsonl"), {}),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("no.jsonl: cannot be read"), HasSubstr("No such file"))));
  EXPECT_THAT(ReadTrace(dir_.path(), {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is a directory")));
}

struct BadLine {
  const char* name;
  const char* line;
  const char* message;
};

class BadTraceLineTest : public ::testing::TestWithParam<BadLine> {};

TEST_P(BadTraceLineTest, NamesFileLineKeyValueAndWhatIsAllowed) {
  const TempDir dir;
  const std::string good = R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2})";
  const std::string path = dir.Write("bad.jsonl", good + "\n" + GetParam().line + "\n");
  EXPECT_THAT(ReadTrace(path, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("bad.jsonl:2: "), HasSubstr(GetParam().message))));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadTraceLineTest,
    ::testing::Values(
        BadLine{"NoJson", "hello", "hello: is not a JSON object"},
        BadLine{"CutOff", R"({"arrival_ms":5,"input_)", "is not a JSON object"},
        BadLine{"MissingKey", R"({"arrival_ms":5,"output_tokens":2})",
                "input_tokens: is missing; every line needs it"},
        BadLine{"NegativeLength", R"({"arrival_ms":5,"input_tokens":-3,"output_tokens":2})",
                "input_tokens: -3 is not a whole number in [1, 1073741824]"},
        BadLine{"EmptyPrompt", R"({"arrival_ms":5,"input_tokens":0,"output_tokens":2})",
                "input_tokens: 0 is not a whole number in [1, "},
        BadLine{"Fraction", R"({"arrival_ms":5.5,"input_tokens":1,"output_tokens":2})",
                "arrival_ms: 5.5 is not a whole number"},
        BadLine{"TooLarge",
                R"({"arrival_ms":18446744073709551615,"input_tokens":1,"output_tokens":2})",
                "arrival_ms: 18446744073709551615 is not a whole number in [0, "},
        BadLine{"Text", R"({"arrival_ms":5,"input_tokens":"9","output_tokens":2})",
                "input_tokens: \"9\" is not a whole number"},
        BadLine{"BackInTime", R"({"arrival_ms":4,"input_tokens":9,"output_tokens":2})",
                "arrival_ms: 4 is before an earlier line's 5; sort the file"},
        BadLine{"LaterRef",
                R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2,"session":"s","turn":1,)"
                R"("block_tokens":1,"shared_prefix_tokens":4,"ref":1})",
                "ref: 1 is not a whole number in [0, 0]"},
        BadLine{"SharesMoreThanItHas",
                R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2,"session":"s","turn":1,)"
                R"("block_tokens":1,"shared_prefix_tokens":10,"ref":0})",
                "shared_prefix_tokens: 10 is not a whole number in [0, 9]"},
        BadLine{"SessionWithoutBlocks",
                R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2,"session":"s"})",
                "block_tokens: is missing"},
        BadLine{"SessionNumber",
                R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2,"session":7})",
                "session: 7 is not a string"},
        BadLine{"NegativeHash",
                R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2,"block_tokens":4,)"
                R"("block_hashes":[1,-2,3]})",
                "block_hashes: entry 1: -2 is not a whole number in [0, 2^64)"},
        BadLine{"NoHashes",
                R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2,"block_tokens":4,)"
                R"("block_hashes":[]})",
                "block_hashes: [] is not a list of at least one block id"},
        BadLine{"Tenant", R"({"arrival_ms":5,"input_tokens":9,"output_tokens":2,"tenant":-1})",
                "tenant: -1 is not a whole number in [0, 65535]"}),
    [](const auto& test) { return test.param.name; });

TEST_F(TraceReaderTest, OptionsOutOfRangeAreRefused) {
  const auto message = [this](const TraceOptions& options) {
    const absl::StatusOr<Trace> trace = Read(kSessions, options);
    EXPECT_EQ(trace.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(trace.status().message());
  };
  EXPECT_THAT(message({.scale = 0}), HasSubstr("scale: 0 is less than 1"));
  EXPECT_THAT(message({.max_input = Tokens(0)}), HasSubstr("max input: 0 is less than 1"));
  EXPECT_THAT(message({.keep = 0}), HasSubstr("keep: 0 is not in (0, 1]"));
  EXPECT_THAT(message({.keep = 1.5}), HasSubstr("keep: 1.5 is not in (0, 1]"));
  EXPECT_THAT(message({.rate_scale = -1}), HasSubstr("rate scale: -1 is not a number above 0"));
}

}  // namespace
}  // namespace sluice
