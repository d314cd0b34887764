// race_main NAME [SEED]: runs one seeded mistake for ThreadSanitizer to see. CTest looks for the
// report in the output; "none" and "none_pipeline" must give none.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_emu/control.h"
#include "tests/cuda_on_cpu/emulation/seeded_run.h"

namespace sluice::seeded {
namespace {

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s NAME [SEED]\n", argv[0]);
    return 2;
  }
  cuda_emu::Config config;
  config.seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  cuda_emu::Reset(config);
  for (int i = 0; i < kKernelBugs; ++i) {
    const auto bug = static_cast<KernelBug>(i);
    if (std::strcmp(Name(bug), argv[1]) == 0) {
      std::printf("%s: %s\n", argv[1], RunKernel(bug).Text().c_str());
      return 0;
    }
  }
  for (int i = 0; i < kStreamBugs; ++i) {
    const auto bug = static_cast<StreamBug>(i);
    const bool control = i == 0 && std::strcmp(argv[1], "none_pipeline") == 0;
    if (control || std::strcmp(Name(bug), argv[1]) == 0) {
      std::printf("%s: %s\n", argv[1], RunPipeline(bug).Text().c_str());
      return 0;
    }
  }
  std::fprintf(stderr, "%s: no such mistake\n", argv[1]);
  return 2;
}

}  // namespace
}  // namespace sluice::seeded

int main(int argc, char** argv) { return sluice::seeded::Main(argc, argv); }
