#include "service/config/serve_config.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/policy/registry.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxPort = 65535;
constexpr int64_t kMaxKvEvents = int64_t{1} << 24;

void DefineModelFlags(FlagSet& flags, ServeConfig* c) {
  flags.Group("Model");
  flags.Choice("backend", &c->backend, {"cpu", "cuda", "sim"},
               "what runs the model; sim is a cost model in real time, without a checkpoint");
  flags.String("model", &c->model, "DIR", "Hugging Face model directory; required by cpu and cuda");
  flags.String("served-model-name", &c->served_model_name, "NAME",
               "name that clients and metrics see (default: the directory's or profile's name)");
  flags.Choice("dtype", &c->dtype, {"auto", "f32", "bf16"},
               "type of weights and KV; auto keeps the checkpoint's");
  flags.Integer("max-model-len", &c->max_model_len, 2, kMaxTokens, "TOKENS",
                "longest prompt plus output (default: the model's limit)");
}

void DefineSimulationFlags(FlagSet& flags, ServeConfig* c) {
  flags.Group("Simulation (--backend=sim)");
  flags.String("hardware", &c->hardware, "NAME|PATH", "hardware profile (sluice plan --list)");
  flags.String("model-profile", &c->model_profile, "NAME|PATH",
               "model profile, or a config.json; prompts are token ids, answers mean nothing and "
               "go on to max_tokens");
}

void DefineAddressFlags(FlagSet& flags, ServeConfig* c) {
  flags.Group("Addresses");
  flags.String("host", &c->host, "ADDR",
               "address to listen on; 0.0.0.0 for all (loopback by default, for safety)");
  flags.Integer("port", &c->port, 0, kMaxPort, "PORT", "gRPC port; 0 picks a free one").aliases = {
      "grpc-port"};
  Flag metrics;
  metrics.name = "metrics-port";
  metrics.value_name = "PORT|off";
  metrics.help = "HTTP port of /metrics; 0 picks a free one";
  metrics.default_text = c->metrics_port;
  metrics.set = [c](const std::vector<std::string>& values) -> absl::Status {
    if (values.back() != "off" && values.back() != "-1") {
      SLUICE_RETURN_IF_ERROR(ParseInteger(values.back(), 0, kMaxPort).status());
    }
    c->metrics_port = values.back();
    return absl::OkStatus();
  };
  metrics.show = [c] { return c->metrics_port; };
  flags.Add(std::move(metrics));
  Flag http;
  http.name = "http-port";
  http.value_name = "PORT|auto|off";
  http.help =
      "port of the OpenAI-compatible HTTP API; auto picks a free one, 0 = off (the default is off "
      "if it is in use)";
  http.default_text = absl::StrCat(kDefaultHttpPort);
  http.set = [c](const std::vector<std::string>& values) -> absl::Status {
    if (values.back() != "off" && values.back() != "auto") {
      SLUICE_RETURN_IF_ERROR(ParseInteger(values.back(), 0, kMaxPort).status());
    }
    c->http_port = values.back();
    return absl::OkStatus();
  };
  http.show = [c] { return c->http_port.empty() ? absl::StrCat(kDefaultHttpPort) : c->http_port; };
  flags.Add(std::move(http));
}

void DefineKvEventsFlag(FlagSet& flags, ServeConfig* c) {
  Flag events;
  events.name = "kv-events";
  events.value_name = "on|off|N";
  events.help =
      "tell gateways which KV blocks are here (SubscribeKvEvents), and keep the last N events for "
      "those that were away";
  events.default_text = absl::StrCat(kDefaultKvEvents);
  events.set = [c](const std::vector<std::string>& values) -> absl::Status {
    const std::string& value = values.back();
    if (value == "on" || value == "off") {
      c->kv_events = value == "on" ? kDefaultKvEvents : 0;
      return absl::OkStatus();
    }
    SLUICE_ASSIGN_OR_RETURN(c->kv_events, ParseInteger(value, 0, kMaxKvEvents));
    return absl::OkStatus();
  };
  events.show = [c] { return c->kv_events > 0 ? absl::StrCat(c->kv_events) : "off"; };
  flags.Add(std::move(events));
}

