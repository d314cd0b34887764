#include "service/cli/cuda_serving.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "backend/kv/kv_codec.h"
#include "service/calibration/calibration_file.h"
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
  options.batch_invariant = config.cuda.batch_invariant;
  options.tokens_per_block = config.block_size;
  options.fp8_weights = config.cuda.quantization == "fp8";
  // auto is no codec's name: what the model computes in.
  options.device_codec = ParseKvCodecKind(config.cuda.kv_cache_dtype).value_or(KvCodecKind::kRaw);
  options.host_codec = ParseKvCodecKind(config.HostCodec()).value_or(KvCodecKind::kRaw);
  if (config.device_kv_blocks.has_value() || config.device_kv_bytes.has_value()) {
    const KvGeometry device = CudaBackend::Geometry(model, config.block_size, options.device_codec);
    options.device_blocks = config.DeviceBlocks(device.bytes_per_block, memory);
  }
  const KvGeometry host = CudaBackend::HostGeometry(model, config.block_size, options.host_codec);
  options.host_blocks = config.HostBlocks(host.bytes_per_block, memory);
  options.disk_codec = ParseKvCodecKind(config.DiskCodec()).value_or(KvCodecKind::kRaw);
  options.disk_log = [](const std::string& message) { spdlog::warn("{}", message); };
  options.max_model_len = max_model_len;
  options.max_step_tokens = config.max_num_batched_tokens;
  options.progress = LogProgress();
  options.clock = std::move(clock);
  return options;
}

absl::StatusOr<CudaLinkRates> CalibratedCudaLink(const std::string& path) {
  CudaLinkRates rates;
  const absl::StatusOr<HardwareProfile> hardware = ReadCalibration(path);
  if (!hardware.ok() && !path.empty()) return hardware.status();
  const bool measured = hardware.ok() && hardware->kernel_below.has_value();
  if (measured) {
    rates.rate = std::min(hardware->to_device.sustained, hardware->to_host.sustained);
    rates.per_descriptor = hardware->copy_overhead;
    rates.kernel_below = *hardware->kernel_below;
  }
  spdlog::info("link: descriptors below {} go through the gather kernel ({})",
               FormatBytes(rates.kernel_below),
               measured ? "measured" : "a guess; sluice calibrate --backend=cuda measures it");
  return rates;
}

NumberFormat CudaKvFormat(const CudaConfig& config) {
  if (config.kv_cache_dtype == "fp8") return NumberFormat::kFp8;
  return config.kv_cache_dtype == "int8" ? NumberFormat::kInt8 : NumberFormat::kBf16;
}

void PriceCudaKv(const KvGeometry& host, CostCoefficients& cost) {
  cost.kv_bytes_per_token = Bytes(std::max<int64_t>(
      1, std::llround(AsDouble(host.bytes_per_block) / AsDouble(host.tokens_per_block))));
}

void PriceCudaWeights(const CudaConfig& config, const ModelConfig& model, CostCoefficients& cost) {
  if (config.quantization != "fp8") return;
  const double hidden = model.hidden;
  const double layer =
      hidden * (2.0 * model.q_dim() + 2.0 * model.kv_dim()) + 3.0 * hidden * model.intermediate;
  const double quantized = layer * model.layers;
  const double head = hidden * model.vocab;  // stays in bf16
  cost.weight_read = cost.weight_read * ((quantized / 2 + head) / (quantized + head));
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
