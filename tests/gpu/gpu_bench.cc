// gpu_bench [--device N] [--quick] [--json FILE]: what a GPU makes of our copies and kernels, as
// rates and as shares of what the same device does in a plain copy or a large matrix product.
//
// Compiled for the emulation as well, where --quick shows that it works; its times are then the
// emulation's model and say so.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "nlohmann/json.hpp"
#include "tests/gpu/bench_copies.h"
#include "tests/gpu/bench_kernels.h"

namespace sluice::cuda {
namespace {

#if defined(SLUICE_CUDA_EMU)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

struct Options {
  int device = 0;
  bool quick = false;
  std::string json;
};

nlohmann::json DeviceJson(int device) {
  cudaDeviceProp properties{};
  Must(cudaGetDeviceProperties(&properties, device), "properties of the device");
  int driver = 0;
  int runtime = 0;
  Must(cudaDriverGetVersion(&driver), "driver version");
  Must(cudaRuntimeGetVersion(&runtime), "runtime version");
  char bus[32] = "";
  Must(cudaDeviceGetPCIBusId(bus, sizeof(bus), device), "PCI bus");
  return {{"name", properties.name},
          {"bus", bus},
          {"compute_capability",
           std::to_string(properties.major) + "." + std::to_string(properties.minor)},
          {"multiprocessors", properties.multiProcessorCount},
          {"memory_bytes", properties.totalGlobalMem},
          {"driver", driver},
          {"runtime", runtime},
          {"emulated", kEmulated}};
}

void Print(const BenchRow& row) {
  std::printf("%-9s %-44s %10.1f us", row.section.c_str(), row.name.c_str(), row.seconds * 1e6);
  if (row.flops > 0) {
    std::printf("  %8.2f TFLOP/s", row.flops / row.seconds * 1e-12);
  } else {
    std::printf("  %8.2f GB/s   ", row.bytes / row.seconds * 1e-9);
  }
  if (row.ratio > 0) std::printf("  %5.2f %s", row.ratio, row.limit.c_str());
  std::printf("\n");
}

// The smallest page at which the copy engine is at least as fast as the gather kernel.
std::string CrossoverText(const std::vector<BenchRow>& rows) {
  for (const BenchRow& row : rows) {
    if (row.ratio > 0 && row.ratio <= 1) return row.name.substr(row.name.find(", ") + 2);
  }
  return "above the largest size tried";
}

nlohmann::json RowJson(const BenchRow& row) {
  nlohmann::json json = {{"section", row.section}, {"name", row.name}, {"seconds", row.seconds}};
  if (row.bytes > 0) json["bytes_per_second"] = row.bytes / row.seconds;
  if (row.flops > 0) json["flops_per_second"] = row.flops / row.seconds;
  if (row.ratio > 0) json["ratio"] = row.ratio;
  if (row.ratio > 0) json["of"] = row.limit;
  return json;
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--quick") == 0) {
      options.quick = true;
    } else if (more && std::strcmp(argv[i], "--device") == 0) {
      options.device = std::atoi(argv[++i]);
    } else if (more && std::strcmp(argv[i], "--json") == 0) {
      options.json = argv[++i];
    } else {
      std::fprintf(stderr, "usage: %s [--device N] [--quick] [--json FILE]\n", argv[0]);
      std::exit(2);
    }
  }
  return options;
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  Must(cudaSetDevice(options.device), "use the device");
  nlohmann::json report = {{"benchmark", "gpu_bench"}, {"quick", options.quick}};
  report["device"] = DeviceJson(options.device);
  std::printf("%s\n", report["device"].dump().c_str());
  if (kEmulated) std::printf("EMULATED: times are the emulation's model, not a GPU's\n");
  DeviceLimits limits;
  std::vector<BenchRow> rows = BenchCopies(options.quick, &limits);
  for (const BenchRow& row : rows) Print(row);
  const std::vector<BenchRow> crossover = BenchCrossover(options.quick);
  for (const BenchRow& row : crossover) Print(row);
  std::printf("the copy engine is as fast as the gather kernel from: %s\n",
              CrossoverText(crossover).c_str());
  const std::vector<BenchRow> kernels = BenchKernels(options.quick, &limits);
  for (const BenchRow& row : kernels) Print(row);
  rows.insert(rows.end(), crossover.begin(), crossover.end());
  rows.insert(rows.end(), kernels.begin(), kernels.end());
  for (const BenchRow& row : rows) report["rows"].push_back(RowJson(row));
  report["crossover"] = CrossoverText(crossover);
  if (options.json.empty()) return 0;
  std::ofstream file(options.json);
  if (!(file << report.dump(2) << std::endl)) {
    std::fprintf(stderr, "gpu_bench: --json: %s cannot be written\n", options.json.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace sluice::cuda

int main(int argc, char** argv) { return sluice::cuda::Main(argc, argv); }
