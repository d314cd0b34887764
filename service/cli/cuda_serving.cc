#include "service/cli/cuda_serving.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "backend/kv/kv_codec.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

constexpr int64_t kProgressSteps = 10;

// A line in the log for every tenth of the bytes.
std::function<void(Bytes, Bytes)> LogProgress() {
  auto told = std::make_shared<int64_t>(0);
  return [told](Bytes done, Bytes total) {
    const int64_t tenth = done.value() * kProgressSteps / total.value();
    if (tenth == *told) return;
    *told = tenth;
    spdlog::info("weights: {} of {} on the device", FormatBytes(done), FormatBytes(total));
  };
}

}  // namespace

CudaBackendOptions MakeCudaOptions(const ServeConfig& config, const ModelConfig& model,
                                   Tokens max_model_len, Bytes memory,
                                   std::function<absl::Time()> clock) {
  CudaBackendOptions options;
  options.device = config.cuda.device;
  options.gpu_memory_utilization = config.cuda.gpu_memory_utilization;
  options.tokens_per_block = config.block_size;
  options.host_codec = ParseKvCodecKind(config.kv_host_codec).value_or(KvCodecKind::kRaw);
  if (config.device_kv_blocks.has_value() || config.device_kv_bytes.has_value()) {
    const KvGeometry device = CudaBackend::Geometry(model, config.block_size);
    options.device_blocks = config.DeviceBlocks(device.bytes_per_block, memory);
  }
  const KvGeometry host = CudaBackend::HostGeometry(model, config.block_size, options.host_codec);
  options.host_blocks = config.HostBlocks(host.bytes_per_block, memory);
  options.max_model_len = max_model_len;
  options.max_step_tokens = config.max_num_batched_tokens;
  options.progress = LogProgress();
  options.clock = std::move(clock);
  return options;
}

std::string CudaHardwareProfile(std::string_view device) {
  const struct {
    const char* name;
    const char* profile;
  } known[] = {{"GB200", "gb200"},     {"GH200", "gh200"}, {"B200", "b200"},       {"H200", "h200"},
               {"H100", "h100-pcie5"}, {"L40S", "l40s"},   {"RTX 4090", "rtx4090"}};
  for (const auto& [name, profile] : known) {
    if (device.find(name) != std::string_view::npos) return profile;
  }
  return "a100-pcie4";
}

}  // namespace sluice
