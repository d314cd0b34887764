#include "service/calibration/cpu_calibration.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/cpu/probe_link.h"
#include "backend/cpu/probe_step.h"
#include "backend/disk_probe.h"
#include "scheduler/base/status_macros.h"
#include "service/calibration/in_place_cost.h"
#include "service/config/memory.h"
#include "service/profiles/catalogue.h"

namespace sluice {
namespace {

constexpr int64_t kBatchRows[] = {1, 16, 64};  // a decode step's rows
constexpr int64_t kChunkRows = 256;            // a prefill step's
constexpr int64_t kLayersProbed = 4;
constexpr int64_t kPageTokens = 32;
constexpr int64_t kCopyBlocks[] = {1, 4, 16, 64};

const char* Name(Element element) { return element == Element::kBF16 ? "bf16" : "f32"; }

NumberFormat FormatOf(Element element) {
  return element == Element::kBF16 ? NumberFormat::kBf16 : NumberFormat::kF32;
}

// One run of all probes. Each probe adds its figures and writes its part of the profile.
class Calibrator {
 public:
  Calibrator(const CpuCalibrationOptions& options, const CalibrationProgress& progress,
             HardwareProfile base)
      : options_(options),
        progress_(progress),
        control_(options.control),
        pool_(options.threads, /*pin=*/true) {
    result_.profile = std::move(base);
  }

  absl::StatusOr<CpuCalibration> Run() {
    struct Probe {
      const char* name;
      absl::Status (Calibrator::*run)();
    };
    constexpr Probe kProbes[] = {
        {"memory", &Calibrator::ProbeMemory},
        {"products, bf16", &Calibrator::ProbeNarrowProducts},
        {"products, f32", &Calibrator::ProbeWideProducts},
        {"reading weights", &Calibrator::ProbeWeights},
        {"attention", &Calibrator::ProbeAttention},
        {"layers", &Calibrator::ProbeLayers},
        {"steps", &Calibrator::ProbeSteps},
        {"copies", &Calibrator::ProbeCopies},
        {"copies both ways", &Calibrator::ProbeDuplex},
        {"small copies", &Calibrator::ProbeSmallCopies},
        {"disk", &Calibrator::ProbeStorage},
    };
    const auto total = static_cast<int64_t>(std::size(kProbes));
    for (int64_t i = 0; i < total; ++i) {
      const Probe& probe = kProbes[i];
      progress_(i, total, probe.name);
      SLUICE_RETURN_IF_ERROR(CheckCancelled(control_));
      SLUICE_RETURN_IF_ERROR((this->*probe.run)());
    }
    progress_(total, total, "done");
    Describe();
    SLUICE_RETURN_IF_ERROR(result_.profile.Validate());
    return std::move(result_);
  }

 private:
  HardwareProfile& profile() { return result_.profile; }

  void Source(const std::string& section, const std::vector<Measured>& figures) {
    profile().sources[section] =
        absl::StrCat("sluice calibrate, ", options_.date, ": ", DescribeMeasured(figures));
    result_.figures.insert(result_.figures.end(), figures.begin(), figures.end());
  }

  absl::Status ProbeMemory();
  absl::Status ProbeNarrowProducts() { return ProbeProducts(Element::kBF16); }
  absl::Status ProbeWideProducts() { return ProbeProducts(Element::kF32); }
  absl::Status ProbeProducts(Element element);
  absl::Status ProbeWeights();
  absl::Status ProbeAttention();
  absl::Status ProbeLayers();
  absl::Status ProbeSteps();
  absl::Status ProbeCopies();
  absl::Status ProbeDuplex();
  absl::Status ProbeSmallCopies();
  absl::Status ProbeStorage();
  void Describe();

  KvLayout Layout() const {
    KvLayout layout;
    layout.element = Element::kBF16;
    layout.layers = options_.layers;
    layout.kv_heads = options_.shape.kv_heads;
    layout.head_dim = options_.shape.head_dim;
    layout.page_tokens = kPageTokens;
    return layout;
  }

