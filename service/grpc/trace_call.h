// One Control.Trace rpc: a snapshot of what the engine did, written in pieces as the client takes
// them. At most kMostAtOnce run at a time, because each holds a snapshot.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/service_context.h"
#include "service/trace/trace_text.h"

namespace sluice {

class TraceCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  static constexpr int kMostAtOnce = 4;

  // Starts to answer `request`. `context` and `running`, the number of such calls, must outlive the
  // call.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const ServiceContext& context,
                                                           const grpc::ByteBuffer& request,
                                                           std::atomic<int>& running);

  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  TraceCall(const ServiceContext& context, std::atomic<int>& running);

  // Takes the snapshot. Not OK: there is none to send.
  absl::Status Begin(const grpc::ByteBuffer& request);
  // Writes the next piece, or ends the call.
  void Advance();
  void End(const absl::Status& status);

  const ServiceContext& context_;
  std::atomic<int>& running_;
  const absl::Time start_;
  absl::StatusCode code_ = absl::StatusCode::kOk;

  // gRPC calls back one at a time.
  std::vector<TraceEvent> events_;
  std::unique_ptr<TraceText> text_;
  size_t next_ = 0;  // of events_
  bool footer_sent_ = false;
  std::string pending_;
  grpc::ByteBuffer buffer_;
};

}  // namespace sluice
