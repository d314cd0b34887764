// KvEventStream is one SubscribeKvEvents rpc: a snapshot, unless the client resumes, then what
// changes, until the client leaves, falls behind, or the server shuts down.
//
//   engine thread --snapshot, "something is new"--> [pump thread: OnReady] --one write at a time-->
//
// Life: as GenerateCall. The engine and its log hold weak references only, and wait for nobody.
//
// Thread-safe. No gRPC operation runs under the lock.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/engine/engine_loop.h"
#include "service/grpc/open_streams.h"
#include "service/grpc/service_context.h"
#include "service/grpc/stream_pump.h"
#include "smg/grpc/common/common.pb.h"

namespace sluice {

// The streams of a server, so that it can end them.
//
// Thread-safe.
class KvEventStream;
class KvEventStreams {
 public:
  // Returns UNAVAILABLE after Shutdown().
  absl::Status Add(const std::shared_ptr<KvEventStream>& stream);
  void Remove(const KvEventStream* stream) { streams_.Remove(stream); }
  // Ends all with UNAVAILABLE, present and future.
  void Shutdown();

 private:
  OpenStreams<KvEventStream> streams_;  // until OnDone()
};

class KvEventStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                            public StreamPump::Client,
                            public std::enable_shared_from_this<KvEventStream> {
 public:
  // Handles one rpc. `context` and `streams` must outlive the call.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const grpc::ByteBuffer& request,
                                                           const ServiceContext& context,
                                                           std::shared_ptr<StreamPump> pump,
                                                           KvEventStreams& streams);

  // The first end wins; it is sent when no write is under way.
  void End(const absl::Status& status);

  // From the pump.
  void OnReady() override;

  // From gRPC, any thread.
  void OnSendInitialMetadataDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class Action { kNone, kSendMetadata, kWrite, kFinish };

  KvEventStream(const ServiceContext& context, std::shared_ptr<StreamPump> pump,
                KvEventStreams& streams);

  absl::Status Subscribe(const grpc::ByteBuffer& bytes);
  // From the engine thread.
  void TakeSnapshot(absl::StatusOr<std::shared_ptr<const KvSnapshot>> snapshot);
  // Does what is to be done now, if nothing is under way.
  void Advance();
  Action NextLocked();
  bool NextMessageLocked();

  const ServiceContext& context_;
  EngineLoop& loop_;
  const absl::Time start_;
  const std::shared_ptr<StreamPump> pump_;
  KvEventStreams& streams_;

  std::mutex mu_;
  uint64_t sent_ = 0;                           // guarded by mu_; number of the last batch
  bool awaits_snapshot_ = false;                // guarded by mu_
  std::shared_ptr<const KvSnapshot> snapshot_;  // guarded by mu_; being sent, or null
  std::vector<size_t> order_;                   // guarded by mu_; of its blocks
  uint64_t next_batch_ = 0;                     // guarded by mu_; of it
  bool metadata_sent_ = false;                  // guarded by mu_
  bool writing_ = false;                        // guarded by mu_; `buffer_` belongs to gRPC
  bool closed_ = false;                         // guarded by mu_; Finish() was called
  std::optional<grpc::Status> end_;             // guarded by mu_; constant once set
  std::optional<int64_t> listener_;             // guarded by mu_
  grpc::ByteBuffer buffer_;
};

}  // namespace sluice
