#include "cuda_emu/diagnostic.h"

#include <cstring>
#include <mutex>
#include <vector>

#include "cuda_emu/control.h"
#include "cuda_emu/sanitizer.h"
#include "cuda_emu/site.h"

namespace cuda_emu {
namespace {

constexpr size_t kMaxDiagnostics = 64;
std::mutex mutex;
auto& diagnostics = *new std::vector<Diagnostic>;

}  // namespace

void AddDiagnostic(const std::string& kind, const std::string& text) {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(mutex);
  if (diagnostics.size() < kMaxDiagnostics) diagnostics.push_back({kind, text});
}

std::vector<Diagnostic> Diagnostics() {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(mutex);
  return diagnostics;
}

void ClearDiagnostics() {
  const TsanQuiet quiet;
  const std::lock_guard<std::mutex> lock(mutex);
  diagnostics.clear();
}

bool Site::SameLine(const Site& other) const {
  return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
}

std::string Site::Text() const {
  const char* const slash = std::strrchr(file, '/');
  return std::string(slash == nullptr ? file : slash + 1) + ":" + std::to_string(line);
}

}  // namespace cuda_emu
