#include "backend/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

// A file with this header and `data_bytes` bytes after it.
std::string File(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i));
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

// Parses a copy that ends exactly where the heap block ends, so that AddressSanitizer sees any read
// beyond, and touches every byte the result claims.
absl::StatusOr<std::vector<SafetensorsEntry>> Parse(const std::string& file) {
  const auto copy = std::make_unique<std::byte[]>(file.size());
  std::memcpy(copy.get(), file.data(), file.size());
  auto entries = ParseSafetensors({copy.get(), file.size()}, "m.safetensors");
  if (!entries.ok()) return entries;
  unsigned sum = 0;
  for (SafetensorsEntry& entry : *entries) {
    for (const std::byte b : entry.view.data) sum += static_cast<unsigned>(b);
    EXPECT_GE(entry.view.data.data(), copy.get());
    EXPECT_LE(entry.view.data.data() + entry.view.data.size(), copy.get() + file.size());
    entry.view.data = {};  // goes with `copy`
  }
  EXPECT_GE(sum, 0u);
  return entries;
}

constexpr char kTwo[] =
    R"({"b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]},
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "__metadata__": {"format": "pt"}})";

TEST(SafetensorsTest, ReadsTensorsInOrderOfName) {
  const auto entries = Parse(File(kTwo, 16));
  ASSERT_THAT(entries, IsOk());
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].view.name, "a");
  EXPECT_EQ((*entries)[0].view.dtype, DType::kF32);
  EXPECT_EQ((*entries)[1].view.name, "b");
  EXPECT_EQ((*entries)[1].view.dtype, DType::kBF16);
  EXPECT_EQ((*entries)[1].view.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE((*entries)[1].supported);
}

TEST(SafetensorsTest, DataPointsIntoTheFile) {
  const std::string file = File(kTwo, 16);
  const auto* bytes = reinterpret_cast<const std::byte*>(file.data());
  const auto entries = ParseSafetensors({bytes, file.size()}, "m.safetensors");
  ASSERT_THAT(entries, IsOk());
  EXPECT_EQ((*entries)[0].view.data.data(), bytes + file.size() - 16);
  EXPECT_EQ((*entries)[1].view.data.data(), bytes + file.size() - 12);
  EXPECT_EQ((*entries)[1].view.elements(), 6);
}

TEST(SafetensorsTest, DtypesOnlyOthersNeedAreNoError) {
  const auto entries = Parse(File(
      R"({"ids": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
          "new": {"dtype": "F4_E2M1", "shape": [16], "data_offsets": [16, 24]}})",
      24));
  ASSERT_THAT(entries, IsOk());
  EXPECT_FALSE((*entries)[0].supported);
  EXPECT_EQ((*entries)[0].dtype, "I64");
  EXPECT_FALSE((*entries)[1].supported);
}

TEST(SafetensorsTest, EmptyTensorsAndScalarsAreFine) {
  EXPECT_THAT(
      Parse(File(
          R"({"none": {"dtype": "F32", "shape": [0, 9223372036854775807], "data_offsets": [4, 4]},
          "one": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
          "zero": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})",
          4)),
      IsOk());
  EXPECT_THAT(Parse(File("{}", 0)), IsOk());
}

