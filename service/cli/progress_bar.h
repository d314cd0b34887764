// ProgressBar: how far a long job is. On a terminal, one line that redraws itself; elsewhere a
// plain line for every tenth of the way, so that logs stay readable.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

namespace sluice {

class ProgressBar {
 public:
  // `total` steps; `label` begins the line.
  ProgressBar(std::ostream& out, bool is_terminal, std::string label, int64_t total);
  // Ends the line if it was begun.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Shows `done` of `total` and `note` ("12.1 req/s"). `done` beyond the total counts as the total.
  void Update(int64_t done, const std::string& note);

 private:
  std::ostream& out_;
  const bool is_terminal_;
  const std::string label_;
  const int64_t total_;
  int64_t last_tenth_ = -1;
  size_t last_width_ = 0;
};

}  // namespace sluice
