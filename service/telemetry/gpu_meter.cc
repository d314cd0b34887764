#include "service/telemetry/gpu_meter.h"

#include <algorithm>
#include <utility>

#include "service/telemetry/family.h"

namespace sluice {

std::shared_ptr<GpuMeter> GpuMeter::OfThisMachine() {
  return std::make_shared<GpuMeter>(NvmlLibrary::Open("libnvidia-ml.so.1"), "/sys/bus/pci/devices");
}

GpuMeter::GpuMeter(std::shared_ptr<const NvmlLibrary> library, std::string pci_folder,
                   absl::Duration interval)
    : library_(std::move(library)), pci_folder_(std::move(pci_folder)) {
  if (library_ == nullptr) return;
  for (unsigned i = 0; i < library_->Count(); ++i) {
    const std::optional<NvmlLibrary::Device> device = library_->ByIndex(i);
    if (device.has_value()) gpus_.push_back({*device, library_->Replays(*device).value_or(0)});
  }
  if (gpus_.empty()) return;
  Sample();
  thread_.emplace([this] { Sample(); }, interval);
}

void GpuMeter::Sample() {
  const std::vector<GpuLink> links = ReadGpuLinks(*library_, pci_folder_);
  std::vector<GpuReading> readings;
  for (size_t i = 0; i < std::min(links.size(), gpus_.size()); ++i) {
    const NvmlLibrary::Device device = gpus_[i].handle;
    GpuReading reading;
    reading.link = links[i];
    reading.to_device = library_->Throughput(device, true);
    reading.to_host = library_->Throughput(device, false);
    if (const std::optional<int> replays = library_->Replays(device)) {
      reading.replays = std::max(0, *replays - gpus_[i].first_replays);
    }
    reading.sm_hertz = library_->ClockHertz(device, false);
    reading.memory_hertz = library_->ClockHertz(device, true);
    readings.push_back(std::move(reading));
  }
  const std::lock_guard<std::mutex> lock(mu_);
  readings_ = std::move(readings);
}

std::vector<GpuReading> GpuMeter::readings() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return readings_;
}

std::vector<std::string> GpuMeter::SlowSlots() const {
  std::vector<std::string> warnings;
  for (const GpuReading& reading : readings()) {
    if (std::optional<std::string> warning = SlowSlotWarning(reading.link)) {
      warnings.push_back(std::move(*warning));
    }
  }
  return warnings;
}

std::vector<prometheus::MetricFamily> GpuMeter::Collect() const {
  using prometheus::MetricType;
  FamilyBuilder generation(MetricType::Gauge, "sluice_gpu_pcie_generation",
                           "PCI Express generation: now (1 when idle), of the slot, of the card.",
                           {});
  FamilyBuilder lanes(MetricType::Gauge, "sluice_gpu_pcie_lanes",
                      "PCI Express lanes: now, of the slot, of the card.", {});
  FamilyBuilder rate(MetricType::Gauge, "sluice_gpu_pcie_bytes_per_second",
                     "Traffic on the link over 20 ms, headers included.", {});
  FamilyBuilder replays(MetricType::Counter, "sluice_gpu_pcie_replays_total",
                        "Packets sent again because of errors on the link, since start.", {});
  FamilyBuilder clock(MetricType::Gauge, "sluice_gpu_clock_hertz", "Clock now.", {});
  for (const GpuReading& r : readings()) {
    const std::string& device = r.link.device;
    const std::pair<const char*, PcieLink> links[] = {
        {"now", r.link.now}, {"slot", r.link.slot}, {"card", r.link.card}};
    for (const auto& [of, link] : links) {
      if (link.generation > 0) generation.Add(link.generation, {{"device", device}, {"of", of}});
      if (link.lanes > 0) lanes.Add(link.lanes, {{"device", device}, {"of", of}});
    }
    const auto add_rate = [&](const std::optional<ByteRate>& value, const char* direction) {
      if (value) rate.Add(value->value(), {{"device", device}, {"direction", direction}});
    };
    add_rate(r.to_device, "to_device");
    add_rate(r.to_host, "to_host");
    if (r.replays) replays.Add(*r.replays, {{"device", device}});
    if (r.sm_hertz) clock.Add(*r.sm_hertz, {{"device", device}, {"clock", "sm"}});
    if (r.memory_hertz) clock.Add(*r.memory_hertz, {{"device", device}, {"clock", "memory"}});
  }
  std::vector<prometheus::MetricFamily> families;
  for (FamilyBuilder* family : {&generation, &lanes, &rate, &replays, &clock}) {
    if (!family->empty()) families.push_back(family->Build());
  }
  return families;
}

}  // namespace sluice