void DefineCodecFlags(FlagSet& flags, ServeConfig* c) {
  flags.Choice(
      "kv-host-codec", &c->kv_host_codec, {"raw", "fp8", "int8", "int4"},
      "what KV is in the host pool: raw keeps every bit, the others hold 1.9 (fp8, int8) or "
      "3.2 times (int4) the tokens per GiB");
  Flag disk;
  disk.name = "kv-disk-codec";
  disk.value_name = "raw|fp8|int8|int4";
  disk.help = "what KV is on the disk and in the remote store (default: as in the host pool)";
  disk.default_text = "--kv-host-codec";
  disk.set = [c](const std::vector<std::string>& values) -> absl::Status {
    for (const char* name : {"raw", "fp8", "int8", "int4"}) {
      if (values.back() != name) continue;
      c->kv_disk_codec = name;
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError("want raw, fp8, int8 or int4");
  };
  disk.show = [c] { return c->DiskCodec(); };
  flags.Add(std::move(disk));
  flags.Choice("attend-in-place", &c->attend_in_place, {"auto", "off"},
               "auto lets attention read KV in the host pool where it lies, where that is expected "
               "to be faster than loading it; never with an emulated link (--link-gbps)");
}

void DefineHostMemoryFlags(FlagSet& flags, HostMemoryConfig* c) {
  constexpr int64_t kMostNodes = 1024;
  Flag node;
  node.name = "kv-host-numa-node";
  node.value_name = "N|auto";
  node.help =
      "NUMA node for the host pool while it has room; auto: that of the CPUs this process may use";
  node.set = [c](const std::vector<std::string>& values) -> absl::Status {
    if (values.back() == "auto") {
      c->numa_node = HostMemoryConfig::kAutoNode;
      return absl::OkStatus();
    }
    SLUICE_ASSIGN_OR_RETURN(const int64_t number, ParseInteger(values.back(), 0, kMostNodes - 1));
    c->numa_node = static_cast<int>(number);
    return absl::OkStatus();
  };
  node.show = [c] {
    if (!c->numa_node.has_value()) return std::string();
    return *c->numa_node >= 0 ? absl::StrCat(*c->numa_node) : std::string("auto");
  };
  flags.Add(std::move(node));
  flags.Bool("kv-host-lock", &c->lock,
             "lock the host pool in memory; says so if RLIMIT_MEMLOCK does not allow it");
  flags.Bool(
      "kv-host-touch", &c->touch,
      "have the host pool's memory given by the system in the background at start, not block "
      "by block when first used");
}

void DefineCacheFlags(FlagSet& flags, ServeConfig* c) {
  flags.Group("KV cache");
  flags.Integer("block-size", &c->block_size, 16, 256, "TOKENS",
                "tokens per KV block, a multiple of 16");
  flags.Size("device-kv-gib", &c->device_kv_bytes,
             "device pool; suffixes as in 64MiB or 2GiB (default: 1 GiB, at most a quarter of "
             "memory)");
  flags.Integer("device-kv-blocks", &c->device_kv_blocks, 1, kMaxBlocks, "BLOCKS",
                "device pool, in blocks (instead of --device-kv-gib)");
  flags
      .Size("host-kv-gib", &c->host_kv_bytes,
            "host pool, where evicted KV goes; 0 = none (default: 1 GiB, at most a quarter of "
            "memory)")
      .aliases = {"kv-offloading-size"};
  flags.Integer("host-kv-blocks", &c->host_kv_blocks, 0, kMaxBlocks, "BLOCKS",
                "host pool, in blocks (instead of --host-kv-gib)");
  flags.String(
      "kv-disk-dir", &c->kv_disk_dir, "DIR",
      "directory of the disk tier, where KV outlives the server; one server at a time; with "
      "--kv-remote-url, a copy of all KV goes there as well");
  flags.Size("kv-disk-gib", &c->kv_disk_bytes,
             "most the disk tier may take, for this model (default with --kv-disk-dir: 8 GiB)");
  DefineHostMemoryFlags(flags, &c->host_memory);
  DefineRemoteFlags(flags, &c->kv_remote);
  DefineCodecFlags(flags, c);
  flags.Exclusive("device-kv-gib", "device-kv-blocks");
  flags.Exclusive("host-kv-gib", "host-kv-blocks");
  flags.Bool("enable-prefix-caching", &c->prefix_caching, "reuse the KV of equal prefixes");
  DefineKvEventsFlag(flags, c);
  flags.Number(
      "link-gbps", &c->link_gbps, 0, 10000, "GB/S",
      "slow KV copies down to this many 10^9 bytes/s per direction, to emulate a link; 0 = "
      "as fast as memory");
}

void DefineSchedulingFlags(FlagSet& flags, ServeConfig* c) {
  flags.Group("Scheduling");
  flags.Integer("max-num-batched-tokens", &c->max_num_batched_tokens, 1, 1 << 20, "TOKENS",
                "most tokens in one step; larger raises throughput and the gap between tokens");
  flags.Integer("max-num-seqs", &c->max_num_seqs, 1, 1 << 16, "N", "most requests running at once");
  flags.Integer(
      "max-steps-in-flight", &c->max_steps_in_flight, 1, 2, "N",
      "2: the next step starts before the tokens of the last are known, where the backend "
      "can (cuda); 1: a request that arrives waits for one step less");
  flags.Integer("max-queue", &c->max_queue, 1, 1 << 24, "N",
                "most requests waiting; more are RESOURCE_EXHAUSTED");
  flags.Bool("preemption", &c->preemption,
             "let higher-priority requests take the blocks of running lower ones");
  flags
      .String("policy", &c->policy, "NAME",
              "who goes first and how cached KV is used: slack, or a baseline such as fcfs")
      .aliases = {"scheduling-policy"};
  flags.Number("tpot-target-ms", &c->tpot_target_ms, 0.1, 3.6e6, "MS",
               "prompt chunks leave room for this time between the tokens of running requests");
  flags.Number("patience", &c->patience_s, 0, 86400, "SECONDS",
               "slack: waiting longer than this, and than the work ahead took, goes first");
  flags.String("calibration", &c->calibration, "FILE",
               "what steps and copies cost here, from sluice calibrate (default: "
               "~/.cache/sluice/hardware.json if it is there)");
}

void DefineProcessFlags(FlagSet& flags, ServeConfig* c) {
  flags.Group("Process");
  flags.Integer("threads", &c->threads, 0, 4096, "N", "compute threads; 0 = one per CPU");
  flags.Number("shutdown-timeout", &c->shutdown_timeout_s, 0, 86400, "SECONDS",
               "after SIGTERM, how long live requests may take to finish");
  flags.Choice("log-level", &c->log_level, {"debug", "info", "warning", "error"},
               "least severe messages to log (to stderr)");
  flags.String("record", &c->record, "FILE",
               "write a trace of all requests here, .jsonl or .jsonl.gz, for sluice simulate: "
               "times, lengths, and salted hashes instead of tokens");
  flags.Integer("trace-events", &c->trace_events, 0, 1 << 24, "N",
                "steps, copies and request phases kept for sluice trace; 0 = none");
  flags.String("trace-file", &c->trace_file, "FILE",
               "write what the engine does here, for ui.perfetto.dev");
  flags.Integer("trace-file-limit-mib", &c->trace_file_limit_mib, 1, 1 << 20, "MIB",
                "--trace-file ends at this size");
}

Blocks BlocksIn(Bytes bytes, Bytes bytes_per_block) {
  return Blocks(std::min(bytes.value() / bytes_per_block.value(), kMaxBlocks));
}

// Where the name of a served model is: a directory, a profile's name, or its file without ".json".
std::filesystem::path NamedBy(const ServeConfig& c) {
  if (!c.simulated()) return c.model;
  const std::filesystem::path profile = c.model_profile;
  if (profile.filename() == "config.json") return std::filesystem::absolute(profile).parent_path();
  return profile.extension() == ".json" ? profile.stem() : profile;
}

absl::Status CheckModel(const ServeConfig& c) {
  if (c.simulated()) {
    const bool blocks = c.device_kv_blocks.has_value() || c.host_kv_blocks.has_value();
    if (!c.model.empty()) {
      return absl::InvalidArgumentError(
          "--model: --backend=sim reads no checkpoint; use --model-profile");
    }
    if (!blocks) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(c.device_kv_blocks.has_value() ? "--device-kv-blocks" : "--host-kv-blocks",
                     ": not with --backend=sim; use --device-kv-gib and --host-kv-gib"));
  }
  if (!c.model.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--model is required: Hugging Face model directory (or --backend=sim, which needs none)");
}

absl::Status CheckCodecs(const ServeConfig& c) {
  if (c.simulated() && (c.kv_host_codec != "raw" || !c.kv_disk_codec.empty())) {
    return absl::InvalidArgumentError(
        "--kv-host-codec: not with --backend=sim, which has no bytes to encode");
  }
  if (!c.kv_disk_codec.empty() && c.kv_disk_dir.empty() && !c.kv_remote.on()) {
    return absl::InvalidArgumentError(
        "--kv-disk-codec: needs --kv-disk-dir, the directory to use, or --kv-remote-url");
  }
  const std::string& disk = c.DiskCodec();
  const std::string& host = c.HostCodec();
  if (disk == host || host == "raw" || disk == "int4") return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--kv-disk-codec: ", disk, " behind a host pool of ", host,
                   " keeps nothing that ", host, " has not lost; want ", host, " or int4"));
}

