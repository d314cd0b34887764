// TokenStream carries one request's events from the engine thread to whoever serves the client.
//
// Bounded: the engine never waits for a slow reader. When `capacity` tokens are unread, Push()
// refuses, and the engine cancels the request; the final event is always accepted.
//
// Thread-safe. One writer (the engine thread), one reader.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "scheduler/base/units.h"
#include "scheduler/scheduler.h"
#include "service/engine/event_sink.h"

namespace sluice {

class TokenStream final : public EventSink {
 public:
  // `on_ready` runs on the engine thread when the stream turns from empty to not empty: hand the
  // work to another thread and return.
  TokenStream(Tokens capacity, std::function<void()> on_ready)
      : capacity_(capacity), on_ready_(std::move(on_ready)) {}

  // Writer. False if `event` is a token, not the last, and the reader is `capacity` tokens behind.
  // REQUIRES: no event with `finish` was pushed before.
  bool Push(Event event) override;

  // Reader. Everything since the last call, in order; empty if there is nothing. Never blocks.
  std::vector<Event> TakeAll();

  Tokens capacity() const override { return capacity_; }

 private:
  const Tokens capacity_;
  const std::function<void()> on_ready_;

  std::mutex mu_;
  std::vector<Event> events_;  // guarded by mu_
  int64_t unread_ = 0;         // guarded by mu_; tokens among them
  bool finished_ = false;      // guarded by mu_
};

}  // namespace sluice
