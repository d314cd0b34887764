// What the flags of `serve` become for the CUDA backend; no device is needed.
#include "service/cli/cuda_serving.h"

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/cost/coefficients.h"
#include "service/calibration/calibration_file.h"
#include "service/profiles/catalogue.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

ModelConfig Model() {
  ModelConfig model;
  model.layers = 4;
  model.heads = 8;
  model.kv_heads = 2;
  model.head_dim = 128;
  return model;
}

CudaBackendOptions OptionsOf(const ServeConfig& config) {
  return MakeCudaOptions(config, Model(), Tokens(100), MiB(64), absl::Now);
}

TEST(CudaServingTest, EightBitKvMakesBothPoolsHoldMore) {
  ServeConfig config;
  config.model = std::string("m");
  config.backend = std::string("cuda");
  config.device_kv_bytes = MiB(8);
  config.host_kv_bytes = MiB(16);
  const CudaBackendOptions plain = OptionsOf(config);
  EXPECT_EQ(plain.device_codec, KvCodecKind::kRaw);
  EXPECT_EQ(plain.host_codec, KvCodecKind::kRaw);
  // Layers, K and V, tokens, heads, numbers, bytes.
  EXPECT_EQ(plain.device_blocks, Blocks((8 << 20) / (4 * 2 * 32 * 2 * 128 * 2)));
  EXPECT_EQ(plain.host_blocks.value(), 2 * plain.device_blocks->value());

  config.cuda.kv_cache_dtype = "fp8";
  const CudaBackendOptions fp8 = OptionsOf(config);
  EXPECT_EQ(fp8.device_codec, KvCodecKind::kFp8);
  EXPECT_EQ(fp8.host_codec, KvCodecKind::kFp8);
  const int64_t block = 4 * 2 * 32 * 2 * (128 + 2);  // codes and a scale
  EXPECT_EQ(fp8.device_blocks, Blocks((8 << 20) / block));
  EXPECT_EQ(fp8.host_blocks, Blocks((16 << 20) / block));

  config.cuda.kv_cache_dtype = "int8";
  EXPECT_EQ(OptionsOf(config).device_codec, KvCodecKind::kInt8);
}

TEST(CudaServingTest, CostsAreOfTheBytesThatMove) {
  CudaConfig config;
  EXPECT_EQ(CudaKvFormat(config), NumberFormat::kBf16);
  config.kv_cache_dtype = "fp8";
  EXPECT_EQ(CudaKvFormat(config), NumberFormat::kFp8);
  config.kv_cache_dtype = "int8";
  EXPECT_EQ(CudaKvFormat(config), NumberFormat::kInt8);

  CostCoefficients cost;
  const KvGeometry raw = CudaBackend::HostGeometry(Model(), Tokens(32), KvCodecKind::kRaw);
  PriceCudaKv(raw, cost);
  EXPECT_EQ(cost.kv_bytes_per_token, Bytes(4 * 2 * 2 * 128 * 2));
  PriceCudaKv(CudaBackend::HostGeometry(Model(), Tokens(32), KvCodecKind::kFp8), cost);
  EXPECT_EQ(cost.kv_bytes_per_token, Bytes(4 * 2 * 2 * (128 + 2)));
}

TEST(CudaServingTest, QuantizedWeightsAreReadInHalfTheTimeButForTheHead) {
  ModelConfig model = Model();
  model.hidden = 1024;
  model.intermediate = 4096;
  model.vocab = 1000;
  CudaConfig config;
  CostCoefficients cost;
  const Seconds before = cost.weight_read;
  PriceCudaWeights(config, model, cost);
  EXPECT_EQ(cost.weight_read, before);
  config.quantization = "fp8";
  PriceCudaWeights(config, model, cost);
  // q and o of 1024, k and v of 256, and three matrices of the feed-forward part.
  const double layers = 4 * 1024.0 * (1024 + 1024 + 256 + 256 + 3 * 4096);
  const double head = 1024.0 * 1000;
  EXPECT_NEAR(cost.weight_read.value() / before.value(), (layers / 2 + head) / (layers + head),
              1e-12);

  ServeConfig serve;
  serve.model = std::string("m");
  serve.backend = std::string("cuda");
  EXPECT_FALSE(OptionsOf(serve).fp8_weights);
  serve.cuda.quantization = "fp8";
  EXPECT_TRUE(OptionsOf(serve).fp8_weights);
}

TEST(CudaServingTest, BatchInvarianceIsAnOption) {
  ServeConfig serve;
  serve.model = std::string("m");
  serve.backend = std::string("cuda");
  EXPECT_FALSE(OptionsOf(serve).batch_invariant);
  serve.cuda.batch_invariant = true;
  EXPECT_TRUE(OptionsOf(serve).batch_invariant);
}

TEST(CudaServingTest, CodecsOfTheDiskFollowThoseOfHostAndDevice) {
  ServeConfig config;
  config.model = std::string("m");
  config.backend = std::string("cuda");
  config.kv_disk_dir = "d";
  EXPECT_EQ(OptionsOf(config).disk_codec, KvCodecKind::kRaw);
  config.kv_host_codec = "int8";
  EXPECT_EQ(OptionsOf(config).disk_codec, KvCodecKind::kInt8);
  config.kv_disk_codec = "int4";
  EXPECT_EQ(OptionsOf(config).disk_codec, KvCodecKind::kInt4);
  config.kv_host_codec = "raw";
  config.kv_disk_codec = "";
  config.cuda.kv_cache_dtype = "fp8";
  EXPECT_EQ(OptionsOf(config).disk_codec, KvCodecKind::kFp8);
}

// What `sluice calibrate --backend=cuda` has measured is what the link is told.
TEST(CudaServingTest, TheLinkIsAsTheCalibrationFileSays) {
  const testing::TempDir dir;
  HardwareProfile hardware = *Catalogue::Load()->FindHardware("h100-pcie5");
  const std::string path = dir.File("hardware.json");
  const CudaLinkRates defaults;
  ASSERT_THAT(WriteCalibration(path, hardware), testing::IsOk());
  auto rates = CalibratedCudaLink(path);
  ASSERT_THAT(rates.status(), testing::IsOk());
  EXPECT_EQ(rates->kernel_below, defaults.kernel_below) << "a profile of a machine without";
  EXPECT_EQ(rates->rate, defaults.rate);

  hardware.kernel_below = Bytes(11 << 10);
  ASSERT_THAT(WriteCalibration(path, hardware), testing::IsOk());
  rates = CalibratedCudaLink(path);
  ASSERT_THAT(rates.status(), testing::IsOk());
  EXPECT_EQ(rates->kernel_below, Bytes(11 << 10));
  EXPECT_EQ(rates->rate, hardware.to_host.sustained) << "the slower direction's";
  EXPECT_EQ(rates->per_descriptor, hardware.copy_overhead);

  EXPECT_THAT(CalibratedCudaLink(dir.File("missing.json")).status(),
              testing::StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("missing.json")));
}

}  // namespace
}  // namespace sluice
