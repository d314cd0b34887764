// GenerateCall is one Generate rpc: n samples, each a request of the engine, and one stream of
// messages to the client.
//
//   engine thread --TokenStream--> [pump thread: OnReady] --one write at a time--> gRPC
//                                    detokenize, stop strings        |
//   engine <------------- Cancel --- OnCancel, stop string, overflow +
//
// At most one write is under way. What the engine produces meanwhile is collected per sample and
// leaves as one message; a client so slow that more than `stream_capacity` tokens of a sample pile
// up is cancelled, and nobody else notices.
//
// Life: gRPC knows the call as a bare reactor between Start() and OnDone(), during which it holds a
// reference to itself. The engine holds weak references only, so its events may come at any time.
//
// Thread-safe. No gRPC operation runs under the lock: it could call back on the same thread.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/access/access_control.h"
#include "service/engine/token_stream.h"
#include "service/grpc/generate_dialect.h"
#include "service/grpc/load_monitor.h"
#include "service/grpc/sample_output.h"
#include "service/grpc/service_context.h"
#include "service/grpc/stream_pump.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

// What all calls of a server share.
//
// Thread-safe.
class GenerateShared {
 public:
  // `context` and `monitor` must outlive this and all calls.
  GenerateShared(const ServiceContext& context, LoadMonitor& monitor,
                 std::shared_ptr<StreamPump> pump);

  const ServiceContext& context() const { return context_; }
  LoadMonitor& monitor() { return monitor_; }
  const ModelLimits& limits() const { return limits_; }
  const std::shared_ptr<StreamPump>& pump() const { return pump_; }

  RequestId NextId() { return RequestId(next_id_.fetch_add(1)); }
  // Unpredictable; for requests that name no seed.
  uint64_t DrawSeed();

 private:
  const ServiceContext& context_;
  LoadMonitor& monitor_;
  const ModelLimits limits_;
  const std::shared_ptr<StreamPump> pump_;
  std::atomic<int64_t> next_id_{0};

  std::mutex mu_;
  std::mt19937_64 seeds_;  // guarded by mu_
};

class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public StreamPump::Client,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  // Handles one rpc; the call deletes itself when gRPC and the engine are done with it. `shared`
  // must outlive it.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(
      grpc::CallbackServerContext* rpc, const grpc::ByteBuffer& request, GenerateShared& shared,
      std::unique_ptr<GenerateDialect> dialect);

  // Ends the samples that have not ended; the rpc then ends with OK. Any thread.
  void Abort();

  // From the pump.
  void OnReady() override;

  // From gRPC, any thread.
  void OnSendInitialMetadataDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  struct Sample {
    RequestId id;
    std::shared_ptr<TokenStream> stream;
    SampleOutput output;
    bool started = false;   // it has its first token
    bool reported = false;  // its Finished was handed to gRPC
  };
  enum class Action { kNone, kSendMetadata, kWrite, kWriteLast, kFinish, kAbort };

  GenerateCall(grpc::CallbackServerContext* rpc, GenerateShared& shared,
               std::unique_ptr<GenerateDialect> dialect);

  // Checks the request and submits its samples. Not OK: none is left in the engine.
  absl::Status SubmitLocked(const grpc::ByteBuffer& request);
  void CancelSamplesLocked();
  // The first end wins; it is sent when no write is under way.
  void EndLocked(const absl::Status& status);
  // Puts the prediction into the initial metadata.
  void NotePrediction(absl::Duration ttft);
  // Looks for a failed sample, or one that is too far behind.
  void NoteProblemsLocked();
  // Takes what the engine has produced.
  void TakeEventsLocked();
  // What to do now; the caller performs it after releasing the lock.
  Action NextLocked();
  std::optional<grpc::ByteBuffer> NextMessageLocked();
  std::optional<v1::GenerateResponse> NextNewsLocked(SampleFacts* facts);
  // How loaded the server is, for the client's balancer; before the call is finished.
  void AddLoadTrailer();
  void Perform(Action action);

  grpc::CallbackServerContext* const rpc_;
  GenerateShared& shared_;
  const absl::Time arrival_;
  const std::unique_ptr<GenerateDialect> dialect_;
  std::shared_ptr<GenerateCall> self_;  // set by Start(), reset by OnDone()

  std::mutex mu_;
  std::string request_id_;           // guarded by mu_
  AccessControl::Permit permit_;     // guarded by mu_; goes with the call
  std::vector<Sample> samples_;      // guarded by mu_; complete before the first is submitted
  size_t next_sample_ = 0;           // guarded by mu_; whose turn it is to write
  size_t reported_ = 0;              // guarded by mu_
  bool predicted_ = false;           // guarded by mu_; metadata is complete, messages may leave
  bool metadata_sent_ = false;       // guarded by mu_; or leaves with the message being written
  bool writing_ = false;             // guarded by mu_; `buffer_` belongs to gRPC
  bool aborting_ = false;            // guarded by mu_; Perform(kAbort) is under way
  bool closed_ = false;              // guarded by mu_; Finish() was called
  bool abort_wanted_ = false;        // guarded by mu_; the reader is too slow
  std::optional<grpc::Status> end_;  // guarded by mu_
  grpc::ByteBuffer buffer_;          // the message being written
};

}  // namespace sluice
