#include "backend/kv/disk_runs.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace sluice {
namespace {

constexpr int64_t kRunBytes = 1 << 20;

// Runs `runs`; pieces of those of several that failed come back.
std::vector<DiskPiece> RunAll(FileIo& io, std::vector<DiskRun> runs,
                              absl::FunctionRef<void()> meanwhile,
                              absl::FunctionRef<void(size_t, const absl::Status&)> done) {
  std::vector<FileOp> ops;
  ops.reserve(runs.size());
  for (DiskRun& run : runs) ops.push_back(std::move(run.op));
  std::vector<DiskPiece> again;
  io.Run(ops, meanwhile, [&](size_t i, const absl::Status& status) {
    const std::vector<DiskPiece>& pieces = runs[i].pieces;
    if (!status.ok() && pieces.size() > 1) {
      again.insert(again.end(), pieces.begin(), pieces.end());
      return;
    }
    for (const DiskPiece& piece : pieces) done(piece.index, status);
  });
  return again;
}

}  // namespace

std::vector<DiskRun> MakeRuns(std::vector<DiskPiece> pieces, bool write, bool joined) {
  std::sort(pieces.begin(), pieces.end(), [](const DiskPiece& a, const DiskPiece& b) {
    return std::tie(a.fd, a.offset) < std::tie(b.fd, b.offset);
  });
  std::vector<DiskRun> runs;
  int64_t end = -1;
  for (const DiskPiece& piece : pieces) {
    const bool follows = joined && !runs.empty() && runs.back().op.fd == piece.fd &&
                         end == piece.offset && runs.back().pieces.size() < FileOp::kMostParts &&
                         end - runs.back().op.offset + piece.bytes <= kRunBytes;
    if (!follows) {
      runs.emplace_back();
      runs.back().op.fd = piece.fd;
      runs.back().op.write = write;
      runs.back().op.offset = piece.offset;
    }
    runs.back().op.parts.push_back({piece.data, static_cast<size_t>(piece.bytes)});
    runs.back().pieces.push_back(piece);
    end = piece.offset + piece.bytes;
  }
  return runs;
}

void RunPieces(FileIo& io, std::vector<DiskPiece> pieces, bool write,
               absl::FunctionRef<void()> meanwhile,
               absl::FunctionRef<void(size_t, const absl::Status&)> done) {
  std::vector<DiskPiece> again = RunAll(io, MakeRuns(std::move(pieces), write), meanwhile, done);
  if (again.empty()) return;
  RunAll(
      io, MakeRuns(std::move(again), write, /*joined=*/false), [] {}, done);
}

}  // namespace sluice
