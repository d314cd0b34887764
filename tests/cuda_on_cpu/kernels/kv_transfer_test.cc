#include "backend/cuda/kernels/kv_transfer.h"

#include <cstring>

#include "backend/kv/kv_codec.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kLayers = 2;
constexpr int64_t kBlocks = 5;

std::vector<unsigned char> RandomBytes(size_t size, std::mt19937_64& rng) {
  std::vector<unsigned char> bytes(size);
  for (unsigned char& b : bytes) b = static_cast<unsigned char>(rng());
  return bytes;
}

KvTransferParams Params(const KvPageShape& page, KvType from, KvType to,
                        const DeviceValues<KvTransferPair>& pairs, int count) {
  KvTransferParams params;
  params.pairs = pairs.data();
  params.count = count;
  params.shape = page;
  params.from_type = from;
  params.to_type = to;
  return params;
}

class KvTransferTest : public KernelTest {};

TEST_F(KvTransferTest, PagesGoToTheHostAndBackUnchanged) {
  uint64_t seed = 1;
  for (const KvType type : {KvType::kHalf, KvType::kFp8E4m3}) {
    for (const int64_t head_dim : {16, 64, 80, 96, 128, 256}) {
      for (const int64_t kv_heads : {1, 3}) {
        SCOPED_TRACE(::testing::Message() << "dim " << head_dim << " seed " << seed);
        Use(ScheduleOf(seed));
        std::mt19937_64 rng(seed++);
        const KvPageShape page = {kv_heads, head_dim, 16, type};
        const auto bytes = static_cast<size_t>(page.page_bytes());
        const std::vector<unsigned char> content = RandomBytes(bytes * kBlocks, rng);
        const DeviceValues<unsigned char> device(content), back(bytes * kBlocks);
        const PinnedArray<unsigned char> host(bytes * kLayers * kBlocks, 0xee);
        const DeviceValues<KvTransferPair> store(
            std::vector<KvTransferPair>{{4, 0}, {1, 3}, {2, 2}});
        const DeviceValues<KvTransferPair> load(
            std::vector<KvTransferPair>{{0, 1}, {3, 0}, {2, 4}});
        KvTransferParams params = Params(page, type, type, store, 3);
        params.from = MakeKvView(page, device.data(), page.page_bytes(), nullptr);
        params.to = MakeKvView(page, host.data() + bytes, kLayers * page.page_bytes(), nullptr);
        const TestStream stream;
        ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
        std::swap(params.from, params.to);
        params.to.data = back.data();
        params.pairs = load.data();
        ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
        EXPECT_CUDA_OK(stream.Synchronize());
        const std::vector<unsigned char> got = back.Get();
        const std::pair<int, int> arrived[] = {{4, 1}, {1, 0}, {2, 4}};
        for (const auto& [from, to] : arrived) {
          EXPECT_EQ(std::memcmp(&content[from * bytes], &got[to * bytes], bytes), 0);
        }
        // Neither the other layer nor other blocks are touched.
        for (int64_t b = 0; b < kBlocks; ++b) {
          const bool written = b == 0 || b == 2 || b == 3;
          const unsigned char* layers = host.data() + static_cast<size_t>(b) * kLayers * bytes;
          EXPECT_EQ(layers[bytes - 1], 0xee);
          if (!written) {
            EXPECT_EQ(layers[bytes], 0xee);
          }
        }
      }
    }
  }
}

