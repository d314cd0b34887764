// TempDir: a directory of its own for one test, removed with everything in it at the end.
#pragma once

#include <string>

namespace sluice::testing {

// Thread-compatible.
class TempDir {
 public:
  TempDir();  // crashes if the directory cannot be made
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  // "PATH/name".
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  // Writes (or replaces) file `name` and returns its path.
  std::string Write(const std::string& name, const std::string& content) const;
  // The whole of file `name`.
  std::string Read(const std::string& name) const;

 private:
  std::string path_;
};

}  // namespace sluice::testing