  const CpuCalibrationOptions& options_;
  const CalibrationProgress& progress_;
  const ProbeControl& control_;
  ThreadPool pool_;
  std::string kernels_;
  std::vector<Measured> host_figures_;
  std::vector<Measured> link_figures_;
  std::unique_ptr<LinkProbe> link_;
  CpuCalibration result_;
};

absl::Status Calibrator::ProbeMemory() {
  SLUICE_ASSIGN_OR_RETURN(const auto probe, MemoryProbe::Create(options_.large, pool_));
  SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe->Time(control_));
  const Measured read = MeasuredRate("reading memory", UnitKind::kByteRate,
                                     static_cast<double>(probe->size().value()), times);
  profile().memory = MemoryLimit();
  profile().host_memory = MemoryLimit();
  profile().memory_bandwidth_peak = ByteRate(read.best);
  profile().host_memory_bandwidth = ByteRate(read.value);
  profile().sources["memory"] = "what this process may use";
  host_figures_ = {read};
  return absl::OkStatus();
}

absl::Status Calibrator::ProbeProducts(Element element) {
  // One layer: products of many rows are limited by arithmetic.
  SLUICE_ASSIGN_OR_RETURN(const auto probe,
                          ProductProbe::Create(options_.shape, element, Bytes(1), pool_));
  std::vector<Measured> figures;
  for (const int64_t rows : {kBatchRows[1], kBatchRows[2], kChunkRows}) {
    SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe->Time(rows, control_));
    figures.push_back(MeasuredRate(absl::StrCat("product of ", rows, " rows, ", Name(element)),
                                   UnitKind::kFlopRate, probe->flop(rows), times));
  }
  // More rows are never slower: where they seem to be, something else ran. No data sheet is at
  // hand: the fastest run stands for it.
  ComputeRate rate;
  for (const Measured& figure : figures) {
    rate.sustained = std::max(rate.sustained, FlopRate(figure.value));
    rate.peak_dense = std::max(rate.peak_dense, FlopRate(figure.best));
  }
  profile().compute[static_cast<size_t>(FormatOf(element))] = rate;
  kernels_ = probe->description();
  Source(absl::StrCat("compute.", Name(element)), figures);
  return absl::OkStatus();
}

// A decode step reads all weights once: more of them than a cache holds.
absl::Status Calibrator::ProbeWeights() {
  SLUICE_ASSIGN_OR_RETURN(const auto probe,
                          ProductProbe::Create(options_.shape, Element::kBF16,
                                               Bytes(options_.large.value() / 2), pool_));
  SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe->Time(kBatchRows[0], control_));
  const Measured read = MeasuredRate("reading weights for 1 row, bf16", UnitKind::kByteRate,
                                     static_cast<double>(probe->weights().value()), times);
  profile().memory_bandwidth_sustained = ByteRate(read.value);
  profile().memory_bandwidth_peak = std::max(profile().memory_bandwidth_peak, ByteRate(read.best));
  Source("memory_bandwidth", {read});
  return absl::OkStatus();
}

absl::Status Calibrator::ProbeAttention() {
  SLUICE_ASSIGN_OR_RETURN(const auto probe,
                          AttentionProbe::Create(options_.shape, Element::kBF16, pool_));
  SLUICE_ASSIGN_OR_RETURN(const RunTimes prefill, probe->TimePrefill(control_));
  SLUICE_ASSIGN_OR_RETURN(const RunTimes decode, probe->TimeDecode(control_));
  const Measured rate =
      MeasuredRate("attention, prefill", UnitKind::kFlopRate, probe->prefill_flop(), prefill);
  profile().attention_sustained = FlopRate(rate.value);
  Source("attention",
         {rate, MeasuredRate("attention, decode: KV read", UnitKind::kByteRate,
                             static_cast<double>(probe->decode_bytes().value()), decode)});
  // On a CPU the host's cores are the device's: what counts is what reading in place adds.
  SLUICE_ASSIGN_OR_RETURN(const RunTimes in_place, probe->TimeInPlace(control_));
  const Measured host = MeasuredRate("attention in place, decode", UnitKind::kFlopRate,
                                     probe->in_place_flop(), in_place);
  profile().host_attention = FlopRate(host.value);
  host_figures_.push_back(host);
  Source("host", host_figures_);
  SLUICE_ASSIGN_OR_RETURN(const InPlaceRead read, MeasureInPlaceRead(*probe, control_));
  profile().in_place_read = read.first;
  profile().in_place_reread = read.again;
  profile().in_place_rows = kAttentionTileRows;
  Source("in_place", read.figures);
  return absl::OkStatus();
}

