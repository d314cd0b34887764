#include "service/telemetry/gpu_link.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

// Bytes per second and lane by generation: 2.5 and 5 GT/s with 8b/10b, 8, 16 and 32 GT/s with
// 128b/130b, 64 GT/s with 242 of 256 bytes.
constexpr std::array<double, 7> kLaneRate = {0,        250e6,    500e6,   984.6e6,
                                             1969.2e6, 3938.5e6, 7562.5e6};

// 0 if the file is not there or holds no number.
int ReadCount(const std::string& path) {
  std::ifstream file(path);
  int value = 0;
  return file >> value ? value : 0;
}

GpuLink ReadLink(const NvmlLibrary& library, NvmlLibrary::Device device, unsigned index,
                 const std::string& pci_folder) {
  GpuLink link;
  link.device = absl::StrCat("gpu", index);
  link.name = library.Name(device).value_or("");
  link.bus = library.PciBus(device).value_or("");
  link.now = {library.LinkGeneration(device).value_or(0), library.LinkWidth(device).value_or(0)};
  // Lanes do not fall back when a link is idle: those of now are those of the slot.
  const int most = library.SlotWidth(device).value_or(0);
  link.slot = {library.SlotGeneration(device).value_or(0),
               link.now.lanes > 0 ? link.now.lanes : most};
  link.card.generation = library.CardGeneration(device).value_or(link.slot.generation);
  link.card.lanes = std::max(
      most,
      link.bus.empty() ? 0 : ReadCount(absl::StrCat(pci_folder, "/", link.bus, "/max_link_width")));
  return link;
}

}  // namespace

ByteRate PcieLink::Rate() const {
  if (!known()) return ByteRate(0);
  const auto row = std::min(static_cast<size_t>(generation), kLaneRate.size() - 1);
  return ByteRate(kLaneRate[row] * lanes);
}

std::string PcieLink::Text() const { return absl::StrCat("PCIe gen ", generation, " x", lanes); }

std::vector<GpuLink> ReadGpuLinks(const NvmlLibrary& library, const std::string& pci_folder) {
  std::vector<GpuLink> links;
  for (unsigned i = 0; i < library.Count(); ++i) {
    const std::optional<NvmlLibrary::Device> device = library.ByIndex(i);
    if (device.has_value()) links.push_back(ReadLink(library, *device, i, pci_folder));
  }
  return links;
}

std::optional<std::string> SlowSlotWarning(const GpuLink& link) {
  if (!link.slot.known() || !link.card.known()) return std::nullopt;
  const double share = link.slot.Rate().value() / link.card.Rate().value();
  if (share >= 1.0) return std::nullopt;
  std::string who = link.name;
  if (!link.bus.empty()) absl::StrAppend(&who, who.empty() ? "" : ", ", link.bus);
  return absl::StrCat(link.device, who.empty() ? "" : absl::StrCat(" (", who, ")"), ": ",
                      link.slot.Text(), ", expected gen ", link.card.generation, " x",
                      link.card.lanes, ": copies run at ", std::lround(share * 100),
                      " % of what the card can do; check slot, riser and firmware settings");
}

}  // namespace sluice
