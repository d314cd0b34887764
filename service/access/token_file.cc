#include "service/access/token_file.h"

#include <sys/stat.h>

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Open(std::string path, Clock clock,
                                                           Report report) {
  std::unique_ptr<TokenFile> file(
      new TokenFile(std::move(path), std::move(clock), std::move(report)));
  file->stamp_ = file->StampOf();
  file->looked_ = file->clock_();
  SLUICE_ASSIGN_OR_RETURN(TokenTable table, file->Read());
  file->table_ = std::make_shared<const TokenTable>(std::move(table));
  return file;
}

TokenFile::TokenFile(std::string path, Clock clock, Report report)
    : path_(std::move(path)), clock_(std::move(clock)), report_(std::move(report)) {}

TokenFile::Stamp TokenFile::StampOf() const {
  struct stat info = {};
  if (stat(path_.c_str(), &info) != 0) return {};
  return {info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

absl::StatusOr<TokenTable> TokenFile::Read() const {
  std::ifstream file(path_, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  if (!file) {
    return absl::NotFoundError(absl::StrCat("cannot read the token file ", path_,
                                            ", or it is empty; check its path and its owner"));
  }
  absl::StatusOr<TokenTable> table = TokenTable::Parse(content.str());
  if (table.ok()) return table;
  return absl::InvalidArgumentError(absl::StrCat(path_, ": ", table.status().message()));
}

std::shared_ptr<const TokenTable> TokenFile::table() {
  absl::Status news;
  bool changed = false;
  std::shared_ptr<const TokenTable> table;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const absl::Time now = clock_();
    if (now - looked_ >= kInterval) {
      looked_ = now;
      const Stamp stamp = StampOf();
      changed = stamp != stamp_;
      stamp_ = stamp;
    }
    if (changed) {
      absl::StatusOr<TokenTable> read = Read();
      news = read.status();
      if (read.ok()) table_ = std::make_shared<const TokenTable>(*std::move(read));
    }
    table = table_;
  }
  if (changed && report_ != nullptr) report_(news);
  return table;
}

}  // namespace sluice