TEST_F(KvTransferTest, PagesOfEverySizeArriveWhole) {
  uint64_t seed = 200;
  for (const int64_t block : {16, 32, 48, 64, 128, 256}) {
    for (const int64_t kv_heads : {1, 2, 5, 8}) {
      SCOPED_TRACE(::testing::Message() << "block " << block << " seed " << seed);
      Use(ScheduleOf(seed));
      std::mt19937_64 rng(seed);
      const KvPageShape page = {kv_heads, seed % 2 == 0 ? 64 : 80, block,
                                seed % 3 == 0 ? KvType::kInt8 : KvType::kHalf};
      ++seed;
      const auto bytes = static_cast<size_t>(page.page_bytes());
      const std::vector<unsigned char> content = RandomBytes(bytes * 3, rng);
      const DeviceValues<unsigned char> from(content), to(bytes * 3);
      const DeviceValues<KvTransferPair> pairs(std::vector<KvTransferPair>{{0, 2}, {2, 0}, {1, 1}});
      KvTransferParams params = Params(page, page.type, page.type, pairs, 3);
      params.from = MakeKvView(page, from.data(), page.page_bytes(), nullptr);
      params.to = MakeKvView(page, to.data(), page.page_bytes(), nullptr);
      const TestStream stream;
      ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
      EXPECT_CUDA_OK(stream.Synchronize());
      const std::vector<unsigned char> got = to.Get();
      for (size_t b = 0; b < 3; ++b) {
        EXPECT_EQ(std::memcmp(&content[b * bytes], &got[(2 - b) * bytes], bytes), 0) << b;
      }
    }
  }
}

// Between [K, V][token][head][dim] and [K, V][head][token][dim].
TEST_F(KvTransferTest, LayoutsMayDiffer) {
  const KvPageShape page = {3, 80, 32, KvType::kHalf};
  const auto bytes = static_cast<size_t>(page.page_bytes());
  std::mt19937_64 rng(9);
  const std::vector<unsigned char> content = RandomBytes(bytes * kBlocks, rng);
  const DeviceValues<unsigned char> from(content), to(bytes * kBlocks);
  const DeviceValues<KvTransferPair> pairs(std::vector<KvTransferPair>{{0, 4}, {3, 1}});
  KvTransferParams params = Params(page, KvType::kHalf, KvType::kHalf, pairs, 2);
  params.from = MakeKvView(page, from.data(), page.page_bytes(), nullptr);
  params.to = MakeKvView(page, to.data(), page.page_bytes(), nullptr);
  params.to.token_stride = static_cast<int32_t>(page.row_bytes());
  params.to.head_stride = static_cast<int32_t>(page.row_bytes() * page.block_tokens);
  const TestStream stream;
  ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  const std::vector<unsigned char> got = to.Get();
  const auto row = static_cast<size_t>(page.row_bytes());
  for (size_t half = 0; half < 2; ++half) {
    for (size_t t = 0; t < 32; ++t) {
      for (size_t h = 0; h < 3; ++h) {
        const size_t source = 3 * bytes + half * bytes / 2 + (t * 3 + h) * row;
        const size_t target = bytes + half * bytes / 2 + (h * 32 + t) * row;
        ASSERT_EQ(std::memcmp(&content[source], &got[target], row), 0) << t << " " << h;
      }
    }
  }
}

