// A gateway's index of the blocks an engine holds, kept by its KV events.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/e2e/gateway/engine.h"

namespace sluice::gateway {

class Index {
 public:
  struct Block {
    std::optional<int64_t> parent;
    Ids tokens;
    friend bool operator==(const Block&, const Block&) = default;
  };

  // Subscribes after number `start`. Knows `blocks` already.
  Index(const Channel& channel, uint64_t start, std::map<int64_t, Block> blocks = {});

  // The server answers before there is any event.
  void WaitForHeaders() { Check(call_->WaitForHeaders(), "SubscribeKvEvents: no headers"); }

  // Reads one batch and checks its number. False at the end.
  bool ReadBatch();
  // Reads until all full blocks of `ids` are known, or fails.
  void ReadUntilHas(const Ids& ids, size_t width);
  grpc::Status Finish() { return call_->Finish(); }
  void Cancel();

  // How many leading blocks of `ids` the engine holds.
  size_t Prefix(const Ids& ids, size_t width) const;

  const std::map<int64_t, Block>& blocks() const { return blocks_; }
  uint64_t last() const { return last_; }
  size_t removed() const { return removed_; }

 private:
  static void Check(bool good, const std::string& what);
  void TakeStored(const Fields& stored);

  std::unique_ptr<Call> call_;
  std::map<int64_t, Block> blocks_;
  uint64_t last_ = 0;
  size_t removed_ = 0;
};

// Eviction, offload and resumption; the server has `width` tokens per block, room for
// `device_blocks` on the device and `host_blocks` on the host. Prints "last N".
void FollowEvents(const Channel& channel, size_t width, size_t device_blocks, size_t host_blocks);

// After a restart of the server: `last` is a number of the server before.
void FollowAfterRestart(const Channel& channel, size_t width, uint64_t last);

}  // namespace sluice::gateway
