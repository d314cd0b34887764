#include "service/config/serve_config.h"

#include "gtest/gtest.h"
#include "service/config/memory.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

constexpr Bytes kMemory = MiB(16 * 1024);

TEST(ServeConfigTest, TheNameIsTheDirectoryUnlessGiven) {
  ServeConfig config;
  config.model = std::string("/models/llama/");
  EXPECT_EQ(config.DisplayName(), "llama");
  config.model = std::string("deploy/demo/model");
  EXPECT_EQ(config.DisplayName(), "model");
  config.model = std::string("../m");
  EXPECT_EQ(config.DisplayName(), "m");
  config.model = std::string("..");
  EXPECT_EQ(config.DisplayName(), "model");
  config.served_model_name = std::string("mine");
  EXPECT_EQ(config.DisplayName(), "mine");
}

TEST(ServeConfigTest, PoolsDefaultToAGibibyteOrAQuarterOfMemory) {
  const ServeConfig config;
  EXPECT_EQ(config.DeviceBlocks(MiB(1), kMemory), Blocks(1024));
  EXPECT_EQ(config.HostBlocks(MiB(1), kMemory), Blocks(1024));
  EXPECT_EQ(config.DeviceBlocks(MiB(1), MiB(1024)), Blocks(256));
}

TEST(ServeConfigTest, PoolsFollowBytesAndBlocks) {
  ServeConfig config;
  config.device_kv_bytes = MiB(10);
  config.host_kv_bytes = Bytes(0);
  EXPECT_EQ(config.DeviceBlocks(MiB(3), kMemory), Blocks(3));
  EXPECT_EQ(config.HostBlocks(MiB(3), kMemory), Blocks(0));
  config.device_kv_blocks = Blocks(7);
  config.host_kv_blocks = Blocks(9);
  EXPECT_EQ(config.DeviceBlocks(MiB(3), kMemory), Blocks(7));
  EXPECT_EQ(config.HostBlocks(MiB(3), kMemory), Blocks(9));
}

TEST(ServeConfigTest, TheDevicePoolIsNeverEmpty) {
  ServeConfig config;
  config.device_kv_bytes = Bytes(1);
  EXPECT_EQ(config.DeviceBlocks(MiB(3), kMemory), Blocks(1));
}

TEST(ServeConfigTest, MetricsCanBeOffFreeOrFixed) {
  ServeConfig config;
  EXPECT_EQ(config.MetricsPort(), 9090);
  for (const char* off : {"off", "-1"}) {
    config.metrics_port = std::string(off);
    EXPECT_EQ(config.MetricsPort(), std::nullopt);
  }
  config.metrics_port = std::string("0");
  EXPECT_EQ(config.MetricsPort(), 0);
}

TEST(ServeConfigTest, TheHttpPortIsOffOnRequestOnly) {
  ServeConfig config;
  config.model = std::string("m");
  EXPECT_EQ(config.HttpPort(), kDefaultHttpPort);
  for (const char* off : {"off", "0"}) {
    config.http_port = std::string(off);
    EXPECT_EQ(config.HttpPort(), std::nullopt);
  }
  config.http_port = std::string("auto");
  EXPECT_EQ(config.HttpPort(), 0);
  config.http_port = std::string("50051");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--http-port: 50051 is also --port")));
  config.http_port = std::string("9090");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--http-port: 9090 is also --metrics-port")));
}

TEST(ServeConfigTest, ValidateNamesTheField) {
  ServeConfig config;
  config.model = std::string("m");
  EXPECT_THAT(config.Validate(), IsOk());
  config.block_size = Tokens(40);
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          "--block-size: 40 is not a multiple of 16"));
  config.block_size = Tokens(48);
  config.metrics_port = std::string("50051");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--metrics-port: 50051 is also --port")));
  config.metrics_port = std::string("0");
  config.port = 0;
  EXPECT_THAT(config.Validate(), IsOk());
}

