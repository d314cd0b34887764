#include "service/grpc/stream_pump.h"

#include <utility>

#include "scheduler/base/check.h"

namespace sluice {

StreamPump::StreamPump(int threads) {
  SLUICE_CHECK(threads >= 1);
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { ThreadMain(); });
}

StreamPump::~StreamPump() { Stop(); }

void StreamPump::Enqueue(std::shared_ptr<Client> client) {
  if (client->queued_.exchange(true)) return;
  std::lock_guard<std::mutex> lock(mu_);
  if (stopped_) return;
  queue_.push_back(std::move(client));
  changed_.notify_one();
}

void StreamPump::Stop() {
  std::deque<std::shared_ptr<Client>> dropped;  // destroyed outside the lock
  {
    std::lock_guard<std::mutex> lock(mu_);
    stopped_ = true;
    dropped.swap(queue_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void StreamPump::ThreadMain() {
  for (;;) {
    std::shared_ptr<Client> client;
    {
      std::unique_lock<std::mutex> lock(mu_);
      changed_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
      if (stopped_) return;
      client = std::move(queue_.front());
      queue_.pop_front();
    }
    // Before the call, so that what comes during it is not missed.
    client->queued_.store(false);
    client->OnReady();
  }
}

}  // namespace sluice