absl::Status CheckKvType(const ServeConfig& c) {
  if (!c.cuda.quantizes_kv()) return absl::OkStatus();
  if (c.backend == "cpu") {
    return absl::UnimplementedError(
        "--kv-cache-dtype: a CPU attends to KV in the type of --dtype only; use --kv-host-codec, "
        "which quantizes what is evicted to the host pool");
  }
  if (c.backend == "sim") {
    return absl::UnimplementedError(
        "--kv-cache-dtype: not with --backend=sim, whose KV has the model profile's type");
  }
  if (c.kv_host_codec == "raw" || c.kv_host_codec == c.cuda.kv_cache_dtype) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--kv-host-codec: ", c.kv_host_codec, " behind a device pool of ", c.cuda.kv_cache_dtype,
      " would round twice; want raw, which keeps the device's bytes"));
}

absl::Status CheckQuantization(const ServeConfig& c) {
  if (c.cuda.quantization == "none" || c.backend == "cuda") return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "--quantization: ", c.cuda.quantization, ": not with --backend=", c.backend,
      c.simulated() ? ", which has no weights" : ", which multiplies in f32 and bf16 only"));
}

absl::Status CheckCuda(const ServeConfig& c) {
  SLUICE_RETURN_IF_ERROR(CheckKvType(c));
  SLUICE_RETURN_IF_ERROR(CheckQuantization(c));
  if (c.backend != "cuda") {
    if (c.cuda.device.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--device: needs --backend=cuda");
  }
  if (c.dtype == "f32") {
    return absl::InvalidArgumentError("--dtype: f32: the CUDA backend computes in bf16");
  }
  if (c.kv_host_codec == "int4") {
    return absl::InvalidArgumentError(
        "--kv-host-codec: int4: the CUDA backend has raw, fp8 and int8");
  }
  if (c.link_gbps > 0) {
    return absl::InvalidArgumentError("--link-gbps: a real link is not emulated; not with cuda");
  }
  return absl::OkStatus();
}

absl::Status CheckRemote(const ServeConfig& c) {
  SLUICE_RETURN_IF_ERROR(c.kv_remote.Validate());
  if (!c.kv_remote.on()) return absl::OkStatus();
  if (!c.kv_disk_dir.empty() && c.kv_remote.limit.has_value()) {
    return absl::InvalidArgumentError(
        "--kv-remote-gib: not together with --kv-disk-dir: the server keeps track of as many "
        "blocks "
        "as --kv-disk-gib holds, wherever they are");
  }
  if (c.simulated()) {
    return absl::InvalidArgumentError(
        "--kv-remote-url: not with --backend=sim, which has no bytes");
  }
  if (c.host_kv_blocks == Blocks(0) || c.host_kv_bytes == Bytes(0)) {
    return absl::InvalidArgumentError(
        "--kv-remote-url: needs a host pool, through which all KV passes; give --host-kv-gib more "
        "than 0");
  }
  if (c.prefix_caching) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--kv-remote-url: holds KV to be reused, which --no-enable-prefix-caching turns off");
}

absl::Status CheckDisk(const ServeConfig& c) {
  SLUICE_RETURN_IF_ERROR(CheckCodecs(c));
  if (c.kv_disk_dir.empty()) {
    if (!c.kv_disk_bytes.has_value()) return absl::OkStatus();
    return absl::InvalidArgumentError("--kv-disk-gib: needs --kv-disk-dir, the directory to use");
  }
  if (c.simulated()) {
    return absl::InvalidArgumentError("--kv-disk-dir: not with --backend=sim, which has no bytes");
  }
  if (c.host_kv_blocks == Blocks(0) || c.host_kv_bytes == Bytes(0)) {
    return absl::InvalidArgumentError(
        "--kv-disk-dir: needs a host pool, through which all KV passes; give --host-kv-gib more "
        "than 0");
  }
  if (c.prefix_caching) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--kv-disk-dir: holds KV to be reused, which --no-enable-prefix-caching turns off");
}

}  // namespace

