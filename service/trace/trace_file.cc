#include "service/trace/trace_file.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

// The ring must not turn over within this time: 32,768 events last seconds on the fastest server.
constexpr absl::Duration kInterval = absl::Milliseconds(200);

}  // namespace

absl::StatusOr<std::unique_ptr<TraceFile>> TraceFile::Create(const std::string& path,
                                                             const EngineTrace& trace, Bytes limit,
                                                             absl::Time origin,
                                                             const std::string& device,
                                                             const std::string& storage) {
  std::unique_ptr<TraceFile> file(new TraceFile(path, trace, limit, origin, device, storage));
  if (file->file_.good()) return file;
  return absl::UnavailableError(absl::StrCat("cannot write the trace to ", path,
                                             "; is the folder there and writable? (--trace-file)"));
}

TraceFile::TraceFile(const std::string& path, const EngineTrace& trace, Bytes limit,
                     absl::Time origin, const std::string& device, const std::string& storage)
    : path_(path),
      trace_(trace),
      limit_(limit.value()),
      text_(origin, device, storage),
      file_(path, std::ios::binary | std::ios::trunc) {
  const std::string header = text_.Header();
  file_ << header << std::flush;
  written_ = static_cast<int64_t>(header.size());
  if (file_.good()) thread_ = std::thread([this] { ThreadMain(); });
}

TraceFile::~TraceFile() {
  const absl::Status closed = Close();  // whoever cares has called it
  (void)closed;
}

TraceFile::Stats TraceFile::stats() const {
  std::lock_guard<std::mutex> lock(mu_);
  return stats_;
}

void TraceFile::ThreadMain() {
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mu_);
      stop_.wait_for(lock, absl::ToChronoNanoseconds(kInterval), [this] { return stopping_; });
      if (stopping_) return;
    }
    WriteNew();
  }
}

void TraceFile::WriteNew() {
  std::vector<TraceEvent> events;
  std::string out;
  const uint64_t end = trace_.ring().end();
  Stats stats = this->stats();
  while (next_ < end) {
    events.clear();
    const uint64_t from = next_;
    next_ = trace_.ring().Read(from, &events);
    const uint64_t gone = next_ - from - events.size();
    stats.lost += static_cast<int64_t>(gone);
    out.clear();
    if (gone > 0 && !events.empty()) text_.AppendGap(gone, events.front().start, &out);
    for (const TraceEvent& event : events) text_.Append(event, &out);
    // What is left out is not the latest but all that follows: a trace with a clear end.
    stats.full = stats.full || written_ + static_cast<int64_t>(out.size()) > limit_;
    if (stats.full) continue;
    file_ << out;
    written_ += static_cast<int64_t>(out.size());
    stats.events += static_cast<int64_t>(events.size());
  }
  file_.flush();
  std::lock_guard<std::mutex> lock(mu_);
  stats_ = stats;
}

absl::Status TraceFile::Close() {
  if (!thread_.joinable()) return absl::OkStatus();
  {
    std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    stop_.notify_all();
  }
  thread_.join();
  WriteNew();
  file_ << text_.Footer();
  file_.close();
  if (file_.good()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the trace in ", path_, " is incomplete: writing failed; is the disk full?"));
}

}  // namespace sluice
