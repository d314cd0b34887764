// RemoteLookup asks a RemoteStore on a thread of its own which blocks of arriving prompts it has,
// and looks after the store's breaker: while that is open, it tries from time to time whether the
// server is back.
//
// A question is answered within about two timeouts of the store: one that the server may take for
// the question before, one for its own; who has waited longer is told "none" without asking.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "backend/kv/remote_store.h"

namespace sluice {

class RemoteLookup {
 public:
  // How many of the blocks asked about, from the front, are there.
  using Answer = std::function<void(size_t found)>;

  // The store must outlive it. `clock` must not go back.
  RemoteLookup(RemoteStore& store, std::function<absl::Time()> clock);
  // Questions that wait are not answered any more.
  ~RemoteLookup();
  RemoteLookup(const RemoteLookup&) = delete;
  RemoteLookup& operator=(const RemoteLookup&) = delete;

  // After true, `answer` is called once, on the thread of this object. False: there is no use in
  // asking now (the breaker is not closed, or too many wait).
  bool Ask(std::vector<BlockIdentity> blocks, Answer answer);

 private:
  struct Question {
    std::vector<BlockIdentity> blocks;
    Answer answer;
    absl::Time asked;
  };

  void ThreadMain();
  void AnswerOne(Question question);

  RemoteStore& store_;
  const std::function<absl::Time()> clock_;

  std::mutex mu_;
  std::condition_variable work_;
  std::deque<Question> questions_;  // guarded by mu_
  bool stop_ = false;               // guarded by mu_

  std::thread thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
