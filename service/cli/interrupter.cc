#include "service/cli/interrupter.h"

#include <unistd.h>

namespace sluice {

Interrupter::Interrupter() : watcher_([this](int signal, int count) { OnSignal(signal, count); }) {}

void Interrupter::SetHandler(std::function<void()> handler) {
  const std::lock_guard<std::mutex> lock(mu_);
  handler_ = std::move(handler);
  if (handler_ && signal_ != 0) handler_();
}

int Interrupter::signal() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return signal_;
}

void Interrupter::OnSignal(int signal, int count) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (count > 1 || !handler_) _exit(128 + signal);
  signal_ = signal;
  handler_();
}

}  // namespace sluice