TEST(SafetensorsTest, MalformedHeadersAreNamed) {
  struct Case {
    std::string header;
    size_t data_bytes;
    const char* message;
  };
  const auto one = [](const std::string& rest) { return "{\"a\": {" + rest + "}}"; };
  const std::vector<Case> cases = {
      {"", 0, "header: not valid JSON at byte 1"},
      {"[]", 0, "header: is not a JSON object but an empty array"},
      {"{\"a\": 3}", 0, "tensor a: its header entry is not an object"},
      {one(R"("shape": [1], "data_offsets": [0, 4])"), 4, "tensor a: dtype: is missing"},
      {one(R"("dtype": 32, "shape": [1], "data_offsets": [0, 4])"), 4, "dtype: 32 is not a string"},
      {one(R"("dtype": "F32", "data_offsets": [0, 4])"), 4, "tensor a: shape is missing"},
      {one(R"("dtype": "F32", "shape": 1, "data_offsets": [0, 4])"), 4, "shape is not a list"},
      {one(R"("dtype": "F32", "shape": [-1], "data_offsets": [0, 4])"), 4, "shape: -1 is not a"},
      {one(R"("dtype": "F32", "shape": [1.0], "data_offsets": [0, 4])"), 4, "shape: 1.0 is not a"},
      {one(R"("dtype": "F32", "shape": [18446744073709551615], "data_offsets": [0, 4])"), 4,
       "shape: 18446744073709551615 is not a"},
      {one(R"("dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 4])"), 4,
       "takes over 2^63 bytes"},
      {one(R"("dtype": "F32", "shape": [2], "data_offsets": [0, 4])"), 4,
       "tensor a: shape [2] of F32 takes 8 bytes, data_offsets give 4"},
      {one(R"("dtype": "BF16", "shape": [1], "data_offsets": [0, 4])"), 4, "takes 2 bytes"},
      {one(R"("dtype": "F32", "shape": [1])"), 4, "data_offsets is missing"},
      {one(R"("dtype": "F32", "shape": [1], "data_offsets": [0])"), 4, "is not [begin, end]"},
      {one(R"("dtype": "F32", "shape": [1], "data_offsets": [4, 0])"), 4, "is not [begin, end]"},
      {one(R"("dtype": "F32", "shape": [1], "data_offsets": [4, 8])"), 4,
       "data_offsets end at 8, the file has data for 4 bytes"},
      {one(R"("dtype": "F32", "shape": [1], "data_offsets": [4, 8])"), 8,
       "tensor a begins at 4, want 0 (hole)"},
      {one(R"("dtype": "U8", "shape": [5], "data_offsets": [0, 5])"), 4,
       "data_offsets end at 5, the file has data for 4 bytes"},
      {one(R"("dtype": "F32", "shape": [1], "data_offsets": [0, 4])"), 7,
       "3 bytes after the last tensor belong to none"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
           "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
       8, "tensor b begins at 4, want 8 (overlap)"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
           "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
       4, "key \"a\" comes twice"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.header);
    EXPECT_THAT(Parse(File(bad.header, bad.data_bytes)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("m.safetensors: "), HasSubstr(bad.message))));
  }
}

TEST(SafetensorsTest, HeaderLengthIsCheckedAgainstTheFileAndTheLimit) {
  std::string file = File(kTwo, 16);
  file[7] = '\x7f';
  EXPECT_THAT(Parse(file), StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("is over the limit 100000000")));
  file[7] = 0;
  file[2] = 1;
  EXPECT_THAT(Parse(file), StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("truncated: header length is 65")));
}

TEST(SafetensorsTest, EveryTruncationIsAnError) {
  const std::string file = File(kTwo, 16);
  for (size_t size = 0; size < file.size(); ++size) {
    SCOPED_TRACE(size);
    EXPECT_THAT(Parse(file.substr(0, size)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("m.safetensors: ")));
  }
  EXPECT_THAT(Parse(file), IsOk());
}

TEST(SafetensorsTest, DeepNestingInTheHeaderIsHarmless) {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  EXPECT_THAT(Parse(File("{\"a\": " + deep + "}", 0)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not an object")));
  EXPECT_THAT(Parse(File("{\"a\": {\"dtype\": \"F32\", \"shape\": " + deep + "}}", 0)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("shape: an array is not")));
}

// Flips, overwrites, removes or inserts a few bytes of the header (now and then of the length).
std::string Corrupted(std::string file, size_t header_end, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  for (size_t n = 1 + below(4); n > 0; --n) {
    const size_t at = below(8) == 0 ? below(8) : 8 + below(header_end - 8);
    switch (below(5)) {
      case 0:
        file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
        break;
      case 1:
        file[at] = static_cast<char>(random());
        break;
      case 2:
        file[at] = "0123456789,[]{}\":- e"[below(20)];
        break;
      case 3:
        file.erase(at, 1 + below(3));
        break;
      default:
        file.insert(at, 1, "0123456789"[below(10)]);
    }
    header_end = std::min(header_end, file.size());
  }
  return file;
}

TEST(SafetensorsTest, RandomCorruptionNeverCrashes) {
  const testing::TempDir dir;
  ASSERT_THAT(testing::WriteRandomModel({.layers = 1, .hidden = 8, .intermediate = 8, .vocab = 8},
                                        dir.path()),
              IsOk());
  const std::string file = dir.Read("model.safetensors");
  size_t header_end = 8 + static_cast<unsigned char>(file[0]) +
                      256 * static_cast<size_t>(static_cast<unsigned char>(file[1]));
  ASSERT_LT(header_end, file.size());
  int refused = 0;
  constexpr uint64_t kSeeds = 500;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const auto entries = Parse(Corrupted(file, header_end, random));
    if (entries.ok()) continue;  // a changed name or metadata is as good as the old one
    ++refused;
    EXPECT_THAT(entries, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("m.safetensors")));
  }
  EXPECT_GT(refused, 300);
}

}  // namespace
}  // namespace sluice