// Quantized on the way out and dequantized on the way in, byte for byte as KvCodec does it.
TEST_F(KvTransferTest, ChangesOfTypeAreTheCodecs) {
  uint64_t seed = 50;
  for (const KvType type : {KvType::kFp8E4m3, KvType::kInt8}) {
    for (const int64_t head_dim : {64, 80, 96, 128, 256}) {
      for (const int64_t group : {16, 32, 64, 128, 256}) {
        SCOPED_TRACE(::testing::Message()
                     << "dim " << head_dim << " group " << group << " seed " << seed);
        Use(ScheduleOf(seed));
        std::mt19937_64 rng(seed++);
        KvPageShape page = {2, head_dim, 16, KvType::kHalf, group};
        KvPageShape coded = page;
        coded.type = type;
        const auto bytes = static_cast<size_t>(page.page_bytes());
        const auto coded_bytes = static_cast<size_t>(coded.page_bytes());
        std::vector<uint16_t> numbers = RandomHalves(HalfType::kBf16, bytes, rng, 3.0);
        for (size_t i = 0; i < numbers.size(); i += 1 + rng() % 7) {
          numbers[i] = static_cast<uint16_t>(rng() % 0x7000 | (rng() % 2) << 15);  // all magnitudes
        }
        const DeviceValues<uint16_t> plain(numbers), back(numbers.size());
        const PinnedArray<unsigned char> host(2 * coded_bytes, 0xee);
        const DeviceValues<int32_t> broken(std::vector<int32_t>{0});
        const DeviceValues<KvTransferPair> pairs(std::vector<KvTransferPair>{{0, 1}, {1, 0}});
        KvTransferParams params = Params(page, KvType::kHalf, type, pairs, 2);
        params.from = MakeKvView(page, plain.data(), page.page_bytes(), nullptr);
        params.to = MakeKvView(coded, host.data(), coded.page_bytes(), nullptr);
        params.broken = broken.data();
        const TestStream stream;
        ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
        std::swap(params.from, params.to);
        std::swap(params.from_type, params.to_type);
        params.to.data = back.data();
        ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
        EXPECT_CUDA_OK(stream.Synchronize());
        EXPECT_EQ(broken.Get()[0], 0);

        const KvShape shape{1, 16, 2, head_dim, KvElement::kBF16};
        const auto codec = KvCodec::Create(
            shape, {type == KvType::kInt8 ? KvCodecKind::kInt8 : KvCodecKind::kFp8, group});
        ASSERT_TRUE(codec.ok()) << codec.status();
        std::vector<std::byte> want(coded_bytes), decoded(bytes);
        const std::vector<uint16_t> got = back.Get();
        for (size_t b = 0; b < 2; ++b) {
          const auto slice = std::as_bytes(std::span(numbers)).subspan(b * bytes, bytes);
          ASSERT_TRUE(codec->EncodeLayer(slice, want).ok());
          EXPECT_EQ(std::memcmp(host.data() + (1 - b) * coded_bytes, want.data(), coded_bytes), 0);
          codec->DecodeLayer(want, decoded);
          EXPECT_EQ(std::memcmp(reinterpret_cast<const char*>(got.data()) + b * bytes,
                                decoded.data(), bytes),
                    0);
        }
      }
    }
  }
}

TEST_F(KvTransferTest, BrokenNumbersAreReported) {
  for (const uint16_t bad : {0x7fc0, 0x7f80, 0xff80, 0x7e00}) {  // NaN, infinities, above 2^120
    const KvPageShape page = {1, 64, 16, KvType::kHalf};
    KvPageShape coded = page;
    coded.type = KvType::kInt8;
    std::vector<uint16_t> numbers(static_cast<size_t>(page.page_bytes()) / 2, 0x3f80);
    numbers[777] = bad;
    const DeviceValues<uint16_t> plain(numbers);
    const DeviceValues<unsigned char> to(static_cast<size_t>(coded.page_bytes()));
    const DeviceValues<int32_t> broken(std::vector<int32_t>{0});
    const DeviceValues<KvTransferPair> pairs(std::vector<KvTransferPair>{{0, 0}});
    KvTransferParams params = Params(page, KvType::kHalf, KvType::kInt8, pairs, 1);
    params.from = MakeKvView(page, plain.data(), page.page_bytes(), nullptr);
    params.to = MakeKvView(coded, to.data(), coded.page_bytes(), nullptr);
    params.broken = broken.data();
    const TestStream stream;
    ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
    EXPECT_EQ(broken.Get()[0], 1) << bad;
  }
}

// Of several blocks, only those are named that have such a number; marks of others stay.
TEST_F(KvTransferTest, BrokenNumbersAreReportedForTheirBlocks) {
  const KvPageShape page = {2, 64, 16, KvType::kHalf};
  KvPageShape coded = page;
  coded.type = KvType::kFp8E4m3;
  constexpr size_t kCount = 5;
  const size_t halves = static_cast<size_t>(page.page_bytes()) / 2;
  std::vector<uint16_t> numbers(kCount * halves, 0x3f80);
  numbers[1 * halves + 3] = 0x7fc0;  // block 1: one in K
  for (const size_t at : {halves - 1, halves / 2, size_t{0}}) {
    numbers[4 * halves + at] = 0x7f80;  // block 4: several
  }
  const DeviceValues<uint16_t> plain(numbers);
  const DeviceValues<unsigned char> to(kCount * static_cast<size_t>(coded.page_bytes()));
  const DeviceValues<int32_t> broken(std::vector<int32_t>{0, 0, 7, 0, 0});
  const DeviceValues<KvTransferPair> pairs(
      std::vector<KvTransferPair>{{0, 4}, {4, 2}, {2, 0}, {1, 1}, {3, 3}});
  KvTransferParams params = Params(page, KvType::kHalf, KvType::kFp8E4m3, pairs, kCount);
  params.from = MakeKvView(page, plain.data(), page.page_bytes(), nullptr);
  params.to = MakeKvView(coded, to.data(), coded.page_bytes(), nullptr);
  params.broken = broken.data();
  const TestStream stream;
  ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(broken.Get(), (std::vector<int32_t>{0, 1, 7, 1, 0}));
}