TEST(ServeConfigTest, ACpuServerNeedsAModelAndASimulatedOneHasNone) {
  ServeConfig config;
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--model is required")));
  config.backend = "sim";
  EXPECT_THAT(config.Validate(), IsOk());
  EXPECT_EQ(config.DisplayName(), "llama-3.1-8b");
  config.model_profile = "/models/qwen/config.json";
  EXPECT_EQ(config.DisplayName(), "qwen");
  config.model_profile = "profiles/mine-7b.json";
  EXPECT_EQ(config.DisplayName(), "mine-7b");
  config.model = std::string("m");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--model: --backend=sim reads no checkpoint")));
  config.model.clear();
  config.host_kv_blocks = Blocks(3);
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--host-kv-blocks: not with --backend=sim")));
}

TEST(ServeConfigTest, CertificatesOfTheRemoteTierNeedTlsAndEachOther) {
  ServeConfig config;
  config.model = "m";
  const auto refused = [&config](const char* why) {
    EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  config.kv_remote.ca_file = "ca.pem";
  refused("--kv-remote-ca-file: needs --kv-remote-url");
  config.kv_remote.url = "redis://h";
  refused("--kv-remote-ca-file: needs TLS: a --kv-remote-url that begins with rediss://");
  config.kv_remote.url = "rediss://h";
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_remote.cert_file = "cert.pem";
  refused("--kv-remote-cert-file: needs --kv-remote-key-file");
  config.kv_remote.key_file = "key.pem";
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_remote.cert_file.clear();
  refused("--kv-remote-key-file: needs --kv-remote-cert-file");
}

TEST(ServeConfigTest, ARemoteTierNeedsItsUrlAHostPoolAndSomethingToReuse) {
  ServeConfig config;
  config.model = "m";
  const auto refused = [&config](const char* why) {
    EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  config.kv_remote.limit = MiB(64);
  refused("--kv-remote-gib: needs --kv-remote-url");
  config.kv_remote.password_file = "p";
  refused("--kv-remote-password-file: needs --kv-remote-url");
  config.kv_remote.url = "redis://h";
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_disk_codec = "int4";  // of whatever is behind the host
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_disk_dir = "d";
  refused("--kv-remote-gib: not together with --kv-disk-dir");
  config.kv_remote.limit.reset();
  EXPECT_THAT(config.Validate(), IsOk());  // both at once
  config.kv_disk_dir.clear();
  config.host_kv_bytes = Bytes(0);
  refused("--kv-remote-url: needs a host pool");
  config.host_kv_bytes.reset();
  config.prefix_caching = false;
  refused("--kv-remote-url: holds KV to be reused");
  config.prefix_caching = true;
  config.kv_disk_codec.clear();
  config.backend = "sim";
  config.model.clear();
  refused("--kv-remote-url: not with --backend=sim");
}

TEST(ServeConfigTest, ADiskTierNeedsItsDirectoryAHostPoolAndSomethingToReuse) {
  ServeConfig config;
  config.model = "m";
  config.kv_disk_bytes = MiB(64);
  const auto refused = [&config](const char* why) {
    EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused("--kv-disk-gib: needs --kv-disk-dir");
  config.kv_disk_dir = "d";
  EXPECT_THAT(config.Validate(), IsOk());
  EXPECT_EQ(config.DiskBytes(), MiB(64));
  config.kv_disk_bytes.reset();
  EXPECT_EQ(config.DiskBytes(), kDefaultDiskBytes);
  config.host_kv_blocks = Blocks(0);
  refused("--kv-disk-dir: needs a host pool");
  config.host_kv_blocks.reset();
  config.prefix_caching = false;
  refused("--kv-disk-dir: holds KV to be reused");
  config.backend = "sim";
  config.model.clear();
  refused("--kv-disk-dir: not with --backend=sim");
}

TEST(ServeConfigTest, TheDiskIsEncodedLikeTheHostOrSmaller) {
  ServeConfig config;
  config.model = "m";
  config.kv_disk_dir = "d";
  EXPECT_EQ(config.DiskCodec(), "raw");
  config.kv_host_codec = "int8";
  EXPECT_EQ(config.DiskCodec(), "int8");
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_disk_codec = "int4";
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_disk_codec = "raw";
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--kv-disk-codec: raw behind a host pool of int8 keeps nothing")));
  config.kv_host_codec = "raw";
  config.kv_disk_codec = "int8";
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_disk_dir.clear();
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--kv-disk-codec: needs --kv-disk-dir")));
  config.kv_disk_codec.clear();
  config.backend = "sim";
  config.model.clear();
  config.kv_host_codec = "fp8";
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--kv-host-codec: not with --backend=sim")));
}

TEST(ServeConfigTest, WhatTheCudaBackendDoesNotDoIsRefusedByFlag) {
  ServeConfig config;
  config.model = "m";
  config.backend = "cuda";
  config.cuda.device = "1";
  EXPECT_THAT(config.Validate(), IsOk());
  const auto refused = [&](const char* text) {
    EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  };
  config.dtype = "f32";
  refused("--dtype: f32: the CUDA backend computes in bf16");
  config.dtype = "auto";
  config.kv_host_codec = "int4";
  refused("--kv-host-codec: int4: the CUDA backend has raw, fp8 and int8");
  config.kv_host_codec = "int8";
  config.link_gbps = 3;
  refused("--link-gbps: a real link is not emulated");
  config.link_gbps = 0;
  config.kv_disk_dir = "d";
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_disk_dir.clear();
  config.kv_remote.url = "unix:s";
  EXPECT_THAT(config.Validate(), IsOk());
  config.kv_remote.url.clear();
  config.backend = "cpu";
  refused("--device: needs --backend=cuda");
}

TEST(ServeConfigTest, KvOnTheDeviceMayBeOfEightBits) {
  ServeConfig config;
  config.model = "m";
  config.backend = "cuda";
  EXPECT_EQ(config.HostCodec(), "raw");
  for (const char* type : {"fp8", "int8"}) {
    config.cuda.kv_cache_dtype = type;
    EXPECT_THAT(config.Validate(), IsOk());
    // raw keeps the device's bytes, on the host and behind it.
    EXPECT_EQ(config.HostCodec(), type);
    EXPECT_EQ(config.DiskCodec(), type);
    config.kv_host_codec = type;
    EXPECT_THAT(config.Validate(), IsOk());
    EXPECT_EQ(config.HostCodec(), type);
    config.kv_host_codec = "raw";
  }
  const auto refused = [&](absl::StatusCode code, const char* text) {
    EXPECT_THAT(config.Validate(), StatusIs(code, HasSubstr(text)));
  };
  config.kv_host_codec = "fp8";
  refused(absl::StatusCode::kInvalidArgument,
          "--kv-host-codec: fp8 behind a device pool of int8 would round twice; want raw");
  config.kv_host_codec = "raw";
  config.backend = "cpu";
  refused(absl::StatusCode::kUnimplemented,
          "--kv-cache-dtype: a CPU attends to KV in the type of --dtype only");
  config.backend = "sim";
  config.model.clear();
  refused(absl::StatusCode::kUnimplemented, "--kv-cache-dtype: not with --backend=sim");
}

TEST(ServeConfigTest, WeightsAreQuantizedOnTheDeviceOnly) {
  ServeConfig config;
  config.model = "m";
  config.backend = "cuda";
  config.cuda.quantization = "fp8";
  EXPECT_THAT(config.Validate(), IsOk());
  config.backend = "cpu";
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("--quantization: fp8: not with --backend=cpu, which multiplies")));
  config.backend = "sim";
  config.model.clear();
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("--quantization: fp8: not with --backend=sim")));
}

TEST(MemoryTest, AControlGroupLimitCountsIfItIsSmaller) {
  EXPECT_EQ(ParseCgroupLimit("1048576", kMemory), MiB(1));
  EXPECT_EQ(ParseCgroupLimit("max", kMemory), kMemory);
  EXPECT_EQ(ParseCgroupLimit("", kMemory), kMemory);
  EXPECT_EQ(ParseCgroupLimit("9223372036854771712", kMemory), kMemory);
  EXPECT_GT(MemoryLimit(), MiB(16));
}

}  // namespace
}  // namespace sluice
