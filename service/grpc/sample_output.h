// SampleOutput collects what one sample has produced since its last message to the client: events
// of the engine go in, Output and Finished messages come out. However much came in, it leaves as
// one Output, so a busy connection carries fewer, larger messages.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "scheduler/request.h"
#include "scheduler/scheduler.h"
#include "service/grpc/generate_dialect.h"
#include "service/grpc/request_checks.h"
#include "service/grpc/text_stream.h"
#include "service/tokenizer/tokenizer.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

class SampleOutput {
 public:
  // `tokenizer` must outlive this. REQUIRES: `parsed` has a sample `index`.
  SampleOutput(uint32_t index, const Tokenizer& tokenizer, const ParsedRequest& parsed,
               const SamplingParams& sampling);

  // Takes the next event. True if a stop string was found by it: the engine should be told to
  // cancel the request, and its Finish event then counts as a stop.
  // REQUIRES: no earlier event had `finish`.
  bool Apply(Event event);

  // The Finish event has come.
  bool ended() const { return finish_.has_value(); }
  // The request was aborted: if the engine has not ended it otherwise, that counts as an end like
  // any other, not as a failure.
  void Abort() { aborted_ = true; }
  // Why the sample failed; OK while it has not.
  absl::Status error() const;

  // There is something for an Output message.
  bool has_output() const { return pending_.token_ids_size() > 0 || !pending_.text().empty(); }
  SampleFacts facts() const { return facts_; }
  Tokens pending_tokens() const { return Tokens(pending_.token_ids_size()); }
  v1::Output TakeOutput();

  // REQUIRES: ended(), and error() is OK.
  v1::Finished MakeFinished(const std::string& request_id, bool link_emulated) const;

 private:
  bool WasAborted() const;
  void AddToken(const SampledToken& token);
  void AddLogprobs(const SampledToken& token);

  const uint32_t index_;
  const Tokenizer& tokenizer_;
  const bool logprobs_;
  const uint64_t seed_;
  TextStream text_;

  v1::Output pending_;
  int64_t output_tokens_ = 0;
  TokenId last_token_ = -1;
  SampleFacts facts_;
  bool aborted_ = false;
  std::optional<Event::Finish> finish_;
};

}  // namespace sluice
