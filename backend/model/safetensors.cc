#include "backend/model/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backend/model/json_fields.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr char kMetadata[] = "__metadata__";

struct DTypeInfo {
  const char* name;
  int64_t size;
  std::optional<DType> dtype;  // absent: known, but not for computing
};
constexpr DTypeInfo kDTypes[] = {
    {"F32", 4, DType::kF32},   {"F16", 2, DType::kF16},      {"BF16", 2, DType::kBF16},
    {"F64", 8, std::nullopt},  {"I64", 8, std::nullopt},     {"U64", 8, std::nullopt},
    {"I32", 4, std::nullopt},  {"U32", 4, std::nullopt},     {"I16", 2, std::nullopt},
    {"U16", 2, std::nullopt},  {"I8", 1, std::nullopt},      {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt}, {"F8_E4M3", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt},
};

const DTypeInfo* FindDType(const std::string& name) {
  for (const DTypeInfo& info : kDTypes) {
    if (name == info.name) return &info;
  }
  return nullptr;
}

absl::Status Invalid(const std::string& where, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", message));
}

// The header's length, after checking that it fits.
absl::StatusOr<uint64_t> HeaderLength(std::span<const std::byte> file, const std::string& where) {
  if (file.size() < kLengthBytes) {
    return Invalid(where, absl::StrCat("truncated: has ", file.size(),
                                       " bytes, a safetensors file at least ", kLengthBytes));
  }
  uint64_t length = 0;
  for (uint64_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<uint64_t>(file[i]) << (8 * i);
  }
  if (length > kMaxHeaderBytes) {
    return Invalid(where, absl::StrCat("not a safetensors file: header length ", length,
                                       " is over the limit ", kMaxHeaderBytes));
  }
  if (length > file.size() - kLengthBytes) {
    return Invalid(where, absl::StrCat("truncated: header length is ", length, ", the file has ",
                                       file.size() - kLengthBytes, " more bytes"));
  }
  return length;
}

// A list of non-negative integers.
absl::StatusOr<std::vector<int64_t>> ReadInts(const json& entry, const char* field,
                                              const std::string& place) {
  const auto it = entry.find(field);
  if (it == entry.end()) return Invalid(place, absl::StrCat(field, " is missing"));
  if (!it->is_array()) return Invalid(place, absl::StrCat(field, " is not a list"));
  std::vector<int64_t> out;
  for (const json& item : *it) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > uint64_t{INT64_MAX}) {
      return Invalid(place, absl::StrCat(field, ": ", DescribeJson(item),
                                         " is not a non-negative 64-bit integer"));
    }
    out.push_back(static_cast<int64_t>(item.get<uint64_t>()));
  }
  return out;
}

// Shape times element size; nullopt if it overflows.
std::optional<int64_t> ByteSize(const std::vector<int64_t>& shape, int64_t element_size) {
  int64_t bytes = element_size;
  for (const int64_t n : shape) {
    if (n == 0) return 0;  // whatever the others are
  }
  for (const int64_t n : shape) {
    if (__builtin_mul_overflow(bytes, n, &bytes)) return std::nullopt;
  }
  return bytes;
}

absl::Status CheckSize(const SafetensorsEntry& entry, int64_t element_size,
                       const std::string& place) {
  const std::optional<int64_t> want = ByteSize(entry.view.shape, element_size);
  const auto have = static_cast<int64_t>(entry.view.data.size());
  if (want == have) return absl::OkStatus();
  return Invalid(
      place, absl::StrCat("shape [", absl::StrJoin(entry.view.shape, ", "), "] of ", entry.dtype,
                          " takes ", want ? absl::StrCat(*want) : "over 2^63",
                          " bytes, data_offsets give ", have));
}

absl::StatusOr<SafetensorsEntry> ReadEntry(const std::string& name, const json& object,
                                           std::span<const std::byte> data,
                                           const std::string& where) {
  const std::string place = absl::StrCat(where, ": tensor ", name);
  if (!object.is_object()) return Invalid(place, "its header entry is not an object");
  SafetensorsEntry entry;
  entry.view.name = name;
  JsonFields fields(object, place);
  entry.dtype = fields.String("dtype", std::nullopt);
  SLUICE_RETURN_IF_ERROR(fields.status());
  SLUICE_ASSIGN_OR_RETURN(entry.view.shape, ReadInts(object, "shape", place));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets,
                          ReadInts(object, "data_offsets", place));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return Invalid(place, absl::StrCat("data_offsets [", absl::StrJoin(offsets, ", "),
                                       "] is not [begin, end]"));
  }
  if (offsets[1] > static_cast<int64_t>(data.size())) {
    return Invalid(place,
                   absl::StrCat("data_offsets end at ", offsets[1], ", the file has data for ",
                                data.size(), " bytes (truncated?)"));
  }
  entry.view.data =
      data.subspan(static_cast<size_t>(offsets[0]), static_cast<size_t>(offsets[1] - offsets[0]));
  const DTypeInfo* info = FindDType(entry.dtype);
  if (info == nullptr) return entry;  // newer than we are
  SLUICE_RETURN_IF_ERROR(CheckSize(entry, info->size, place));
  entry.supported = info->dtype.has_value();
  if (entry.supported) entry.view.dtype = *info->dtype;
  return entry;
}

// No overlap, no hole, nothing left over.
absl::Status CheckCoverage(const std::vector<SafetensorsEntry>& entries,
                           std::span<const std::byte> data, const std::string& where) {
  std::vector<std::pair<const std::byte*, const SafetensorsEntry*>> order;
  for (const SafetensorsEntry& entry : entries) {
    order.emplace_back(entry.view.data.data(), &entry);
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first < b.first;
    return a.second->view.data.size() < b.second->view.data.size();  // empty ones first
  });
  const std::byte* next = data.data();
  for (const auto& [begin, entry] : order) {
    if (begin != next) {
      return Invalid(where, absl::StrCat("tensor ", entry->view.name, " begins at ",
                                         begin - data.data(), ", want ", next - data.data(),
                                         begin < next ? " (overlap)" : " (hole)"));
    }
    next = begin + entry->view.data.size();
  }
  const auto rest = static_cast<int64_t>(data.size()) - (next - data.data());
  if (rest == 0) return absl::OkStatus();
  return Invalid(where, absl::StrCat(rest, " bytes after the last tensor belong to none"));
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(std::span<const std::byte> file,
                                                               const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(const uint64_t length, HeaderLength(file, where));
  const std::string text(reinterpret_cast<const char*>(file.data() + kLengthBytes),
                         static_cast<size_t>(length));
  SLUICE_ASSIGN_OR_RETURN(const json header,
                          ParseJsonObject(text, absl::StrCat(where, ": header"), true));
  const std::span<const std::byte> data = file.subspan(kLengthBytes + length);
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, object] : header.items()) {
    if (name == kMetadata) continue;
    SLUICE_ASSIGN_OR_RETURN(SafetensorsEntry entry, ReadEntry(name, object, data, where));
    entries.push_back(std::move(entry));
  }
  SLUICE_RETURN_IF_ERROR(CheckCoverage(entries, data, where));
  return entries;
}

}  // namespace sluice
