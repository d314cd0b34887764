#include "service/calibration/cuda_calibration.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr double kBf16Bytes = 2;
// Launches of a layer: norms, products, RoPE with the KV write, attention and its merge,
// activation.
constexpr double kKernelsOfLayer = 10;
constexpr int64_t kSmallKernels = 100;
constexpr int64_t kDecodeSequences = 32;
constexpr int64_t kSmallPieces = 64;
constexpr Bytes kSmallPiece(8 << 10);
constexpr int64_t kGatherSteps = 4;  // from one size of pieces to the next

// A size at `way` in [0, 1] from `size` to the next, in whole KiB.
Bytes Between(Bytes size, double way) {
  const double bytes = AsDouble(size) * std::pow(static_cast<double>(kGatherSteps), way);
  return Bytes(std::llround(bytes / 1024) * 1024);
}

std::string SizeText(Bytes bytes) {
  return FormatQuantity(ThreeDigits(static_cast<double>(bytes.value())), UnitKind::kBytes);
}

class Calibrator {
 public:
  Calibrator(CudaProbe& probe, const CudaCalibrationOptions& options,
             const CalibrationProgress& progress)
      : probe_(probe), options_(options), progress_(progress) {
    result_.profile = options.base;
    for (auto& [section, source] : profile().sources) {
      source = absl::StrCat("not measured: built-in profile ", options.base.name, ": ", source);
    }
  }

  absl::StatusOr<CudaCalibration> Run() {
    struct Part {
      const char* name;
      absl::Status (Calibrator::*run)();
    };
    constexpr Part kParts[] = {
        {"memory", &Calibrator::Memory},        {"products", &Calibrator::Products},
        {"attention", &Calibrator::Attention},  {"steps", &Calibrator::Steps},
        {"copies", &Calibrator::Copies},        {"small copies", &Calibrator::SmallCopies},
        {"gather kernel", &Calibrator::Gather},
    };
    const auto total = static_cast<int64_t>(std::size(kParts));
    for (int64_t i = 0; i < total; ++i) {
      const Part& part = kParts[i];
      progress_(i, total, part.name);
      SLUICE_RETURN_IF_ERROR((this->*part.run)());
    }
    progress_(total, total, "done");
    profile().name = "calibrated-cuda";
    profile().description = absl::StrCat(probe_.description(), "; ", options_.machine);
    SLUICE_RETURN_IF_ERROR(profile().Validate());
    return std::move(result_);
  }

 private:
  HardwareProfile& profile() { return result_.profile; }

  void Source(const std::string& section, const std::vector<Measured>& figures) {
    profile().sources[section] =
        absl::StrCat("sluice calibrate, ", options_.date, ": ", DescribeMeasured(figures));
    result_.figures.insert(result_.figures.end(), figures.begin(), figures.end());
  }

  // A decode step reads all weights once, for hardly any rows.
  absl::Status Memory() {
    const auto bytes = static_cast<double>(options_.large.value());
    SLUICE_ASSIGN_OR_RETURN(const RunTimes copy, probe_.CopyInside());
    const Measured inside =
        MeasuredRate("copy within the device", UnitKind::kByteRate, bytes, copy);
    const int64_t outputs = 2 * options_.shape.intermediate;
    SLUICE_ASSIGN_OR_RETURN(const RunTimes one, probe_.Product(1, outputs, options_.shape.hidden));
    const Measured weights =
        MeasuredRate("reading weights for 1 row, bf16", UnitKind::kByteRate,
                     kBf16Bytes * static_cast<double>(outputs * options_.shape.hidden), one);
    profile().memory = probe_.memory();
    profile().memory_bandwidth_sustained = ByteRate(std::max(inside.value, weights.value));
    profile().memory_bandwidth_peak =
        std::max({profile().memory_bandwidth_peak, ByteRate(inside.best), ByteRate(weights.best)});
    Source("memory_bandwidth", {inside, weights});
    return absl::OkStatus();
  }

