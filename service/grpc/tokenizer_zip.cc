#include "service/grpc/tokenizer_zip.h"

#include <openssl/evp.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr uintmax_t kMostBytes = 500'000'000;
constexpr size_t kMostTemplates = 32;  // gateways take 50 entries

constexpr std::array<std::string_view, 11> kNames = {"added_tokens.json",
                                                     "chat_template.jinja",
                                                     "chat_template.json",
                                                     "config.json",
                                                     "generation_config.json",
                                                     "merges.txt",
                                                     "special_tokens_map.json",
                                                     "tokenizer.json",
                                                     "tokenizer.model",
                                                     "tokenizer_config.json",
                                                     "vocab.json"};

// Any of these makes a tokenizer.
constexpr std::array<std::string_view, 3> kTokenizers = {"tokenizer.json", "tokenizer.model",
                                                         "vocab.json"};

// Little-endian.
void Put16(uint32_t value, std::string* out) {
  out->push_back(static_cast<char>(value & 0xff));
  out->push_back(static_cast<char>((value >> 8) & 0xff));
}
void Put32(uint32_t value, std::string* out) {
  Put16(value & 0xffff, out);
  Put16(value >> 16, out);
}

// What a local header and the central directory say alike: versions, flags and method (none),
// 1980-01-01, sizes, name.
void PutFileHeader(const NamedFile& file, std::string* out) {
  const auto size = static_cast<uint32_t>(file.second.size());
  const uLong crc = crc32(0, reinterpret_cast<const Bytef*>(file.second.data()), size);
  Put16(20, out);  // version needed
  Put16(0, out);   // flags
  Put16(0, out);   // stored
  Put16(0, out);   // time
  Put16(0x21, out);
  Put32(static_cast<uint32_t>(crc), out);
  Put32(size, out);
  Put32(size, out);
  Put16(static_cast<uint32_t>(file.first.size()), out);
  Put16(0, out);  // extra field
}

bool IsTemplate(const std::string& name) {
  return absl::StartsWith(name, "chat_template") && absl::EndsWith(name, ".jinja");
}

template <class Names>
bool IsOneOf(const std::string& name, const Names& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string MakeStoredZip(const std::vector<NamedFile>& files) {
  SLUICE_CHECK(files.size() < 65536);
  std::string zip;
  std::string directory;
  for (const NamedFile& file : files) {
    const size_t offset = zip.size();
    SLUICE_CHECK(offset + file.second.size() < (uint64_t{1} << 32));
    Put32(0x04034b50, &zip);
    PutFileHeader(file, &zip);
    zip += file.first;
    zip += file.second;

    Put32(0x02014b50, &directory);
    Put16(20, &directory);  // version made by
    PutFileHeader(file, &directory);
    Put16(0, &directory);  // comment
    Put16(0, &directory);  // disk
    Put16(0, &directory);  // internal attributes
    Put32(0, &directory);  // external attributes
    Put32(static_cast<uint32_t>(offset), &directory);
    directory += file.first;
  }
  const size_t start = zip.size();
  zip += directory;
  Put32(0x06054b50, &zip);
  Put16(0, &zip);  // disk
  Put16(0, &zip);
  Put16(static_cast<uint32_t>(files.size()), &zip);
  Put16(static_cast<uint32_t>(files.size()), &zip);
  Put32(static_cast<uint32_t>(directory.size()), &zip);
  Put32(static_cast<uint32_t>(start), &zip);
  Put16(0, &zip);  // comment
  return zip;
}

std::string Sha256Hex(const std::string& bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  SLUICE_CHECK(
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex.push_back(kDigits[digest[i] >> 4]);
    hex.push_back(kDigits[digest[i] & 15]);
  }
  return hex;
}

absl::StatusOr<std::vector<NamedFile>> ReadTokenizerFiles(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<std::string> names;
  size_t templates = 0;
  uintmax_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    const bool more = IsTemplate(name) && !IsOneOf(name, kNames);
    if (!more && !IsOneOf(name, kNames)) continue;
    if (!entry.is_regular_file(error) || (more && ++templates > kMostTemplates)) continue;
    names.push_back(name);
    bytes += entry.file_size(error);
  }
  std::sort(names.begin(), names.end());
  if (std::none_of(names.begin(), names.end(),
                   [](const std::string& name) { return IsOneOf(name, kTokenizers); })) {
    return absl::FailedPreconditionError(
        "this model has no tokenizer files; tokenize with those "
        "of the model it was made from");
  }
  if (bytes > kMostBytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the tokenizer's files have ", bytes, " bytes, at most ", kMostBytes, " can be sent"));
  }
  std::vector<NamedFile> files;
  for (const std::string& name : names) {
    std::ifstream file(directory + "/" + name, std::ios::binary);
    files.emplace_back(name, std::string(std::istreambuf_iterator<char>(file), {}));
    if (file.bad() || !file.is_open()) {
      return absl::InternalError(absl::StrCat("cannot read ", name, " of the model"));
    }
  }
  return files;
}

}  // namespace sluice