// A layer is more than its products and its attention: norms, RoPE, activations and writing KV take
// time with every token. They count as part of the arithmetic, whose rate sinks accordingly.
absl::Status Calibrator::ProbeLayers() {
  // Enough layers that weights come from memory, as they do when serving.
  const int64_t layer_bytes = options_.shape.parameters() * ElementBytes(Element::kBF16);
  const int64_t layers =
      std::clamp<int64_t>(options_.large.value() / 2 / layer_bytes, 1, kLayersProbed);
  const Tokens rows(kChunkRows);
  SLUICE_ASSIGN_OR_RETURN(const auto probe,
                          StepProbe::Create(options_.shape, layers, Element::kBF16, rows, pool_));
  SLUICE_ASSIGN_OR_RETURN(const RunTimes times, probe->Time(rows, control_));
  const Measured layer = MeasuredTime(absl::StrCat("one layer of ", kChunkRows, " tokens, bf16"),
                                      times, static_cast<double>(layers));
  const auto tokens = static_cast<double>(kChunkRows);
  const Flop products(2 * tokens * static_cast<double>(options_.shape.parameters()));
  const double pairs = tokens * (tokens + 1) / 2;
  const Seconds attention =
      Flop(4 * static_cast<double>(options_.shape.q_dim()) * pairs) / profile().attention_sustained;
  const auto rate = [&](Element element) -> ComputeRate& {
    return profile().compute[static_cast<size_t>(FormatOf(element))];
  };
  const Seconds rest = std::max(
      Seconds(0), Seconds(layer.value) - attention - products / rate(Element::kBF16).sustained);
  for (const Element element : {Element::kBF16, Element::kF32}) {
    ComputeRate& of = rate(element);
    const Seconds time = products / of.sustained + rest;
    of.sustained = FlopRate(ThreeDigits(products.value() / time.value()));
    profile().sources[absl::StrCat("compute.", Name(element))] +=
        absl::StrCat("; with norms, RoPE, activations and KV writes: ", DescribeMeasured({layer}));
  }
  result_.figures.push_back(layer);
  return absl::OkStatus();
}

// On a CPU nothing hides the forks and joins of a step, so they are its launch; there is no floor.
absl::Status Calibrator::ProbeSteps() {
  SLUICE_ASSIGN_OR_RETURN(const RunTimes times, TimeEmptyStep(options_.layers, pool_, control_));
  const Measured step =
      MeasuredTime(absl::StrCat("step without work, ", options_.layers, " layers"), times);
  profile().step_launch = Seconds(step.value);
  profile().step_floor = Seconds(0);
  profile().layer_floor = Seconds(0);
  profile().collective = Seconds(0);
  Source("step", {step});
  return absl::OkStatus();
}

absl::Status Calibrator::ProbeCopies() {
  const Blocks largest(kCopyBlocks[std::size(kCopyBlocks) - 1]);
  SLUICE_ASSIGN_OR_RETURN(link_,
                          LinkProbe::Create(Layout(), Blocks(2 * largest.value()), control_));
  for (const auto& [direction, name, rate] :
       {std::tuple{LinkDirection::kHostToDevice, "load", &profile().to_device},
        std::tuple{LinkDirection::kDeviceToHost, "store", &profile().to_host}}) {
    for (const int64_t blocks : kCopyBlocks) {
      SLUICE_ASSIGN_OR_RETURN(const RunTimes times, link_->Time(direction, Blocks(blocks)));
      const Bytes bytes = link_->BytesOf(Blocks(blocks));
      link_figures_.push_back(MeasuredRate(
          absl::StrCat(
              name, " of ",
              FormatQuantity(ThreeDigits(static_cast<double>(bytes.value())), UnitKind::kBytes)),
          UnitKind::kByteRate, static_cast<double>(bytes.value()), times));
      rate->peak = std::max(Blocks(blocks) == Blocks(1) ? ByteRate(0) : rate->peak,
                            ByteRate(link_figures_.back().best));
      rate->sustained = ByteRate(link_figures_.back().value);
    }
  }
  return absl::OkStatus();
}

