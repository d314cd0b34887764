// What the emulation objects to. Read by tests with Diagnostics() (control.h).
#pragma once

#include <string>

namespace cuda_emu {

// Safe from any thread. After kMaxDiagnostics of them, more are dropped.
void AddDiagnostic(const std::string& kind, const std::string& text);

}  // namespace cuda_emu
