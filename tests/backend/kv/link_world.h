// LinkWorld: a DiskLink between a store and a host pool in memory.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "backend/kv/disk_link.h"
#include "backend/kv/file_buffer.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {

class LinkWorld {
 public:
  // `recoder`: between host and store, if they are not the same.
  LinkWorld(BlockStore& store, int32_t host_blocks, const KvRecoder* recoder = nullptr)
      : size_((recoder != nullptr ? recoder->host_bytes() : store.shape().payload).size()),
        count_(static_cast<size_t>(host_blocks)),
        host_(MakeFileBuffer(static_cast<int64_t>(size_ * count_))),
        meter_(absl::Now()) {
    DiskLinkOptions options;
    options.host = [this](BlockId block) {
      return std::span(host_.get() + block.index() * size_, size_);
    };
    options.host_blocks = Blocks(host_blocks);
    options.recoder = recoder;
    options.log = [this](const std::string& text) {
      std::lock_guard<std::mutex> lock(mu_);
      complaints_.push_back(text);
    };
    options.clock = absl::Now;
    link_ = std::make_unique<DiskLink>(store, std::move(options), meter_);
    link_->SetListener([this] {
      std::lock_guard<std::mutex> lock(mu_);
      called_ = true;
      ready_.notify_all();
    });
  }

  void StartSpill(int64_t id, const std::vector<TestBlock>& blocks, int32_t slot, size_t host) {
    Copy copy = Named(id, blocks, LinkDirection::kHostToDisk);
    for (const TestBlock& block : blocks) {
      std::memcpy(host_.get() + host * size_, block.bytes.data(), size_);
      copy.blocks.push_back({BlockId(static_cast<int32_t>(host++)), BlockId(slot++)});
      copy.tokens.insert(copy.tokens.end(), block.tokens.begin(), block.tokens.end());
    }
    link_->Start(std::vector{copy});
  }
  void StartStage(int64_t id, const std::vector<TestBlock>& blocks, int32_t slot, size_t host) {
    Copy copy = Named(id, blocks, LinkDirection::kDiskToHost);
    for (size_t i = 0; i < blocks.size(); ++i) {
      copy.blocks.push_back({BlockId(slot++), BlockId(static_cast<int32_t>(host++))});
    }
    link_->Start(std::vector{copy});
  }
  CopyResult Spill(int64_t id, const std::vector<TestBlock>& blocks, int32_t slot, size_t host) {
    StartSpill(id, blocks, slot, host);
    return Take(1)[0];
  }
  CopyResult Stage(int64_t id, const std::vector<TestBlock>& blocks, int32_t slot, size_t host) {
    StartStage(id, blocks, slot, host);
    return Take(1)[0];
  }
  void Revoke(const std::vector<CopyId>& ids) { link_->Revoke(ids); }
  void Stop() { link_.reset(); }

  // Waits until `count` results have come.
  std::vector<CopyResult> Take(size_t count) {
    std::vector<CopyResult> all;
    while (all.size() < count) {
      std::unique_lock<std::mutex> lock(mu_);
      ready_.wait(lock, [this] { return called_; });
      called_ = false;
      lock.unlock();
      for (CopyResult& result : link_->TakeFinished()) all.push_back(std::move(result));
    }
    return all;
  }

  void ClearHost() { std::memset(host_.get(), 0, size_ * count_); }
  std::vector<std::byte> HostBlock(size_t i) const {
    return {host_.get() + i * size_, host_.get() + (i + 1) * size_};
  }
  std::vector<std::string> complaints() {
    std::lock_guard<std::mutex> lock(mu_);
    return complaints_;
  }
  ActivitySnapshot Activity() { return meter_.Snapshot(absl::Now()); }

 private:
  static Copy Named(int64_t id, const std::vector<TestBlock>& blocks, LinkDirection direction) {
    Copy copy;
    copy.id = CopyId(id);
    copy.direction = direction;
    for (const TestBlock& block : blocks) copy.identities.push_back(block.identity);
    return copy;
  }

  const size_t size_;
  const size_t count_;
  const FileBuffer host_;
  ActivityMeter meter_;
  std::mutex mu_;
  std::condition_variable ready_;
  bool called_ = false;                  // guarded by mu_
  std::vector<std::string> complaints_;  // guarded by mu_
  std::unique_ptr<DiskLink> link_;
};

}  // namespace sluice::testing
