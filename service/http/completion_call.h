// CompletionCall is one request for a completion or a chat: n samples in the engine, and one
// answer, whole or as a stream of events.
//
//   worker ── parse, template, tokenize, check ── Submit ──> engine
//   client <── HttpExchange <── CompletionCall <── pump <── TokenStream
//
// A stream begins when the scheduler has queued the request, so that a full queue is still an HTTP
// status. At most one piece is on its way to the client; what the engine produces meanwhile is
// collected per sample. A client more than `stream_capacity` tokens behind is cut off, and nobody
// else notices.
//
// Life: the exchange's connection holds the call until the answer is complete or the client has
// left; the engine holds weak references only.
//
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/access/access_control.h"
#include "service/access/caller.h"
#include "service/engine/token_stream.h"
#include "service/grpc/sample_output.h"
#include "service/grpc/stream_pump.h"
#include "service/http/api_context.h"
#include "service/http/http_types.h"
#include "service/http/openai_request.h"
#include "service/http/openai_response.h"

namespace sluice {

class CompletionCall final : public HttpCall,
                             public StreamPump::Client,
                             public std::enable_shared_from_this<CompletionCall> {
 public:
  // Handles one POST of `caller`. Null: it has been refused, and answered. `context` must outlive
  // the call.
  static std::shared_ptr<HttpCall> Start(ApiKind kind, const HttpRequest& request,
                                         const Caller& caller,
                                         std::shared_ptr<HttpExchange> exchange,
                                         ApiContext& context);
  ~CompletionCall() override;

  // From the pump.
  void OnReady() override;
  // From the connection.
  void OnWritable() override;
  void OnClosed() override;

 private:
  struct Sample {
    RequestId id;
    std::shared_ptr<TokenStream> stream;
    SampleOutput output;
    bool queued = false;    // the scheduler has taken it
    bool started = false;   // it has its first token
    bool reported = false;  // its end is part of the answer
  };

  CompletionCall(ApiKind kind, std::shared_ptr<HttpExchange> exchange, ApiContext& context);

  // Checks the request and submits its samples. Not OK: none is left in the engine.
  absl::Status SubmitLocked(const HttpRequest& http, const Caller& caller);
  // The prompt of a chat becomes token ids.
  absl::Status RenderChat(ApiRequest* request) const;
  absl::Status CheckModelName(const std::string& model) const;
  void CancelSamplesLocked();
  // The first end wins. Not OK: the client is told, as far as that is still possible.
  void EndLocked(const absl::Status& status);
  void NoteProblemsLocked();
  // Takes what the engine has for `sample`; returns how many tokens.
  Tokens TakeEventsLocked(Sample& sample);
  // Tells metrics and log.
  void ReportEndLocked(absl::StatusCode code) const;
  // Sends what there is, if nothing is on its way.
  void AdvanceLocked();
  void AdvanceStreamLocked();
  void AdvanceWholeLocked();
  v1::Finished FinishedLocked(Sample& sample);
  HttpResponse Head() const;

  ApiContext& context_;
  const ApiKind kind_;
  const std::shared_ptr<HttpExchange> exchange_;
  const absl::Time arrival_;

  std::mutex mu_;
  std::string request_id_;              // guarded by mu_
  std::string trace_parent_;            // guarded by mu_; the header, or empty
  bool streaming_ = false;              // guarded by mu_
  AccessControl::Permit permit_;        // guarded by mu_
  std::vector<Sample> samples_;         // guarded by mu_; complete before the first is submitted
  std::optional<AnswerWriter> writer_;  // guarded by mu_; set when the samples are
  size_t reported_ = 0;                 // guarded by mu_
  bool begun_ = false;                  // guarded by mu_; the status line is out
  bool sending_ = false;                // guarded by mu_; a piece is on its way
  bool ended_ = false;                  // guarded by mu_; the answer is complete or given up
};

}  // namespace sluice
