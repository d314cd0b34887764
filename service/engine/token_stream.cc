#include "service/engine/token_stream.h"

#include <utility>

#include "scheduler/base/check.h"

namespace sluice {

bool TokenStream::Push(Event event) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    SLUICE_CHECK(!finished_);
    finished_ = event.finish.has_value();
    if (!finished_ && static_cast<int64_t>(events_.size()) >= capacity_.value()) return false;
    events_.push_back(std::move(event));
    if (events_.size() > 1) return true;
  }
  on_ready_();
  return true;
}

std::vector<Event> TokenStream::TakeAll() {
  std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(events_, {});
}

}  // namespace sluice