  absl::Status Products() {
    const LayerShape& shape = options_.shape;
    std::vector<Measured> figures;
    ComputeRate& rate = profile().compute[static_cast<size_t>(NumberFormat::kBf16)];
    rate.sustained = FlopRate(0);
    for (const int64_t rows : {options_.rows / 8, options_.rows}) {
      const int64_t outputs = 2 * shape.intermediate;
      SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe_.Product(rows, outputs, shape.hidden));
      figures.push_back(
          MeasuredRate(absl::StrCat("product of ", rows, " rows, bf16"), UnitKind::kFlopRate,
                       2.0 * static_cast<double>(rows * outputs * shape.hidden), times));
      rate.sustained = std::max(rate.sustained, FlopRate(figures.back().value));
      rate.peak_dense = std::max(rate.peak_dense, FlopRate(figures.back().best));
    }
    Source("compute.bf16", figures);
    return absl::OkStatus();
  }

  CudaProbeAttention AttentionShape(int64_t sequences, int64_t before, int64_t count) const {
    const LayerShape& shape = options_.shape;
    return {sequences, before, count, shape.heads, shape.kv_heads, shape.head_dim};
  }

  absl::Status Attention() {
    const auto q_dim = static_cast<double>(options_.shape.q_dim());
    const auto context = static_cast<double>(options_.context);
    SLUICE_ASSIGN_OR_RETURN(const RunTimes prefill,
                            probe_.Attention(AttentionShape(1, 0, options_.context)));
    const Measured rate = MeasuredRate("attention, prefill", UnitKind::kFlopRate,
                                       4 * q_dim * context * (context + 1) / 2, prefill);
    SLUICE_ASSIGN_OR_RETURN(const RunTimes decode, probe_.Attention(AttentionShape(
                                                       kDecodeSequences, options_.context, 1)));
    const double kv_bytes = 2 * kBf16Bytes * static_cast<double>(options_.shape.kv_dim()) *
                            (context + 1) * static_cast<double>(kDecodeSequences);
    profile().attention_sustained =
        std::min(FlopRate(rate.value),
                 profile().compute[static_cast<size_t>(NumberFormat::kBf16)].sustained);
    Source("attention", {rate, MeasuredRate("attention, decode: KV read", UnitKind::kByteRate,
                                            kv_bytes, decode)});
    return absl::OkStatus();
  }

  absl::Status Steps() {
    SLUICE_ASSIGN_OR_RETURN(const RunTimes kernels, probe_.Kernels(kSmallKernels));
    SLUICE_ASSIGN_OR_RETURN(const RunTimes step, probe_.Step());
    const Measured kernel =
        MeasuredTime("one small kernel after another", kernels, static_cast<double>(kSmallKernels));
    const Measured launch = MeasuredTime("upload, small kernel, download", step);
    profile().layer_floor = Seconds(kernel.value * kKernelsOfLayer);
    profile().step_floor = Seconds(kernel.value * kKernelsOfLayer);
    profile().step_launch = Seconds(launch.value);
    Source("step", {kernel, launch});
    return absl::OkStatus();
  }

  absl::Status Copies() {
    for (const auto& [direction, name, rate] :
         {std::tuple{LinkDirection::kHostToDevice, "load", &profile().to_device},
          std::tuple{LinkDirection::kDeviceToHost, "store", &profile().to_host}}) {
      for (const int64_t part : {64, 8, 2}) {
        const Bytes size(options_.large.value() / part);
        SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe_.Copy(direction, size, 1));
        link_.push_back(MeasuredRate(absl::StrCat(name, " of ", SizeText(size)),
                                     UnitKind::kByteRate, static_cast<double>(size.value()),
                                     times));
        rate->sustained = ByteRate(link_.back().value);
        rate->peak = std::max(rate->peak, ByteRate(link_.back().best));
      }
    }
    const Bytes half(options_.large.value() / 2);
    SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe_.Duplex(half));
    link_.push_back(MeasuredRate("load and store at once, in total", UnitKind::kByteRate,
                                 2 * static_cast<double>(half.value()), times));
    profile().duplex_sustained = std::min(
        ByteRate(link_.back().value), profile().to_device.sustained + profile().to_host.sustained);
    return absl::OkStatus();
  }

  // What a piece costs beyond its bytes, and what a copy costs that has hardly any.
  absl::Status SmallCopies() {
    SLUICE_ASSIGN_OR_RETURN(const RunTimes many,
                            probe_.Copy(LinkDirection::kHostToDevice, kSmallPiece, kSmallPieces));
    SLUICE_ASSIGN_OR_RETURN(const RunTimes one,
                            probe_.Copy(LinkDirection::kHostToDevice, kSmallPiece, 1));
    link_.push_back(MeasuredTime(absl::StrCat("one of ", kSmallPieces, " pieces of a batch"), many,
                                 static_cast<double>(kSmallPieces)));
    const Seconds bytes = kSmallPiece / profile().to_device.sustained;
    profile().copy_overhead = std::max(Seconds(0), Seconds(link_.back().value) - bytes);
    link_.push_back(MeasuredTime("smallest copy", one));
    profile().copy_latency = Seconds(link_.back().value);
    return absl::OkStatus();
  }

  // Where the copy engine becomes as fast as the kernel that reads host memory itself: between two
  // of the sizes, on a straight line through the logarithms of how many times as fast it is.
  absl::Status Gather() {
    const auto direction = LinkDirection::kHostToDevice;
    double last_gain = 0;
    profile().kernel_below = Bytes(0);
    for (Bytes size = kSmallPiece; size.value() * 2 * 8 <= options_.large.value();
         size = Bytes(size.value() * kGatherSteps)) {
      const int64_t runs =
          std::min<int64_t>(options_.large.value() / 2 / size.value(), kSmallPieces);
      const auto bytes = static_cast<double>(runs * size.value());
      SLUICE_ASSIGN_OR_RETURN(const RunTimes engine, probe_.Copy(direction, size, runs));
      SLUICE_ASSIGN_OR_RETURN(const RunTimes kernel, probe_.Gather(direction, size, runs));
      link_.push_back(MeasuredRate(absl::StrCat("copy engine, pieces of ", SizeText(size)),
                                   UnitKind::kByteRate, bytes, engine));
      link_.push_back(MeasuredRate(absl::StrCat("gather kernel, pieces of ", SizeText(size)),
                                   UnitKind::kByteRate, bytes, kernel));
      const double gain = std::log(absl::FDivDuration(engine.quarter, kernel.quarter));
      if (gain <= 0) {
        if (last_gain > 0) {
          profile().kernel_below = Between(*profile().kernel_below, last_gain / (last_gain - gain));
        }
        break;
      }
      profile().kernel_below = size;
      last_gain = gain;
    }
    Source("link", link_);
    return absl::OkStatus();
  }

  CudaProbe& probe_;
  const CudaCalibrationOptions& options_;
  const CalibrationProgress& progress_;
  std::vector<Measured> link_;
  CudaCalibration result_;
};

}  // namespace

absl::StatusOr<CudaCalibration> CalibrateCuda(CudaProbe& probe,
                                              const CudaCalibrationOptions& options,
                                              const CalibrationProgress& progress) {
  return Calibrator(probe, options, progress).Run();
}

}  // namespace sluice
