// GpuLink: the PCI Express link between the host and a GPU, and whether the slot slows it down.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/cost/measure.h"
#include "service/telemetry/nvml.h"

namespace sluice {

// 0: not known.
struct PcieLink {
  int generation = 0;
  int lanes = 0;

  bool known() const { return generation > 0 && lanes > 0; }
  // One direction, before the protocol's overhead (PCI Express base specification, 1.0 to 6.0).
  // Zero if not known.
  ByteRate Rate() const;
  std::string Text() const;  // "PCIe gen 5 x16"
  bool operator==(const PcieLink&) const = default;
};

struct GpuLink {
  std::string device;  // "gpu0", in the order of slots
  std::string name;    // "NVIDIA H100 PCIe"; may be empty
  std::string bus;     // "0000:3b:00.0"; may be empty
  PcieLink now;        // an idle link falls back to generation 1 to save power
  PcieLink slot;       // the most that card and slot do together
  PcieLink card;       // the most that the card can
};

// The links of all GPUs. `pci_folder`: "/sys/bus/pci/devices", where the kernel says how many lanes
// a card has, which NVML does not.
std::vector<GpuLink> ReadGpuLinks(const NvmlLibrary& library, const std::string& pci_folder);

// What to tell the operator, "gpu0 (NVIDIA H100 PCIe, 0000:3b:00.0): PCIe gen 3 x8, expected gen 5
// x16: ...", if the slot gives the card less than it can do. Nothing if either is not known.
std::optional<std::string> SlowSlotWarning(const GpuLink& link);

}  // namespace sluice
