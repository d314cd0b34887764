// link_race_main NAME [SEED]: runs one mistake in the use of the link for ThreadSanitizer to see.
// CTest looks for the report in the output; "none" must give none.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_emu/control.h"
#include "tests/cuda_on_cpu/backend/link_scenario.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s NAME [SEED]\n", argv[0]);
    return 2;
  }
  for (int i = 0; i < sluice::cuda::kLinkBugs; ++i) {
    const auto bug = static_cast<sluice::cuda::LinkBug>(i);
    if (std::strcmp(sluice::cuda::Name(bug), argv[1]) != 0) continue;
    cuda_emu::Config config;
    config.seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
    cuda_emu::Reset(config);
    std::printf("%s: %s\n", argv[1], sluice::cuda::RunLink(bug, false).Text().c_str());
    return 0;
  }
  std::fprintf(stderr, "%s: no such mistake\n", argv[1]);
  return 2;
}