Bytes DefaultPoolBytes(Bytes memory) { return std::min(MiB(1024), Bytes(memory.value() / 4)); }

std::string ServeConfig::DisplayName() const {
  if (!served_model_name.empty()) return served_model_name;
  const std::filesystem::path path = NamedBy(*this).lexically_normal();
  const std::string name = path.has_filename() ? path.filename() : path.parent_path().filename();
  return name.empty() || name == "." || name == ".." ? "model" : name;
}

Blocks ServeConfig::DeviceBlocks(Bytes bytes_per_block, Bytes memory) const {
  if (device_kv_blocks.has_value()) return *device_kv_blocks;
  const Bytes bytes = device_kv_bytes.value_or(DefaultPoolBytes(memory));
  return std::max(Blocks(1), BlocksIn(bytes, bytes_per_block));
}

Blocks ServeConfig::HostBlocks(Bytes bytes_per_block, Bytes memory) const {
  if (host_kv_blocks.has_value()) return *host_kv_blocks;
  return BlocksIn(host_kv_bytes.value_or(DefaultPoolBytes(memory)), bytes_per_block);
}

std::optional<int> ServeConfig::MetricsPort() const {
  if (metrics_port == "off" || metrics_port == "-1") return std::nullopt;
  return static_cast<int>(*ParseInteger(metrics_port, 0, kMaxPort));
}

