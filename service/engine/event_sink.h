// EventSink takes the events of requests from the engine: to a client's stream, or to the
// simulator's books.
#pragma once

#include "scheduler/base/units.h"
#include "scheduler/scheduler.h"

namespace sluice {

class EventSink {
 public:
  virtual ~EventSink() = default;

  // Called by the engine thread; must not block. False: the reader is too far behind and `event`
  // was dropped; the engine then cancels the request. The last event (with `finish`) is always
  // taken.
  virtual bool Push(Event event) = 0;

  // Tokens a reader may be behind.
  virtual Tokens capacity() const = 0;
};

}  // namespace sluice
