#include "backend/kv/storage_link.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

bool IsStorage(const Copy& copy) {
  return copy.direction == LinkDirection::kDiskToHost ||
         copy.direction == LinkDirection::kHostToDisk;
}

StoreShape ShapeFor(const KvShape& blocks, const KvRecoder& recoder) {
  return StoreShape{Blocks(0), recoder.stored_bytes(), blocks.layers, Tokens(blocks.block_tokens)};
}

}  // namespace

absl::StatusOr<StoreShape> StoredShape(const KvShape& blocks, KvCodecKind host,
                                       KvCodecKind stored) {
  SLUICE_ASSIGN_OR_RETURN(const KvRecoder recoder, KvRecoder::Create(blocks, host, stored));
  return ShapeFor(blocks, recoder);
}

absl::Status StorageLink::Open(StorageLinkOptions options, ActivityMeter& meter) {
  if (options.store == nullptr) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(
      recoder_, KvRecoder::Create(options.blocks, options.host_codec, options.stored_codec));
  const StoreShape want = ShapeFor(options.blocks, *recoder_);
  const StoreShape& have = options.store->shape();
  if (have.payload != want.payload || have.layers != want.layers ||
      have.tokens_per_block != want.tokens_per_block) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the disk tier has blocks of ", have.payload.value(), " bytes in ", have.layers,
        " layers, want ", want.payload.value(), " bytes in ", want.layers));
  }
  if (options.link.host_blocks == Blocks(0)) {
    return absl::InvalidArgumentError("a disk tier needs a host pool; give it at least one block");
  }
  options.link.recoder = recoder_->same() ? nullptr : &*recoder_;
  link_ = std::make_unique<DiskLink>(*options.store, std::move(options.link), meter);
  return absl::OkStatus();
}

void StorageLink::SetCopyListener(const std::function<void()>& on_done) {
  if (link_ != nullptr) link_->SetListener(on_done);
}

void StorageLink::StartCopies(std::span<const Copy> copies,
                              absl::FunctionRef<void(std::span<const Copy>)> others) {
  if (link_ == nullptr || std::none_of(copies.begin(), copies.end(), IsStorage)) {
    others(copies);
    return;
  }
  std::array<std::vector<Copy>, 2> parts;  // the others', the store's
  for (const Copy& copy : copies) parts[IsStorage(copy) ? 1 : 0].push_back(copy);
  others(parts[0]);
  link_->Start(parts[1]);
}

void StorageLink::RevokeCopies(std::span<const CopyId> copies) {
  if (link_ != nullptr) link_->Revoke(copies);
}

void StorageLink::ForgetDiskBlocks(std::span<const BlockId> slots) {
  if (link_ != nullptr) link_->Forget(slots);
}

void StorageLink::TakeFinished(std::vector<CopyResult>* results) {
  if (link_ == nullptr) return;
  for (CopyResult& result : link_->TakeFinished()) results->push_back(std::move(result));
}

}  // namespace sluice
