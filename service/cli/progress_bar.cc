#include "service/cli/progress_bar.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/cli/table.h"

namespace sluice {
namespace {
constexpr int64_t kBarWidth = 30;
}  // namespace

ProgressBar::ProgressBar(std::ostream& out, bool is_terminal, std::string label, int64_t total)
    : out_(out),
      is_terminal_(is_terminal),
      label_(std::move(label)),
      total_(std::max<int64_t>(total, 1)) {}

ProgressBar::~ProgressBar() {
  if (is_terminal_ && last_width_ > 0) out_ << std::endl;
}

void ProgressBar::Update(int64_t done, const std::string& note) {
  done = std::clamp<int64_t>(done, 0, total_);
  const std::string count = absl::StrCat(done, "/", total_, note.empty() ? "" : "  ", note);
  if (!is_terminal_) {
    const int64_t tenth = done * 10 / total_;
    if (tenth == last_tenth_) return;
    last_tenth_ = tenth;
    out_ << label_ << ' ' << count << std::endl;
    return;
  }
  const int64_t filled = done * kBarWidth / total_;
  std::string line =
      absl::StrCat(label_, " [", std::string(static_cast<size_t>(filled), '#'),
                   std::string(static_cast<size_t>(kBarWidth - filled), '.'), "] ", count);
  const size_t width = DisplayWidth(line);
  if (width < last_width_) line.append(last_width_ - width, ' ');
  last_width_ = width;
  out_ << '\r' << line << std::flush;
}

}  // namespace sluice
