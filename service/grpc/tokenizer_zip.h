// A model's tokenizer as one ZIP archive, for gateways that tokenize.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice {

// Name and content of a file.
using NamedFile = std::pair<std::string, std::string>;

// A ZIP archive (PKWARE APPNOTE 6.3) of `files`, stored, not compressed; the same files give the
// same bytes. REQUIRES: fewer than 65,536 files and less than 4 GiB in all.
std::string MakeStoredZip(const std::vector<NamedFile>& files);

// Lower-case hex.
std::string Sha256Hex(const std::string& bytes);

// The files of `directory` that a tokenizer may need, by name: tokenizer.json, chat templates,
// configurations, vocabularies. Never weights.
// Returns FAILED_PRECONDITION if there is no tokenizer among them or they are larger than 500 MB,
// which gateways refuse.
absl::StatusOr<std::vector<NamedFile>> ReadTokenizerFiles(const std::string& directory);

}  // namespace sluice
