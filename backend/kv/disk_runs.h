// DiskRuns: joins reads or writes of neighbouring slots into fewer, larger file operations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/kv/file_io.h"

namespace sluice {

// One piece of memory for one range of a file.
struct DiskPiece {
  size_t index = 0;  // whose it is
  int fd = -1;
  int64_t offset = 0;
  std::byte* data = nullptr;
  int64_t bytes = 0;
};

struct DiskRun {
  FileOp op;
  std::vector<DiskPiece> pieces;
};

// Pieces that follow each other in one file become one operation, up to about 1 MiB. `joined`
// false: one operation per piece.
std::vector<DiskRun> MakeRuns(std::vector<DiskPiece> pieces, bool write, bool joined = true);

// Runs them; `done(index, status)` for every piece. A run of several that fails is tried again
// piece by piece, so that one bad place costs one block. `meanwhile`: see FileIo.
void RunPieces(FileIo& io, std::vector<DiskPiece> pieces, bool write,
               absl::FunctionRef<void()> meanwhile,
               absl::FunctionRef<void(size_t, const absl::Status&)> done);

}  // namespace sluice
