// FileIo through io_uring: one ring, at most kDepth operations in it.
#include <liburing.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/kv/file_io.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

class UringIo final : public FileIo {
 public:
  UringIo() = default;
  ~UringIo() override {
    if (open_) io_uring_queue_exit(&ring_);
  }

  absl::Status Open() {
    const int result = io_uring_queue_init(kDepth, &ring_, 0);
    if (result < 0) return ErrorOfErrno("io_uring", -result);
    open_ = true;
    return absl::OkStatus();
  }

  const char* name() const override { return "io_uring"; }

  void Run(std::span<FileOp> ops, absl::FunctionRef<void()> meanwhile,
           absl::FunctionRef<void(size_t, const absl::Status&)> done) override {
    size_t next = 0;
    size_t under_way = 0;
    bool first = true;
    while (next < ops.size() || under_way > 0) {
      while (next < ops.size() && under_way < static_cast<size_t>(kDepth)) {
        Queue(ops[next], next);
        ++next;
        ++under_way;
      }
      if (std::exchange(first, false)) {
        io_uring_submit(&ring_);
        meanwhile();
      }
      under_way -= Reap(ops, done);
    }
    if (first) meanwhile();
  }

 private:
  void Queue(const FileOp& op, size_t index) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    SLUICE_CHECK(entry != nullptr);  // never more than kDepth
    const auto count = static_cast<unsigned>(op.parts.size());
    const auto offset = static_cast<uint64_t>(op.offset);
    if (op.write) {
      io_uring_prep_writev(entry, op.fd, op.parts.data(), count, offset);
    } else {
      io_uring_prep_readv(entry, op.fd, op.parts.data(), count, offset);
    }
    io_uring_sqe_set_data64(entry, index);
  }

  // Waits for at least one completion. Returns how many operations have ended.
  size_t Reap(std::span<FileOp> ops, absl::FunctionRef<void(size_t, const absl::Status&)> done) {
    const int submitted = io_uring_submit_and_wait(&ring_, 1);
    SLUICE_CHECK(submitted >= 0 || submitted == -EINTR || submitted == -EAGAIN ||
                 submitted == -EBUSY);
    size_t ended = 0;
    io_uring_cqe* completion = nullptr;
    while (io_uring_peek_cqe(&ring_, &completion) == 0) {
      const size_t index = io_uring_cqe_get_data64(completion);
      const int result = completion->res;
      io_uring_cqe_seen(&ring_, completion);
      if (result == -EINTR || result == -EAGAIN) {
        Queue(ops[index], index);
        continue;
      }
      if (result > 0) Advance(ops[index], result);
      if (result > 0 && !ops[index].parts.empty()) {  // a short transfer: the rest
        Queue(ops[index], index);
        continue;
      }
      ++ended;
      done(index, StatusOf(ops[index], result));
    }
    return ended;
  }

  static absl::Status StatusOf(const FileOp& op, int result) {
    if (result > 0) return absl::OkStatus();
    const char* what = op.write ? "cannot be written" : "cannot be read";
    if (result < 0) return ErrorOfErrno(what, -result);
    if (op.write) return ErrorOfErrno(what, EIO);
    return absl::DataLossError(absl::StrCat("the file ends at ", op.offset));
  }

  io_uring ring_{};
  bool open_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FileIo>> MakeUringIo() {
  auto io = std::make_unique<UringIo>();
  if (absl::Status opened = io->Open(); !opened.ok()) {
    return absl::UnavailableError(
        absl::StrCat(opened.message(), "; it is not allowed here, threads do the same slower"));
  }
  return io;
}

}  // namespace sluice
