#include "service/cli/prompt_file.h"

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace sluice {

absl::StatusOr<std::string> ReadPrompt(const std::string& path, std::istream& in) {
  std::ostringstream text;
  if (path == "-") {
    text << in.rdbuf();
    return text.str();
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat("--prompt-file: ", path, ": cannot be read; check the path"));
  }
  text << file.rdbuf();
  return text.str();
}

}  // namespace sluice
