// DiskNamespace: what must be equal for one process to use the KV another one has written: the
// model's weights and configuration, the type of KV, its codec, its layout and its sizes. Each has
// a folder of its own, named by a hash over all of that; another model, type or layout finds
// nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/kv/block_store.h"
#include "scheduler/base/units.h"

namespace sluice {

// The order of bytes in a stored block: [layer][K, V][token][kv_head][dim]. A new one is another
// namespace.
inline constexpr int kDiskLayoutVersion = 1;

struct DiskNamespace {
  std::string model;  // fingerprint of weights and configuration
  std::string name;   // for people; not part of the id
  std::string dtype;  // "bf16"
  std::string codec = "raw";
  // How blocks are named: "" for BlockHash(), "sha256" for StrongBlockHash(). The latter in folders
  // only: whatever several servers share has those names anyway.
  std::string names;
  StoreShape shape;  // its slots are not part of the id

  // 32 hex digits.
  std::string Id() const;
  // For block hashes (SchedulerOptions::cache_seed) and checksums.
  uint64_t Seed() const;

  // As `namespace.json` holds it; for people and `sluice cache`.
  std::string ToJson() const;
  // Returns INVALID_ARGUMENT naming `where` and what is wrong.
  static absl::StatusOr<DiskNamespace> FromJson(const std::string& text, const std::string& where);
};

// The file in a namespace's folder that describes it.
inline constexpr char kNamespaceFile[] = "namespace.json";

// The names of all folders of `directory` that are namespaces' (32 hex digits), sorted.
std::vector<std::string> ListNamespaces(const std::string& directory);

// Reads DIRECTORY/ID/namespace.json. Returns NOT_FOUND or INVALID_ARGUMENT naming it.
absl::StatusOr<DiskNamespace> ReadNamespace(const std::string& directory, const std::string& id);

}  // namespace sluice
