// OpenStreams: the calls of one kind that are open, kept alive until gRPC is done with them, so
// that a shutdown can end them all.
//
// Thread-safe. No stream is called, or destroyed, under the lock.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace sluice {

template <class Stream>
class OpenStreams {
 public:
  // Keeps `stream` until Remove(). False after Close(): whoever adds it has to end it.
  bool Add(std::shared_ptr<Stream> stream) {
    std::lock_guard<std::mutex> lock(mu_);
    streams_.push_back(std::move(stream));
    return !closed_;
  }

  // May destroy it. Unknown ones are ignored.
  void Remove(const Stream* stream) {
    std::shared_ptr<Stream> removed;  // destroyed outside the lock
    std::lock_guard<std::mutex> lock(mu_);
    const auto it = std::find_if(streams_.begin(), streams_.end(),
                                 [stream](const auto& s) { return s.get() == stream; });
    if (it == streams_.end()) return;
    removed = std::move(*it);
    streams_.erase(it);
  }

  std::vector<std::shared_ptr<Stream>> All() const {
    std::lock_guard<std::mutex> lock(mu_);
    return streams_;
  }

  // From now on Add() says no. Returns those there are, for the caller to end.
  std::vector<std::shared_ptr<Stream>> Close() {
    std::lock_guard<std::mutex> lock(mu_);
    closed_ = true;
    return streams_;
  }

 private:
  mutable std::mutex mu_;
  bool closed_ = false;                           // guarded by mu_
  std::vector<std::shared_ptr<Stream>> streams_;  // guarded by mu_
};

}  // namespace sluice
