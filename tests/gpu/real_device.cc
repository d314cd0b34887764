// The knobs and observations of cuda_emu/control.h, answered by a real device, so that the tests of
// tests/cuda_on_cpu run on one: schedules are the device's own, nothing is counted, and what the
// device does not like is a diagnostic. Tests that need what only the emulation can do, and without
// a device all tests, end at the first such call and are skipped with the reason.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "backend/cuda/gpu/gpu.h"
#include "cuda_emu/control.h"

namespace cuda_emu {
namespace {

Config current;

// Leaves the test, whatever called this: an AssertionException is the end that gtest provides for
// listeners, and it says nothing beyond what has been said.
[[noreturn]] void SkipTest(const std::string& why) {
  [&] { GTEST_SKIP() << why; }();
  throw testing::AssertionException(
      testing::TestPartResult(testing::TestPartResult::kSkip, __FILE__, __LINE__, why.c_str()));
}

// "" if there is a device.
std::string WhyNoDevice() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());
  if (error == cudaSuccess && count > 0) return "";
  return std::string("no CUDA device: ") +
         (error == cudaSuccess ? "the driver finds none" : cudaGetErrorString(error));
}

}  // namespace

const Config& CurrentConfig() { return current; }

void Reset(const Config& config) {
  current = config;
  static const std::string why = WhyNoDevice();
  if (!why.empty()) SkipTest(why);
  if (config.devices != 1) SkipTest("only the emulation has any number of devices");
}

uint64_t SeedShift() { return 0; }
void SetKernelCost(std::function<double(const KernelLaunch&)>) {}
void FailCall(Api, int, int) { SkipTest("a real device does not fail on request"); }
void FailStreamOperation(int, int) { SkipTest("a real device does not fail on request"); }

std::vector<Diagnostic> Diagnostics() {
  if (!WhyNoDevice().empty()) return {};
  cudaError_t error = cudaDeviceSynchronize();
  if (error == cudaSuccess) error = cudaGetLastError();
  if (error == cudaSuccess) return {};
  return {{"device", cudaGetErrorString(error)}};
}
void ClearDiagnostics() { static_cast<void>(cudaGetLastError()); }

LeakCounts Leaks() { return {}; }
std::vector<TraceEntry> Trace() { SkipTest("only the emulation says what ran when"); }
Counts CurrentCounts() { return {}; }
void CountAccesses(bool on) {
  if (on) SkipTest("only the emulation counts accesses");
}
std::vector<AccessSite> AccessReport() { return {}; }

double HostMicroseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(now).count();
}
void SpendHostMicroseconds(double microseconds) {
  const double end = HostMicroseconds() + microseconds;
  while (HostMicroseconds() < end) {
  }
}

}  // namespace cuda_emu
