#include "backend/kv/disk_namespace.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/base/status_macros.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

constexpr size_t kIdDigits = 32;

XXH128_hash_t Fingerprint(const DiskNamespace& space) {
  const std::string text = absl::StrCat(
      "sluice disk kv\nmodel ", space.model, "\ndtype ", space.dtype, "\ncodec ", space.codec,
      "\nlayout ", kDiskLayoutVersion, "\nlayers ", space.shape.layers, "\nblock tokens ",
      space.shape.tokens_per_block.value(), "\nblock bytes ", space.shape.payload.value(),
      "\nlittle endian ", std::endian::native == std::endian::little ? 1 : 0, "\n",
      space.names.empty() ? "" : absl::StrCat("names ", space.names, "\n"));
  return XXH3_128bits(text.data(), text.size());
}

bool IsId(const std::string& name) {
  return name.size() == kIdDigits && std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
         });
}

absl::Status Wrong(const std::string& where, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
}

absl::Status ReadText(const nlohmann::json& json, const char* field, const std::string& where,
                      std::string* target) {
  const auto found = json.find(field);
  if (found == json.end() || !found->is_string()) {
    return Wrong(where, absl::StrCat(field, ": want a text"));
  }
  *target = found->get<std::string>();
  return absl::OkStatus();
}

absl::Status ReadCount(const nlohmann::json& json, const char* field, const std::string& where,
                       int64_t* target) {
  const auto found = json.find(field);
  if (found == json.end() || !found->is_number_integer() || found->get<int64_t>() < 1) {
    return Wrong(where, absl::StrCat(field, ": want a positive number"));
  }
  *target = found->get<int64_t>();
  return absl::OkStatus();
}

}  // namespace

std::string DiskNamespace::Id() const {
  const XXH128_hash_t hash = Fingerprint(*this);
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

uint64_t DiskNamespace::Seed() const { return Fingerprint(*this).low64; }

std::string DiskNamespace::ToJson() const {
  nlohmann::ordered_json json;
  json["name"] = name;
  json["model"] = model;
  json["dtype"] = dtype;
  json["codec"] = codec;
  if (!names.empty()) json["names"] = names;
  json["layout_version"] = kDiskLayoutVersion;
  json["layers"] = shape.layers;
  json["tokens_per_block"] = shape.tokens_per_block.value();
  json["bytes_per_block"] = shape.payload.value();
  return json.dump(2) + "\n";
}

absl::StatusOr<DiskNamespace> DiskNamespace::FromJson(const std::string& text,
                                                      const std::string& where) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Wrong(where, "is not a JSON object");
  DiskNamespace space;
  int64_t tokens = 0;
  int64_t bytes = 0;
  SLUICE_RETURN_IF_ERROR(ReadText(json, "name", where, &space.name));
  SLUICE_RETURN_IF_ERROR(ReadText(json, "model", where, &space.model));
  SLUICE_RETURN_IF_ERROR(ReadText(json, "dtype", where, &space.dtype));
  SLUICE_RETURN_IF_ERROR(ReadText(json, "codec", where, &space.codec));
  if (json.contains("names")) SLUICE_RETURN_IF_ERROR(ReadText(json, "names", where, &space.names));
  SLUICE_RETURN_IF_ERROR(ReadCount(json, "layers", where, &space.shape.layers));
  SLUICE_RETURN_IF_ERROR(ReadCount(json, "tokens_per_block", where, &tokens));
  SLUICE_RETURN_IF_ERROR(ReadCount(json, "bytes_per_block", where, &bytes));
  space.shape.tokens_per_block = Tokens(tokens);
  space.shape.payload = Bytes(bytes);
  return space;
}

std::vector<std::string> ListNamespaces(const std::string& directory) {
  std::vector<std::string> ids;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (IsId(name) && it->is_directory(error)) ids.push_back(name);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

absl::StatusOr<DiskNamespace> ReadNamespace(const std::string& directory, const std::string& id) {
  const std::string path = absl::StrCat(directory, "/", id, "/", kNamespaceFile);
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return DiskNamespace::FromJson(text, path);
}

}  // namespace sluice
