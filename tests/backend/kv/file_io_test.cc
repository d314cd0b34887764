#include "backend/kv/file_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "backend/kv/disk_runs.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

class FileIoTest : public ::testing::TestWithParam<FileIoMethod> {
 protected:
  FileIoTest() {
    absl::StatusOr<std::unique_ptr<FileIo>> io = FileIo::Create(GetParam());
    if (io.ok()) io_ = *std::move(io);
    fd_ = open(dir_.File("data").c_str(), O_RDWR | O_CREAT, 0644);
  }
  ~FileIoTest() override { close(fd_); }
  void SetUp() override {
    if (io_ == nullptr) GTEST_SKIP() << "io_uring is not allowed here";
  }

  FileOp Op(bool write, int64_t offset, std::span<std::byte> memory) const {
    FileOp op;
    op.fd = fd_;
    op.write = write;
    op.offset = offset;
    op.parts.push_back({memory.data(), memory.size()});
    return op;
  }

  const TempDir dir_;
  int fd_ = -1;
  std::unique_ptr<FileIo> io_;
};

TEST_P(FileIoTest, ManyPiecesArriveWhereTheyBelongAndEachIsToldOnce) {
  constexpr size_t kPieces = 200;  // more than are under way at a time
  constexpr size_t kSize = 3000;
  std::vector<std::byte> out(kPieces * kSize);
  std::mt19937_64 random(1);
  for (std::byte& b : out) b = static_cast<std::byte>(random());
  std::vector<std::byte> in(out.size());
  for (const bool write : {true, false}) {
    std::vector<FileOp> ops;
    for (size_t i = 0; i < kPieces; ++i) {
      const size_t at = (i * 7) % kPieces * kSize;  // in no order
      ops.push_back(
          Op(write, static_cast<int64_t>(at), std::span(write ? out : in).subspan(at, kSize)));
    }
    std::vector<int> told(kPieces);
    int meanwhile = 0;
    io_->Run(
        ops, [&] { ++meanwhile; },
        [&](size_t i, const absl::Status& status) {
          EXPECT_THAT(status, IsOk());
          EXPECT_EQ(meanwhile, 1) << "before anything has ended for others";
          ++told[i];
        });
    EXPECT_EQ(std::accumulate(told.begin(), told.end(), 0), static_cast<int>(kPieces));
    EXPECT_EQ(*std::min_element(told.begin(), told.end()), 1);
  }
  EXPECT_EQ(in, out);
}

TEST_P(FileIoTest, OneRangeMayLieInManyPlacesOfMemory) {
  std::vector<std::byte> data(100);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  FileOp op = Op(true, 5, std::span(data).first(30));
  op.parts.push_back({data.data() + 60, 40});
  std::vector<FileOp> ops = {op};
  io_->Run(
      ops, [] {}, [](size_t, const absl::Status& status) { EXPECT_THAT(status, IsOk()); });
  std::vector<std::byte> back(70);
  ASSERT_THAT(PReadAll(fd_, back.data(), 70, 5, "data"), IsOk());
  EXPECT_EQ(back[29], std::byte{29});
  EXPECT_EQ(back[30], std::byte{60});
  EXPECT_EQ(back[69], std::byte{99});
}

TEST_P(FileIoTest, AFileThatEndsTooSoonIsDataLoss) {
  std::vector<std::byte> data(100);
  ASSERT_THAT(PWriteAll(fd_, data.data(), 50, 0, "data"), IsOk());
  std::vector<FileOp> ops = {Op(false, 0, data), Op(false, 0, std::span(data).first(50))};
  std::vector<absl::Status> statuses(2);
  io_->Run(
      ops, [] {}, [&](size_t i, const absl::Status& status) { statuses[i] = status; });
  EXPECT_THAT(statuses[0], StatusIs(absl::StatusCode::kDataLoss, HasSubstr("ends at 50")));
  EXPECT_THAT(statuses[1], IsOk());
}

TEST_P(FileIoTest, AFileThatCannotBeWrittenIsAnError) {
  const int read_only = open(dir_.File("data").c_str(), O_RDONLY);
  std::vector<std::byte> data(100);
  std::vector<FileOp> ops = {Op(true, 0, data)};
  ops[0].fd = read_only;
  io_->Run(
      ops, [] {},
      [](size_t, const absl::Status& status) {
        EXPECT_THAT(status,
                    StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cannot be written")));
      });
  close(read_only);
}

TEST_P(FileIoTest, NothingToDoIsDoneAtOnce) {
  int meanwhile = 0;
  io_->Run(
      {}, [&] { ++meanwhile; }, [](size_t, const absl::Status&) { ADD_FAILURE(); });
  EXPECT_EQ(meanwhile, 1);
}

TEST_P(FileIoTest, NeighboursAreJoinedAndABadOneFailsAlone) {
  std::vector<std::byte> data(40);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i + 1);
  ASSERT_THAT(PWriteAll(fd_, data.data(), 35, 0, "data"), IsOk());  // the last piece ends too soon
  std::vector<std::byte> back(40);
  std::vector<DiskPiece> pieces;
  for (const size_t i : {2, 0, 3, 1}) {
    pieces.push_back({i, fd_, static_cast<int64_t>(10 * i), back.data() + 10 * i, 10});
  }
  EXPECT_EQ(MakeRuns(pieces, false).size(), 1U);
  EXPECT_EQ(MakeRuns(pieces, false, /*joined=*/false).size(), 4U);
  std::vector<absl::Status> statuses(4, absl::UnknownError("not told"));
  RunPieces(
      *io_, pieces, /*write=*/false, [] {},
      [&](size_t i, const absl::Status& status) { statuses[i] = status; });
  for (size_t i = 0; i < 3; ++i) EXPECT_THAT(statuses[i], IsOk()) << i;
  EXPECT_THAT(statuses[3], StatusIs(absl::StatusCode::kDataLoss, HasSubstr("ends at 35")));
  EXPECT_TRUE(std::equal(back.begin(), back.begin() + 35, data.begin()));
}

TEST(DiskRunsTest, FarPiecesAndLargeOnesStayAlone) {
  std::vector<std::byte> memory(1);
  const auto piece = [&](size_t i, int fd, int64_t offset, int64_t bytes) {
    return DiskPiece{i, fd, offset, memory.data(), bytes};
  };
  EXPECT_EQ(MakeRuns({piece(0, 1, 0, 8), piece(1, 2, 8, 8)}, true).size(), 2U) << "other files";
  EXPECT_EQ(MakeRuns({piece(0, 1, 0, 8), piece(1, 1, 16, 8)}, true).size(), 2U) << "a gap";
  EXPECT_EQ(MakeRuns({piece(0, 1, 0, 1 << 20), piece(1, 1, 1 << 20, 8)}, true).size(), 2U);
  std::vector<DiskPiece> many;
  for (size_t i = 0; i < 100; ++i) many.push_back(piece(i, 1, static_cast<int64_t>(8 * i), 8));
  EXPECT_EQ(MakeRuns(many, true).size(), 2U) << "a call takes so many parts at most";
}

INSTANTIATE_TEST_SUITE_P(Methods, FileIoTest,
                         ::testing::Values(FileIoMethod::kUring, FileIoMethod::kThreads),
                         [](const auto& method) {
                           return method.param == FileIoMethod::kUring ? "Uring" : "Threads";
                         });

}  // namespace
}  // namespace sluice::testing
