#include "tests/e2e/gateway/index.h"

#include <algorithm>

#include "tests/e2e/gateway/check.h"

namespace sluice::gateway {

Index::Index(const Channel& channel, uint64_t start, std::map<int64_t, Block> blocks)
    : call_(std::make_unique<Call>(channel, EngineMethod("SubscribeKvEvents"),
                                   Writer().Int(1, start).bytes())),
      blocks_(std::move(blocks)),
      last_(start) {}

void Index::Check(bool good, const std::string& what) { gateway::Check(good, what); }

void Index::Cancel() {
  call_->Cancel();
  call_->Finish();
}

void Index::TakeStored(const Fields& stored) {
  std::optional<int64_t> parent;
  if (stored.Has(2)) parent = static_cast<int64_t>(stored.Int(2));
  Check(!stored.All(1).empty(), "a stored event without blocks");
  for (const std::string& bytes : stored.All(1)) {
    const Fields block(bytes);
    const auto hash = static_cast<int64_t>(block.Int(1));
    const std::vector<uint64_t> tokens = block.Ints(2);
    CheckEqual(block.Int(3), tokens.size(), "block_size and token_ids");
    Check(blocks_.emplace(hash, Block{parent, Ids(tokens.begin(), tokens.end())}).second,
          "a block is stored that is known");
    parent = hash;
  }
}

bool Index::ReadBatch() {
  const std::optional<std::string> bytes = call_->Read();
  if (!bytes.has_value()) return false;
  const Fields batch(*bytes);
  const uint64_t number = batch.Int(1);
  Check(number > 0, "a batch with number 0");
  if (last_ > 0) CheckEqual(number, last_ + 1, "sequence_number");
  last_ = number;
  Check(batch.Double(2) > 1.6e9, "timestamp is not in seconds since 1970");
  for (const std::string& event_bytes : batch.All(3)) {
    const Fields event(event_bytes);
    Check(event.Has(2) + event.Has(3) + event.Has(4) == 1, "an event of no kind, or of several");
    if (event.Has(2)) TakeStored(event.Message(2));
    if (event.Has(4)) blocks_.clear();
    for (const uint64_t hash : event.Message(3).Ints(1)) {
      Check(blocks_.erase(static_cast<int64_t>(hash)) == 1, "a block is removed that is unknown");
      ++removed_;
    }
  }
  return true;
}

size_t Index::Prefix(const Ids& ids, size_t width) const {
  std::optional<int64_t> parent;
  size_t found = 0;
  for (; (found + 1) * width <= ids.size(); ++found) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(found * width);
    const Block want{parent, Ids(begin, begin + static_cast<std::ptrdiff_t>(width))};
    const auto it = std::find_if(blocks_.begin(), blocks_.end(),
                                 [&want](const auto& entry) { return entry.second == want; });
    if (it == blocks_.end()) return found;
    parent = it->first;
  }
  return found;
}

void Index::ReadUntilHas(const Ids& ids, size_t width) {
  while (Prefix(ids, width) < ids.size() / width) Check(ReadBatch(), "the events end");
}

namespace {

uint32_t Run(const Channel& channel, const Ids& ids) {
  GenerateOptions options;
  options.ids = ids;
  options.max_tokens = 2;
  return GenerateOne(channel, options).cached_tokens;
}

// A new subscriber sees what the old one has come to know.
void CheckSnapshot(const Channel& channel, Index* old) {
  Index fresh(channel, 0);
  // The numbers of a snapshot come to both; live batches may follow until both are equal.
  for (int i = 0; i < 1000; ++i) {
    if (fresh.last() > 0 && fresh.last() == old->last()) break;
    Index& behind = fresh.last() <= old->last() ? fresh : *old;
    Check(behind.ReadBatch(), "the events end");
  }
  CheckEqual(fresh.last(), old->last(), "numbers of two subscribers");
  Check(fresh.blocks() == old->blocks(), "a snapshot and what events tell differ");
  fresh.Cancel();
}

}  // namespace

void FollowEvents(const Channel& channel, size_t width, size_t device_blocks, size_t host_blocks) {
  Index index(channel, 0);
  index.WaitForHeaders();
  const size_t length = device_blocks / 2;  // blocks of a prompt
  const auto prompt = [&](uint64_t seed) { return MakeIds(seed, length * width + 1); };
  CheckEqual(Run(channel, prompt(1)), 0U, "cached_tokens of a new prompt");
  index.ReadUntilHas(prompt(1), width);
  CheckEqual(Run(channel, prompt(1)), length * width, "cached_tokens of a known prompt");

  // Enough others to take all of the device: the first one lives on in host memory.
  for (uint64_t seed = 2; seed <= 4; ++seed) {
    Run(channel, prompt(seed));
    index.ReadUntilHas(prompt(seed), width);
  }
  CheckEqual(index.Prefix(prompt(1), width), length, "blocks of the first prompt after offload");
  CheckEqual(index.removed(), size_t{0}, "blocks removed though all are on the host");
  CheckEqual(Run(channel, prompt(1)), length * width, "cached_tokens after offload");

  // More than device and host hold together.
  const size_t others = (device_blocks + host_blocks) / length + 4;
  for (uint64_t seed = 5; seed < 5 + others; ++seed) {
    Run(channel, prompt(seed));
    index.ReadUntilHas(prompt(seed), width);
  }
  Check(index.removed() > 0, "no block was removed though there is no room for all");
  Check(index.blocks().size() <= device_blocks + host_blocks, "more blocks than there is room for");
  CheckSnapshot(channel, &index);
  // Which ones go is the engine's business; the index knows.
  uint64_t victim = 1;
  for (uint64_t seed = 1; seed < 5 + others; ++seed) {
    if (index.Prefix(prompt(seed), width) < index.Prefix(prompt(victim), width)) victim = seed;
  }
  const size_t left = index.Prefix(prompt(victim), width);
  Check(left < length, "no prompt has lost a block");
  Check(Run(channel, prompt(victim)) <= left * width, "more was cached than the events tell");

  // Away for a while.
  index.ReadUntilHas(prompt(victim), width);
  const uint64_t last = index.last();
  index.Cancel();
  Run(channel, prompt(100));
  Index resumed(channel, last, index.blocks());
  resumed.ReadUntilHas(prompt(100), width);
  CheckSnapshot(channel, &resumed);
  std::cout << "last " << resumed.last() << std::endl;
}

void FollowAfterRestart(const Channel& channel, size_t width, uint64_t last) {
  Index stale(channel, last);
  Check(!stale.ReadBatch(), "a number of the server before is resumed after");
  CheckEqual(stale.Finish().error_code(), grpc::StatusCode::OUT_OF_RANGE,
             "a number of the server before");
  Index index(channel, 0);
  index.WaitForHeaders();
  const Ids prompt = MakeIds(1, 4 * width + 1);
  CheckEqual(Run(channel, prompt), 0U, "cached_tokens after a restart");
  index.ReadUntilHas(prompt, width);
  CheckEqual(index.blocks().size(), size_t{4}, "blocks after a restart");
  Check(index.last() < last, "numbers do not begin anew");
}

}  // namespace sluice::gateway
