// StorageLink: what a backend has of a storage tier (a disk, a remote store): the copies between
// its host pool and the store, with the codecs of both, beside the copies that are its own. Without
// a store it is empty: it takes no copies and gives no results.
//
// Open() first, by one thread; then thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "backend/activity.h"
#include "backend/kv/block_store.h"
#include "backend/kv/disk_link.h"
#include "backend/kv/kv_codec.h"
#include "backend/kv/kv_recoder.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

struct StorageLinkOptions {
  BlockStore* store = nullptr;  // scanned; null: there is no tier
  // What the model computes, before any codec; what it is on the host and in the store.
  KvShape blocks;
  KvCodecKind host_codec = KvCodecKind::kRaw;
  KvCodecKind stored_codec = KvCodecKind::kRaw;
  // The host pool and who is told; `recoder` is filled in.
  DiskLinkOptions link;
};

class StorageLink {
 public:
  // Store, host pool and meter must outlive it.
  // Returns INVALID_ARGUMENT if the store's blocks are not of the size that the codecs make, if one
  // codec cannot follow the other, or without a host pool.
  absl::Status Open(StorageLinkOptions options, ActivityMeter& meter);

  // As Backend's methods of these names.
  void SetCopyListener(const std::function<void()>& on_done);
  // Starts the copies from and to the store, and gives `others` all else, in order and in one call.
  void StartCopies(std::span<const Copy> copies,
                   absl::FunctionRef<void(std::span<const Copy>)> others);
  void RevokeCopies(std::span<const CopyId> copies);
  void ForgetDiskBlocks(std::span<const BlockId> slots);
  // Appends what has come in.
  void TakeFinished(std::vector<CopyResult>* results);

 private:
  std::optional<KvRecoder> recoder_;
  std::unique_ptr<DiskLink> link_;  // null: no store. Goes first: its threads use the recoder
};

// What a store for such blocks must look like, without its number of slots: StorageLink::Open()
// asks for it. Returns as KvRecoder::Create().
absl::StatusOr<StoreShape> StoredShape(const KvShape& blocks, KvCodecKind host, KvCodecKind stored);

}  // namespace sluice
