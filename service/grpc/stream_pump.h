// StreamPump moves work from the engine thread to threads of its own: the engine says "this call
// has something", a pump thread calls it back to detokenize and write. So the engine never runs
// gRPC or tokenizer code, and never waits.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice {

class StreamPump {
 public:
  class Client {
   public:
    virtual ~Client() = default;
    // Runs on a pump thread. Whatever came before the Enqueue() that led to it is visible.
    virtual void OnReady() = 0;

   private:
    friend class StreamPump;
    std::atomic<bool> queued_{false};
  };

  // REQUIRES: threads >= 1.
  explicit StreamPump(int threads);
  ~StreamPump();  // stops
  StreamPump(const StreamPump&) = delete;
  StreamPump& operator=(const StreamPump&) = delete;

  // Has `client` called back soon; at least once after this call, once for several calls before it
  // was. Cheap, never blocks. Ignored after Stop().
  void Enqueue(std::shared_ptr<Client> client);

  // Joins the threads; what is still queued is dropped. Not from a pump thread.
  void Stop();

 private:
  void ThreadMain();

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Client>> queue_;  // guarded by mu_
  bool stopped_ = false;                       // guarded by mu_

  std::vector<std::thread> threads_;  // last: everything above is ready when they start
};

}  // namespace sluice
