// ServeConfig: everything `sluice serve` can be told, with the defaults people get.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "service/config/cuda_config.h"
#include "service/config/flag_set.h"
#include "service/config/remote_config.h"
#include "service/config/security_config.h"

namespace sluice {

inline constexpr Bytes kDefaultDiskBytes = MiB(8 * 1024);

inline constexpr int kDefaultHttpPort = 8000;

// Some 15 MiB with blocks of 32 tokens.
inline constexpr int64_t kDefaultKvEvents = 65'536;

// The memory of the host pool.
struct HostMemoryConfig {
  std::optional<int> numa_node;  // unset: wherever the system puts it; kAutoNode: near the CPUs
  static constexpr int kAutoNode = -2;
  bool lock = false;
  bool touch = true;
};

struct ServeConfig {
  // --- Model ---
  std::string backend = "cpu";          // cpu | cuda | sim
  std::string model;                    // Hugging Face directory; required unless sim
  std::string served_model_name;        // empty: the directory's or profile's name
  std::string dtype = "auto";           // auto | f32 | bf16
  std::optional<Tokens> max_model_len;  // unset: the model's own limit

  // --- NVIDIA GPU ---
  CudaConfig cuda;

  // --- Simulation: what backend "sim" pretends to be ---
  std::string hardware = "h100-pcie5";         // of the catalogue (service/profiles), or a path
  std::string model_profile = "llama-3.1-8b";  // likewise; also a config.json

  // --- Addresses ---
  // Loopback: nothing is reachable from outside unless asked for.
  std::string host = "127.0.0.1";
  int port = 50051;                   // 0: a free one
  std::string metrics_port = "9090";  // a port, "0" for a free one, or "off"
  // Of the OpenAI-compatible API: a port, "auto" for a free one, "0" or "off". Empty:
  // kDefaultHttpPort, or off if that is in use.
  std::string http_port;

  // --- KV cache ---
  Tokens block_size{32};
  std::optional<Bytes> device_kv_bytes;
  std::optional<Blocks> device_kv_blocks;
  std::optional<Bytes> host_kv_bytes;
  std::optional<Blocks> host_kv_blocks;
  HostMemoryConfig host_memory;
  std::string kv_disk_dir;             // empty: no disk tier
  std::optional<Bytes> kv_disk_bytes;  // unset: kDefaultDiskBytes, if there is a disk tier
  RemoteConfig kv_remote;
  // What blocks are on the host and on the disk: raw | fp8 | int8 | int4. Disk empty: as the host.
  std::string kv_host_codec = "raw";
  std::string kv_disk_codec;
  std::string attend_in_place = "auto";  // auto | off
  bool prefix_caching = true;
  int64_t kv_events = kDefaultKvEvents;  // kept for gateways that were away; 0: none are told
  double link_gbps = 0;  // 10^9 bytes per second per direction; 0 = as fast as memory

  // --- Scheduling ---
  Tokens max_num_batched_tokens{512};
  int64_t max_num_seqs = 256;
  int64_t max_steps_in_flight = 2;
  int64_t max_queue = 1024;
  bool preemption = true;
  std::string policy = "slack";
  double tpot_target_ms = 100;
  double patience_s = 30;
  std::string calibration;  // empty: the default place, if there is a file

  // --- Security ---
  SecurityConfig security;

  // --- Process ---
  int threads = 0;  // 0 = one per CPU
  double shutdown_timeout_s = 45;
  std::string log_level = "info";
  std::string record;            // file for a trace of all requests; empty: none
  int64_t trace_events = 32768;  // spans kept for sluice trace; 0: none
  std::string trace_file;        // what the engine does, as Chrome trace JSON; empty: none
  int64_t trace_file_limit_mib = 1024;

  bool simulated() const { return backend == "sim"; }

  // served_model_name, or the name of the directory or of the profile.
  std::string DisplayName() const;

  // What the pools take: as told, else the default for a process that may use `memory`.
  // `bytes_per_block` > 0. At least one device block.
  Blocks DeviceBlocks(Bytes bytes_per_block, Bytes memory) const;
  Blocks HostBlocks(Bytes bytes_per_block, Bytes memory) const;

  // What blocks are on the host: kv_host_codec, where raw keeps the device's bytes.
  const std::string& HostCodec() const {
    return cuda.quantizes_kv() ? cuda.kv_cache_dtype : kv_host_codec;
  }
  const std::string& DiskCodec() const {
    return kv_disk_codec.empty() ? HostCodec() : kv_disk_codec;
  }

  // What the disk tier may take.
  Bytes DiskBytes() const { return kv_disk_bytes.value_or(kDefaultDiskBytes); }

  // The metrics port; nothing if off. REQUIRES: Validate() is OK.
  std::optional<int> MetricsPort() const;

  // The port of the OpenAI-compatible API, 0 for a free one; nothing if off.
  // REQUIRES: Validate() is OK.
  std::optional<int> HttpPort() const;

  // Checks that concern several fields. Returns INVALID_ARGUMENT naming them.
  absl::Status Validate() const;
};

// The default size of either pool: 1 GiB, or a quarter of `memory` if that is less.
Bytes DefaultPoolBytes(Bytes memory);

// Defines the flags (and file keys) of `config` in `flags`.
void DefineServeFlags(FlagSet& flags, ServeConfig* config);

}  // namespace sluice
