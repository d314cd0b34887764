// BytesStream sends a string of any length as a sequence of messages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/wire.h"

namespace sluice {

// One rpc; deletes itself. gRPC calls it one call at a time.
class BytesStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  // The message for `size` bytes of the string from `begin` on.
  using MakeMessage =
      std::function<grpc::ByteBuffer(const std::string& bytes, size_t begin, size_t size)>;

  // Sends `bytes` in pieces of `piece`, or fails with its status.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(
      absl::StatusOr<std::shared_ptr<const std::string>> bytes, size_t piece, MakeMessage make) {
    auto* stream = new BytesStream(piece, std::move(make));
    if (bytes.ok()) {
      stream->bytes_ = *std::move(bytes);
      stream->SendNext();
    } else {
      stream->Finish(ToGrpcStatus(bytes.status()));
    }
    return stream;
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    SendNext();
  }
  void OnDone() override { delete this; }

 private:
  BytesStream(size_t piece, MakeMessage make) : piece_(piece), make_(std::move(make)) {}

  void SendNext() {
    const size_t size = std::min(piece_, bytes_->size() - sent_);
    buffer_ = make_(*bytes_, sent_, size);
    sent_ += size;
    if (sent_ < bytes_->size()) return StartWrite(&buffer_);
    StartWriteAndFinish(&buffer_, grpc::WriteOptions(), grpc::Status::OK);
  }

  const size_t piece_;
  const MakeMessage make_;
  std::shared_ptr<const std::string> bytes_;
  size_t sent_ = 0;
  grpc::ByteBuffer buffer_;
};

}  // namespace sluice
