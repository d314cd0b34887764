#include "service/workload/trace_reader.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/workload/line_file.h"
#include "service/workload/random.h"
#include "service/workload/trace_line_parser.h"

namespace sluice {
namespace {

absl::Status CheckOptions(const TraceOptions& o) {
  const auto error = [](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  if (o.scale < 1) return error("trace: scale: ", o.scale, " is less than 1");
  if (o.output_scale < 0) return error("trace: output scale: ", o.output_scale, " is negative");
  if (o.max_input < Tokens(1)) {
    return error("trace: max input: ", o.max_input.value(), " is less than 1 token");
  }
  if (!(o.keep > 0 && o.keep <= 1)) return error("trace: keep: ", o.keep, " is not in (0, 1]");
  if (!(o.rate_scale > 0 && std::isfinite(o.rate_scale))) {
    return error("trace: rate scale: ", o.rate_scale, " is not a number above 0");
  }
  if (o.max_requests < 1) {
    return error("trace: most requests: ", o.max_requests, " is less than 1");
  }
  return absl::OkStatus();
}

int64_t Scaled(int64_t tokens, int64_t scale) { return std::max<int64_t>(1, tokens / scale); }

// Which conversation tree the request belongs to (TraceOptions::keep).
std::string TreeOf(const ParsedTraceLine& line) {
  if (line.session.has_value()) return line.session->substr(0, line.session->find('/'));
  if (!line.block_hashes.has_value()) return "";
  const std::vector<uint64_t>& ids = *line.block_hashes;
  return absl::StrCat("b", ids[ids.size() > 1 ? 1 : 0]);
}

// True for about `share` of all trees, always the same ones; more with a larger share.
bool KeepsTree(const std::string& tree, double share) {
  if (share >= 1) return true;
  const uLong crc =
      crc32(0, reinterpret_cast<const Bytef*>(tree.data()), static_cast<uInt>(tree.size()));
  return static_cast<double>(crc) * 0x1.0p-32 < share;
}

// The text that line number `index` holds and no line before it.
uint64_t OwnText(int64_t index) { return MixBits(~static_cast<uint64_t>(index)); }

// Ids are chained, so an id belongs to one index. (id - index, index) therefore names a block as
// well as its id does, and neighbours with neighbouring ids become one segment.
PromptShape BlockFormPrompt(const ParsedTraceLine& line, int64_t index) {
  PromptShape prompt;
  const Tokens input(line.input_tokens);
  const Tokens block(line.block_tokens);
  for (size_t i = 0; i < line.block_hashes->size() && prompt.length() < input; ++i) {
    prompt.Append((*line.block_hashes)[i] - i, std::min(block, input - prompt.length()));
  }
  prompt.Append(OwnText(index), input - prompt.length());
  return prompt;
}

// Turns lines into requests. Remembers every line's prompt, for lines that refer to it.
class TraceBuilder {
 public:
  explicit TraceBuilder(const TraceOptions& options) : options_(options) {}

  int64_t lines() const { return static_cast<int64_t>(prompts_.size()); }

  // Takes the next line; false if it and all later ones come after the time limit.
  bool Add(ParsedTraceLine line);
  Trace Take() { return std::move(trace_); }
  bool full() const {
    return static_cast<int64_t>(trace_.requests.size()) >= options_.max_requests;
  }

 private:
  void Scale(ParsedTraceLine* line) const;
  PromptShape Prompt(const ParsedTraceLine& line) const;
  bool LeavesOut(const ParsedTraceLine& line);
  int64_t SessionIndex(const std::string& session);

  const TraceOptions& options_;
  std::vector<PromptShape> prompts_;  // by line; empty where no line can refer to it
  absl::flat_hash_map<std::string, int64_t> sessions_;
  Trace trace_;
};

void TraceBuilder::Scale(ParsedTraceLine* line) const {
  if (options_.scale == 1 && options_.output_scale == 0) return;
  const int64_t output_scale = options_.output_scale > 0 ? options_.output_scale : options_.scale;
  line->input_tokens = Scaled(line->input_tokens, options_.scale);
  line->output_tokens = Scaled(line->output_tokens, output_scale);
  line->shared_prefix_tokens /= options_.scale;
  if (line->block_tokens > 0) line->block_tokens = Scaled(line->block_tokens, options_.scale);
  if (!line->block_hashes.has_value()) return;
  const int64_t blocks = (line->input_tokens + line->block_tokens - 1) / line->block_tokens;
  if (static_cast<size_t>(blocks) < line->block_hashes->size()) {
    line->block_hashes->resize(static_cast<size_t>(blocks));
  }
}

PromptShape TraceBuilder::Prompt(const ParsedTraceLine& line) const {
  const int64_t index = lines();
  if (line.block_hashes.has_value()) return BlockFormPrompt(line, index);
  PromptShape prompt;
  if (line.ref.has_value()) {
    const PromptShape& earlier = prompts_[static_cast<size_t>(*line.ref)];
    const Tokens shared(std::min(line.shared_prefix_tokens, line.input_tokens));
    prompt = earlier.Prefix(std::min(shared, earlier.length()));
  }
  prompt.Append(OwnText(index), Tokens(line.input_tokens) - prompt.length());
  return prompt;
}

bool TraceBuilder::LeavesOut(const ParsedTraceLine& line) {
  if (Tokens(line.input_tokens) > options_.max_input) {
    ++trace_.left_out_too_long;
    return true;
  }
  if (!KeepsTree(TreeOf(line), options_.keep)) {
    ++trace_.left_out_trees;
    return true;
  }
  return false;
}

int64_t TraceBuilder::SessionIndex(const std::string& session) {
  return sessions_.try_emplace(session, static_cast<int64_t>(sessions_.size())).first->second;
}

bool TraceBuilder::Add(ParsedTraceLine line) {
  if (options_.rate_scale != 1) {
    line.arrival_ms =
        static_cast<int64_t>(static_cast<double>(line.arrival_ms) / options_.rate_scale);
  }
  const absl::Duration arrival = absl::Milliseconds(line.arrival_ms);
  if (arrival > options_.time_limit) return false;
  Scale(&line);
  TraceRequest request;
  request.prompt = Prompt(line);
  // Only the session form refers to lines.
  prompts_.push_back(line.session.has_value() ? request.prompt : PromptShape());
  if (LeavesOut(line)) return true;
  request.arrival = arrival;
  request.output = Tokens(line.output_tokens);
  request.tenant = static_cast<int32_t>(line.tenant);
  request.priority = static_cast<int32_t>(line.priority);
  if (line.session.has_value()) request.session = SessionIndex(*line.session);
  request.turn = static_cast<int32_t>(line.turn);
  request.block_tokens = Tokens(line.block_tokens);
  request.names_partial_block = line.block_hashes.has_value();
  trace_.requests.push_back(std::move(request));
  return true;
}

absl::Status ReadLines(LineFile& file, TraceBuilder* builder) {
  std::string text;
  int64_t latest_ms = 0;
  while (!builder->full()) {
    SLUICE_ASSIGN_OR_RETURN(const bool more, file.Next(&text));
    if (!more) break;
    if (absl::StripAsciiWhitespace(text).empty()) continue;
    SLUICE_ASSIGN_OR_RETURN(ParsedTraceLine line,
                            ParseTraceLine(text, file.Where(), builder->lines()));
    if (line.arrival_ms < latest_ms) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.Where(), ": arrival_ms: ", line.arrival_ms, " is before an earlier line's ",
          latest_ms, "; sort the file by arrival_ms"));
    }
    latest_ms = line.arrival_ms;
    if (!builder->Add(std::move(line))) break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Trace> ReadTrace(const std::string& path, const TraceOptions& options) {
  SLUICE_RETURN_IF_ERROR(CheckOptions(options));
  SLUICE_ASSIGN_OR_RETURN(LineFile file, LineFile::Open(path));
  TraceBuilder builder(options);
  SLUICE_RETURN_IF_ERROR(ReadLines(file, &builder));
  Trace trace = builder.Take();
  if (options.start_at_zero && !trace.requests.empty()) {
    const absl::Duration first = trace.requests.front().arrival;
    for (TraceRequest& request : trace.requests) request.arrival -= first;
  }
  return trace;
}

}  // namespace sluice