absl::Status Calibrator::ProbeDuplex() {
  const Blocks blocks(kCopyBlocks[std::size(kCopyBlocks) - 1]);
  SLUICE_ASSIGN_OR_RETURN(const RunTimes times, link_->TimeDuplex(blocks));
  const Measured both =
      MeasuredRate("load and store at once, in total", UnitKind::kByteRate,
                   2 * static_cast<double>(link_->BytesOf(blocks).value()), times);
  profile().duplex_sustained =
      std::min(ByteRate(both.value), profile().to_device.sustained + profile().to_host.sustained);
  link_figures_.push_back(both);
  link_.reset();
  return absl::OkStatus();
}

// Blocks of hardly any bytes show what each run and each copy cost.
absl::Status Calibrator::ProbeSmallCopies() {
  KvLayout layout = Layout();
  layout.layers = 8;
  layout.kv_heads = 1;
  layout.head_dim = 2;
  layout.page_tokens = 16;
  constexpr Blocks kMany(256);
  SLUICE_ASSIGN_OR_RETURN(const auto probe, LinkProbe::Create(layout, kMany, control_));
  SLUICE_ASSIGN_OR_RETURN(const RunTimes many, probe->Time(LinkDirection::kHostToDevice, kMany));
  SLUICE_ASSIGN_OR_RETURN(const RunTimes one, probe->Time(LinkDirection::kHostToDevice, Blocks(1)));
  const Measured run =
      MeasuredTime("one run of a copy", many, static_cast<double>(probe->RunsOf(kMany)));
  const Measured copy = MeasuredTime("smallest copy", one);
  profile().copy_overhead = Seconds(run.value);
  profile().copy_latency = Seconds(copy.value);
  link_figures_.push_back(run);
  link_figures_.push_back(copy);
  Source("link", link_figures_);
  return absl::OkStatus();
}

absl::Status Calibrator::ProbeStorage() {
  profile().disk = {};
  profile().remote = {};
  ProbeControl control = control_;
  control.time = control_.time * 4;
  const absl::StatusOr<DiskRates> rates = options_.disk.empty()
                                              ? absl::NotFoundError("no directory given")
                                              : ProbeDisk(options_.disk, options_.large, control);
  if (!rates.ok()) {
    return options_.require_disk || absl::IsCancelled(rates.status()) ? rates.status()
                                                                      : absl::OkStatus();
  }
  const auto piece = static_cast<double>(rates->piece.value());
  const Measured read = MeasuredRate("disk read", UnitKind::kByteRate, piece, rates->read);
  const Measured write = MeasuredRate("disk write", UnitKind::kByteRate, piece, rates->write);
  const Measured latency = MeasuredTime("disk read of 4 KiB", rates->latency);
  profile().disk = {ByteRate(read.value), ByteRate(write.value), Seconds(latency.value)};
  Source("disk", {read, write, latency});
  if (!rates->direct) profile().sources["disk"] += "; through the page cache: may be too good";
  return absl::OkStatus();
}

void Calibrator::Describe() {
  profile().name = "calibrated-cpu";
  profile().description = absl::StrCat(options_.machine, "; ", kernels_, ", ", pool_.size(),
                                       pool_.size() == 1 ? " thread" : " threads", "; layers of ",
                                       options_.shape.hidden, " x ", options_.shape.intermediate);
  profile().sources["power"] = "not measured: the guess of profile cpu-default";
}

}  // namespace

absl::StatusOr<CpuCalibration> CalibrateCpu(const CpuCalibrationOptions& options,
                                            const CalibrationProgress& progress) {
  SLUICE_ASSIGN_OR_RETURN(const Catalogue catalogue, Catalogue::Load());
  SLUICE_ASSIGN_OR_RETURN(HardwareProfile base, catalogue.FindHardware("cpu-default"));
  base.sources.clear();
  return Calibrator(options, progress, std::move(base)).Run();
}

}  // namespace sluice
