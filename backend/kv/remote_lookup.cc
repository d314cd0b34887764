#include "backend/kv/remote_lookup.h"

#include <algorithm>
#include <utility>

namespace sluice {
namespace {

constexpr size_t kMostQuestions = 4096;
// The breaker may open at any time; this often it is looked at.
constexpr absl::Duration kLookAtBreaker = absl::Milliseconds(50);

}  // namespace

RemoteLookup::RemoteLookup(RemoteStore& store, std::function<absl::Time()> clock)
    : store_(store), clock_(std::move(clock)), thread_([this] { ThreadMain(); }) {}

RemoteLookup::~RemoteLookup() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  work_.notify_all();
  thread_.join();
}

bool RemoteLookup::Ask(std::vector<BlockIdentity> blocks, Answer answer) {
  if (!store_.pool().closed()) return false;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (stop_ || questions_.size() >= kMostQuestions) return false;
    questions_.push_back({std::move(blocks), std::move(answer), clock_()});
  }
  work_.notify_all();
  return true;
}

void RemoteLookup::ThreadMain() {
  std::unique_lock<std::mutex> lock(mu_);
  while (!stop_) {
    if (!questions_.empty()) {
      Question question = std::move(questions_.front());
      questions_.pop_front();
      lock.unlock();
      AnswerOne(std::move(question));
      lock.lock();
      continue;
    }
    lock.unlock();
    store_.pool().Tend();
    lock.lock();
    work_.wait_for(lock, absl::ToChronoNanoseconds(kLookAtBreaker),
                   [this] { return stop_ || !questions_.empty(); });
  }
}

void RemoteLookup::AnswerOne(Question question) {
  size_t found = 0;
  if (clock_() - question.asked < store_.pool().timeout()) {
    found = store_.Find(question.blocks).value_or(0);
  }
  question.answer(found);
}

}  // namespace sluice
