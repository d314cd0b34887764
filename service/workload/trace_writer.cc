#include "service/workload/trace_writer.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

// By hand: keys in the order of the format's description, one pass, no tree.
std::string ToJson(const TraceLine& line, Tokens block_tokens) {
  std::string text = absl::StrCat("{\"arrival_ms\":", absl::ToInt64Milliseconds(line.arrival),
                                  ",\"input_tokens\":", line.input.value(),
                                  ",\"output_tokens\":", line.output.value());
  if (line.tenant != 0) absl::StrAppend(&text, ",\"tenant\":", line.tenant);
  if (line.priority != 0) absl::StrAppend(&text, ",\"priority\":", line.priority);
  absl::StrAppend(&text, ",\"block_tokens\":", block_tokens.value(), ",\"block_hashes\":[",
                  absl::StrJoin(line.block_hashes, ","), "]}\n");
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TraceWriter>> TraceWriter::Create(const std::string& path,
                                                                 Tokens block_tokens) {
  if (block_tokens < Tokens(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": blocks of ", block_tokens.value(), " tokens; want at least 1"));
  }
  // zlib's "T" writes text as it is.
  gzFile file = gzopen(path.c_str(), absl::EndsWith(path, ".gz") ? "wb" : "wbT");
  if (file == nullptr) {
    return absl::UnavailableError(
        absl::StrCat(path, ": cannot be written: ", std::strerror(errno), "; check the path"));
  }
  return std::unique_ptr<TraceWriter>(new TraceWriter(path, block_tokens, file));
}

TraceWriter::TraceWriter(std::string path, Tokens block_tokens, gzFile file)
    : path_(std::move(path)), block_tokens_(block_tokens), file_(file) {}

TraceWriter::~TraceWriter() { (void)Close(); }

absl::Status TraceWriter::FailLocked(const char* what) {
  if (status_.ok()) {
    status_ = absl::UnavailableError(
        absl::StrCat(path_, ": ", what, ": ", std::strerror(errno), "; check space and path"));
  }
  return status_;
}

absl::Status TraceWriter::Append(const TraceLine& line) {
  const std::string text = ToJson(line, block_tokens_);
  const std::lock_guard<std::mutex> lock(mu_);
  if (!status_.ok()) return status_;
  if (file_ == nullptr) return absl::UnavailableError(absl::StrCat(path_, ": is closed"));
  const int written = gzwrite(file_, text.data(), static_cast<unsigned>(text.size()));
  if (written != static_cast<int>(text.size())) return FailLocked("cannot be written");
  return absl::OkStatus();
}

absl::Status TraceWriter::Close() {
  const std::lock_guard<std::mutex> lock(mu_);
  if (file_ == nullptr) return status_;
  if (gzclose(std::exchange(file_, nullptr)) != Z_OK) return FailLocked("cannot be closed");
  return status_;
}

}  // namespace sluice