std::optional<int> ServeConfig::HttpPort() const {
  if (http_port.empty()) return kDefaultHttpPort;
  if (http_port == "auto") return 0;
  if (http_port == "off") return std::nullopt;
  const int64_t number = *ParseInteger(http_port, 0, kMaxPort);
  return number == 0 ? std::nullopt : std::optional(static_cast<int>(number));
}

absl::Status ServeConfig::Validate() const {
  SLUICE_RETURN_IF_ERROR(CheckModel(*this));
  SLUICE_RETURN_IF_ERROR(security.Validate());
  SLUICE_RETURN_IF_ERROR(CheckCuda(*this));
  SLUICE_RETURN_IF_ERROR(CheckDisk(*this));
  SLUICE_RETURN_IF_ERROR(CheckRemote(*this));
  if (host.empty()) {
    return absl::InvalidArgumentError("--host: is empty; name an address, 0.0.0.0 for all");
  }
  if (block_size.value() % 16 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--block-size: ", block_size.value(), " is not a multiple of 16"));
  }
  if (const absl::Status known = MakePolicy(policy, {}).status(); !known.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--policy: ", known.message()));
  }
  if (!trace_file.empty() && trace_events == 0) {
    return absl::InvalidArgumentError("--trace-file: needs --trace-events above 0");
  }
  const std::optional<int> metrics = MetricsPort();
  if (metrics.has_value() && *metrics != 0 && *metrics == port) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics-port: ", *metrics, " is also --port; choose another, 0 or off"));
  }
  const std::optional<int> http = HttpPort();
  if (!http_port.empty() && http.value_or(0) != 0 && (*http == port || http == metrics)) {
    return absl::InvalidArgumentError(absl::StrCat("--http-port: ", *http, " is also ",
                                                   *http == port ? "--port" : "--metrics-port",
                                                   "; choose another, auto or off"));
  }
  return absl::OkStatus();
}

void DefineServeFlags(FlagSet& flags, ServeConfig* config) {
  DefineModelFlags(flags, config);
  DefineCudaFlags(flags, &config->cuda);
  DefineSimulationFlags(flags, config);
  DefineAddressFlags(flags, config);
  DefineCacheFlags(flags, config);
  DefineSchedulingFlags(flags, config);
  DefineSecurityFlags(flags, &config->security);
  DefineProcessFlags(flags, config);
}

}  // namespace sluice
