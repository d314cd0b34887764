// sluice_cuda_emulated: the `sluice` binary with the CUDA backend on an emulated device, for
// end-to-end tests. Streams run on threads of their own, as on a device.
//
//   SLUICE_EMULATED_FAILURE=N   the Nth operation of a stream ends with an illegal address
//
// What the emulation finds wrong is printed at the end, and makes the exit code 3.

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "backend/cuda/gpu/gpu.h"
#include "cuda_emu/control.h"
#include "service/cli/app.h"

int main(int argc, char** argv) {
  cuda_emu::Config config;
  config.streams = cuda_emu::Streams::kThreads;
  config.device_bytes = size_t{256} << 20;
  cuda_emu::Reset(config);
  if (const char* const nth = std::getenv("SLUICE_EMULATED_FAILURE"); nth != nullptr) {
    cuda_emu::FailStreamOperation(std::atoi(nth), cudaErrorIllegalAddress);
  }
  const std::vector<std::string> args(argv + 1, argv + argc);
  const int code = sluice::RunCli(args, {std::cin, std::cout, std::cerr});
  bool wrong = false;
  for (const cuda_emu::Diagnostic& diagnostic : cuda_emu::Diagnostics()) {
    std::cerr << "emulation: " << diagnostic.kind << ": " << diagnostic.text << std::endl;
    wrong = true;
  }
  return wrong && code == 0 ? 3 : code;
}
