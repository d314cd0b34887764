#include "service/engine/token_stream.h"

#include <utility>

#include "scheduler/base/check.h"

namespace sluice {

bool TokenStream::Push(Event event) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    SLUICE_CHECK(!finished_);
    finished_ = event.finish.has_value();
    if (event.token.has_value()) {
      if (!finished_ && unread_ >= capacity_.value()) return false;
      ++unread_;
    }
    events_.push_back(std::move(event));
    if (events_.size() > 1) return true;
  }
  on_ready_();
  return true;
}

std::vector<Event> TokenStream::TakeAll() {
  std::lock_guard<std::mutex> lock(mu_);
  unread_ = 0;
  return std::exchange(events_, {});
}

}  // namespace sluice
