// Warp operations against a plain loop over 32 lanes, for random masks, widths and amounts.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <random>

#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/toy_kernels.h"

namespace sluice {
namespace {

constexpr int kUnset = -12345;

// The CUDA programming guide's words, one lane at a time. Source lanes outside the mask are
// undefined, so the cases below avoid them.
struct Lanes {
  const std::vector<int>& in;
  uint32_t mask;
  int width;
  int amount;

  bool has(int lane) const { return lane >= 0 && lane < 32 && (mask >> lane & 1) != 0; }
  int At(int lane) const { return in[static_cast<size_t>(lane)]; }
  int Group(int lane) const { return lane / width * width; }

  int Shuffle(int lane) const { return Group(lane) + amount % width; }
  int Xor(int lane) const {
    const int source = lane ^ amount;
    return Group(source) > Group(lane) ? lane : source;
  }
  int Up(int lane) const { return lane - amount < Group(lane) ? lane : lane - amount; }
  int Down(int lane) const { return lane + amount >= Group(lane) + width ? lane : lane + amount; }

  std::vector<int> Members() const {
    std::vector<int> values;
    for (int lane = 0; lane < 32; ++lane) {
      if (has(lane)) values.push_back(At(lane));
    }
    return values;
  }
  template <class Predicate>
  uint32_t Where(Predicate predicate) const {
    uint32_t bits = 0;
    for (int lane = 0; lane < 32; ++lane) {
      if (has(lane) && predicate(At(lane))) bits |= 1u << lane;
    }
    return bits;
  }
};

std::vector<int> Expected(const Lanes& lanes, int lane) {
  const std::vector<int> members = lanes.Members();
  const auto all = [&](auto p) { return std::all_of(members.begin(), members.end(), p); };
  const auto any = [&](auto p) { return std::any_of(members.begin(), members.end(), p); };
  int sum = 0;
  for (const int v : members) sum += v;
  return {lanes.At(lanes.Shuffle(lane)),
          lanes.At(lanes.Xor(lane)),
          lanes.At(lanes.Up(lane)),
          lanes.At(lanes.Down(lane)),
          static_cast<int>(lanes.Where([](int v) { return v % 2 == 1; })),
          (any([](int v) { return v > 90; }) ? 1 : 0) + (all([](int v) { return v > 10; }) ? 2 : 0),
          static_cast<int>(lanes.Where([&](int v) { return v % 5 == lanes.At(lane) % 5; })),
          sum,
          *std::max_element(members.begin(), members.end()),
          *std::min_element(members.begin(), members.end())};
}

bool SourcesTakePart(const Lanes& lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!lanes.has(lane)) continue;
    for (const int source :
         {lanes.Shuffle(lane), lanes.Xor(lane), lanes.Up(lane), lanes.Down(lane)}) {
      if (!lanes.has(source)) return false;
    }
  }
  return true;
}

class WarpTest : public EmulatedTest, public ::testing::WithParamInterface<cuda_emu::ThreadOrder> {
 protected:
  void SetUp() override {
    cuda_emu::Config config;
    config.thread_order = GetParam();
    cuda_emu::Reset(config);
  }

  void Check(uint32_t mask, int width, int amount, const std::vector<int>& values) {
    const Lanes lanes{values, mask, width, amount};
    const DeviceArray<int> in(values);
    const DeviceArray<int> out(std::vector<int>(32 * toy::kWarpOutputs, kUnset));
    const TestStream stream;
    ASSERT_CUDA_OK(toy::WarpOperations(in.data(), out.data(), mask, width, amount, stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const std::vector<int> got = out.Get();
    for (int lane = 0; lane < 32; ++lane) {
      const std::vector<int> expected =
          lanes.has(lane) ? Expected(lanes, lane) : std::vector<int>(toy::kWarpOutputs, kUnset);
      for (size_t o = 0; o < toy::kWarpOutputs; ++o) {
        ASSERT_EQ(got[o * 32 + static_cast<size_t>(lane)], expected[o])
            << "output " << o << " lane " << lane << " mask " << std::hex << mask << std::dec
            << " width " << width << " amount " << amount;
      }
    }
  }
};

TEST_P(WarpTest, EqualsAPlainLoopForFullAndPartialMasks) {
  std::mt19937 random(7);
  int cases = 0;
  for (int i = 0; i < 400 && cases < 60; ++i) {
    const uint32_t mask = i % 3 == 0   ? 0xffffffffu
                          : i % 3 == 1 ? std::rotl(0xffu, static_cast<int>(random() % 4) * 8)
                                       : std::rotl(0xffffu, static_cast<int>(random() % 2) * 16);
    const int width = 1 << random() % 6;
    const int amount = static_cast<int>(random() % 32);
    std::vector<int> values(32);
    for (int& v : values) v = static_cast<int>(random() % 100);
    if (!SourcesTakePart({values, mask, width, amount})) continue;
    ++cases;
    Check(mask, width, amount, values);
  }
  EXPECT_GE(cases, 30);
}

TEST_P(WarpTest, AShuffleFromALaneThatDoesNotTakePartIsDiagnosed) {
  const std::vector<int> values(32, 1);
  const DeviceArray<int> in(values);
  const DeviceArray<int> out(32 * toy::kWarpOutputs);
  const TestStream stream;
  ASSERT_CUDA_OK(toy::WarpOperations(in.data(), out.data(), 0xffu, 32, 9, stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  EXPECT_NE(TakeDiagnostics().find("shuffle reads a lane that does not take part"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Orders, WarpTest,
                         ::testing::Values(cuda_emu::ThreadOrder::kInOrder,
                                           cuda_emu::ThreadOrder::kReverse,
                                           cuda_emu::ThreadOrder::kRandom,
                                           cuda_emu::ThreadOrder::kPriority));

}  // namespace
}  // namespace sluice
