// HardwareProfile: one device (or a CPU) and its links, as numbers with sources. Peak is what the
// data sheet says; sustained is what programs get, measured by somebody or by `sluice calibrate`.
// The two are never mixed: the paper divides a sparse peak (see paper mode), the scheduler uses
// sustained rates only.
//
// Values; thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/measure.h"
#include "scheduler/cost/model_profile.h"

namespace sluice {

struct ComputeRate {
  FlopRate peak_dense;   // 0: the device does not compute in this format
  FlopRate peak_sparse;  // 0: no structured sparsity
  FlopRate sustained;    // of large GEMMs
};

// One direction of a link.
struct LinkRate {
  ByteRate peak;
  ByteRate sustained;  // of large runs, the other direction idle
};

// A place where KV can be kept beyond host memory. All zero: there is none.
struct StorageRate {
  ByteRate read;
  ByteRate write;
  Seconds latency;  // to the first byte

  bool exists() const { return read > ByteRate(0); }
};

struct HardwareProfile {
  std::string name;  // "h100-pcie5"
  std::string description;
  std::map<std::string, std::string> sources;  // key in the data file -> where from

  std::array<ComputeRate, kNumberFormatCount> compute{};
  FlopRate attention_sustained;  // of attention kernels in the KV format; <= GEMM's

  Bytes memory;
  ByteRate memory_bandwidth_peak;
  ByteRate memory_bandwidth_sustained;

  LinkRate to_device;
  LinkRate to_host;
  ByteRate duplex_sustained;  // both directions at once, in total
  Seconds copy_overhead;      // per descriptor (run of contiguous bytes)
  Seconds copy_latency;       // per copy, before its first byte
  // Of a device that can gather by a kernel what a copy engine takes one descriptor after another
  // for: descriptors with fewer bytes move faster so. 0: none do; unset: not measured.
  std::optional<Bytes> kernel_below;

  // Least time of a step's kernels, however small its work: step_floor + layers x layer_floor.
  Seconds step_floor;
  Seconds layer_floor;
  Seconds step_launch;  // per step, never hidden: preparing inputs, sampling, reading results
  // One all-reduce of a small step among devices that share a model; two per layer, never hidden.
  Seconds collective;

  // One device's share of the host it usually sits in, all devices busy.
  ByteRate host_memory_bandwidth;  // sustained
  FlopRate host_attention;         // by its cores, sustained. 0: they never attend in place
  Bytes host_memory;               // what the host tier can be
  // Of a CPU, whose own kernels attend in place: KV in the host pool brought into the layout they
  // want, in time that attention to KV on the device does not take. For the first `in_place_rows`
  // query rows of a kv head, from memory (0: the host's cores attend instead, beside the device),
  // and for every further ones, from a cache.
  ByteRate in_place_read;
  ByteRate in_place_reread;
  int64_t in_place_rows = 0;
  StorageRate disk;
  StorageRate remote;

  Watts tdp;
  Watts idle;      // with a process on it that waits
  Watts transfer;  // added while the link is busy

  // C and BW of the paper (see PaperFlopRate()). 0: the device is not in the paper.
  FlopRate paper_compute;
  ByteRate paper_link;

  // Compute rate of weights in `format`: its own if the device has it, else bf16's, else f32's, as
  // weight-only quantization widens numbers before it multiplies them.
  const ComputeRate& RateFor(NumberFormat format) const;

  // Returns INVALID_ARGUMENT naming the first number that is missing, impossible or absurd, and the
  // range that is allowed.
  absl::Status Validate() const;
};

}  // namespace sluice