TEST_F(KvTransferTest, MemoryAccessesAreCoalesced) {
  const KvPageShape page = {2, 128, 16, KvType::kHalf};
  const DeviceValues<unsigned char> from(
      std::vector<unsigned char>(static_cast<size_t>(page.page_bytes()), 1));
  const DeviceValues<unsigned char> to(static_cast<size_t>(page.page_bytes()));
  const DeviceValues<KvTransferPair> pairs(std::vector<KvTransferPair>{{0, 0}});
  KvTransferParams params = Params(page, KvType::kHalf, KvType::kHalf, pairs, 1);
  params.from = MakeKvView(page, from.data(), page.page_bytes(), nullptr);
  params.to = MakeKvView(page, to.data(), page.page_bytes(), nullptr);
  const TestStream stream;
  cuda_emu::CountAccesses(true);
  ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  ExpectNoWaste("global read", 1.0);
  ExpectNoWaste("global write", 1.0);
  cuda_emu::CountAccesses(false);
}

TEST_F(KvTransferTest, ChangesOfTypeAreCoalesced) {
  const KvPageShape page = {2, 128, 16, KvType::kHalf};
  KvPageShape coded = page;
  coded.type = KvType::kFp8E4m3;
  std::mt19937_64 rng(6);
  const DeviceValues<uint16_t> plain(
      RandomHalves(HalfType::kBf16, static_cast<size_t>(page.page_bytes()) / 2, rng));
  const DeviceValues<unsigned char> codes(static_cast<size_t>(coded.page_bytes()));
  const DeviceValues<int32_t> broken(std::vector<int32_t>{0});
  const DeviceValues<KvTransferPair> pairs(std::vector<KvTransferPair>{{0, 0}});
  KvTransferParams params = Params(page, KvType::kHalf, KvType::kFp8E4m3, pairs, 1);
  params.from = MakeKvView(page, plain.data(), page.page_bytes(), nullptr);
  params.to = MakeKvView(coded, codes.data(), coded.page_bytes(), nullptr);
  params.broken = broken.data();
  const TestStream stream;
  for (int way = 0; way < 2; ++way) {
    cuda_emu::CountAccesses(true);
    ASSERT_EQ(LaunchKvTransfer(params, stream), cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
    ExpectNoWaste("global read", 1.0);
    ExpectNoWaste("global write", 1.0);
    cuda_emu::CountAccesses(false);
    std::swap(params.from, params.to);
    std::swap(params.from_type, params.to_type);
  }
}

TEST_F(KvTransferTest, NothingToDoLaunchesNothing) {
  const uint64_t launches = cuda_emu::CurrentCounts().launches;
  EXPECT_EQ(LaunchKvTransfer({}, nullptr), cudaSuccess);
  EXPECT_EQ(cuda_emu::CurrentCounts().launches, launches);
}

TEST_F(KvTransferTest, RefusesWhatItCannotConvert) {
  KvTransferParams params;
  params.count = 1;
  params.from_type = KvType::kInt8;
  params.to_type = KvType::kFp8E4m3;
  params.shape = {1, 64, 16};
  EXPECT_EQ(LaunchKvTransfer(params, nullptr), cudaErrorInvalidValue);
  params.to_type = KvType::kInt8;  // the views' strides are not those of the page
  EXPECT_EQ(LaunchKvTransfer(params, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sluice::cuda
