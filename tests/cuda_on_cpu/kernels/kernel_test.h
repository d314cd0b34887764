// What every kernel test needs: an emulated device with a schedule, 16-bit numbers, and comparison
// with a reference in double precision by three tolerances at once.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/kernels/types.h"
#include "cuda_emu/control.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {

// How the emulated device runs threads and lands asynchronous copies.
struct Schedule {
  cuda_emu::ThreadOrder order;
  cuda_emu::AsyncCopies copies;
  uint64_t seed;
  int ulps;  // error of approximate instructions
};
inline constexpr Schedule kSchedules[] = {
    {cuda_emu::ThreadOrder::kInOrder, cuda_emu::AsyncCopies::kEarly, 1, 0},
    {cuda_emu::ThreadOrder::kReverse, cuda_emu::AsyncCopies::kLate, 2, 0},
    {cuda_emu::ThreadOrder::kRandom, cuda_emu::AsyncCopies::kRandom, 3, 2},
    {cuda_emu::ThreadOrder::kPriority, cuda_emu::AsyncCopies::kLate, 4, 2},
};
inline void Use(const Schedule& schedule) {
  cuda_emu::Config config;
  config.thread_order = schedule.order;
  config.async_copies = schedule.copies;
  config.seed = schedule.seed;
  config.approximation_ulps = schedule.ulps;
  // What fits the smallest of the targets, sm_80, fits all.
  config.compute_major = 8;
  config.shared_optin_bytes = 163 << 10;
  config.shared_multiprocessor_bytes = 164 << 10;
  cuda_emu::Reset(config);
}
// The schedule that `seed` stands for.
inline Schedule ScheduleOf(uint64_t seed) {
  Schedule schedule = kSchedules[(seed + cuda_emu::SeedShift()) % std::size(kSchedules)];
  schedule.seed = seed;
  return schedule;
}

class KernelTest : public EmulatedTest {
 protected:
  void SetUp() override { Use(kSchedules[2]); }
};

// A DeviceArray that may be empty: then there is no memory, and data() is null.
template <class T>
class DeviceValues {
 public:
  explicit DeviceValues(size_t size) {
    if (size > 0) array_.emplace(size);
  }
  explicit DeviceValues(const std::vector<T>& values) {
    if (!values.empty()) array_.emplace(values);
  }
  T* data() const { return array_ ? array_->data() : nullptr; }
  std::vector<T> Get() const { return array_ ? array_->Get() : std::vector<T>(); }

 private:
  std::optional<DeviceArray<T>> array_;
};

// ---- 16-bit numbers --------------------------------------------------------------------------

inline uint16_t ToHalf(HalfType type, double value) {
  const auto x = static_cast<float>(value);
  return type == HalfType::kBf16 ? cuda_emu::FloatToBfloat16(x) : cuda_emu::FloatToHalf(x);
}
inline double FromHalf(HalfType type, uint16_t code) {
  return static_cast<double>(type == HalfType::kBf16 ? cuda_emu::Bfloat16ToFloat(code)
                                                     : cuda_emu::HalfToFloat(code));
}
// Half a unit in the last place, relative.
inline double HalfEpsilon(HalfType type) { return type == HalfType::kBf16 ? 0x1p-8 : 0x1p-11; }

inline std::vector<uint16_t> RandomHalves(HalfType type, size_t size, std::mt19937_64& rng,
                                          double deviation = 1.0) {
  std::normal_distribution<double> normal(0.0, deviation);
  std::vector<uint16_t> codes(size);
  for (uint16_t& code : codes) code = ToHalf(type, normal(rng));
  return codes;
}
inline std::vector<double> FromHalves(HalfType type, std::span<const uint16_t> codes) {
  std::vector<double> values;
  for (const uint16_t code : codes) values.push_back(FromHalf(type, code));
  return values;
}
inline int64_t Draw(std::mt19937_64& rng, std::span<const int64_t> choices) {
  return choices[std::uniform_int_distribution<size_t>(0, choices.size() - 1)(rng)];
}

// ---- Comparison ------------------------------------------------------------------------------

// The largest error, the largest error relative to 1 + |want| where |want| is not small, and the
// root mean square of errors relative to that of what is wanted.
struct Tolerance {
  double absolute;
  double relative;
  double rms;
};

// Infinities must be equal; a NaN is never right.
inline void ExpectClose(std::span<const double> got, std::span<const double> want,
                        const Tolerance& tolerance) {
  ASSERT_EQ(got.size(), want.size());
  double absolute = 0;
  double relative = 0;
  double squares = 0;
  double size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i]) || !std::isfinite(want[i])) {
      ASSERT_EQ(got[i], want[i]) << "at " << i;
      continue;
    }
    const double error = std::abs(got[i] - want[i]);
    absolute = std::max(absolute, error);
    if (std::abs(want[i]) > 0.1) relative = std::max(relative, error / std::abs(want[i]));
    squares += error * error;
    size += want[i] * want[i];
  }
  EXPECT_LE(absolute, tolerance.absolute);
  EXPECT_LE(relative, tolerance.relative);
  EXPECT_LE(std::sqrt(squares), tolerance.rms * std::sqrt(size) + 1e-30);
}

inline std::vector<double> ToDoubles(std::span<const float> values) {
  return std::vector<double>(values.begin(), values.end());
}

// Every counted access of `kind` costs at most `factor` times the least possible.
inline void ExpectNoWaste(const std::string& kind, double factor) {
  bool seen = false;
  for (const cuda_emu::AccessSite& site : cuda_emu::AccessReport()) {
    if (site.kind != kind) continue;
    seen = true;
    EXPECT_LE(static_cast<double>(site.cost), factor * static_cast<double>(site.ideal))
        << site.where << " " << site.kind << ": " << site.requests << " requests";
  }
  EXPECT_TRUE(seen) << "no access of kind " << kind;
}

// The same for all lines together: where a few small accesses are scattered by nature.
inline void ExpectLittleWaste(const std::string& kind, double factor) {
  double cost = 0;
  double ideal = 0;
  for (const cuda_emu::AccessSite& site : cuda_emu::AccessReport()) {
    if (site.kind != kind) continue;
    cost += static_cast<double>(site.cost);
    ideal += static_cast<double>(site.ideal);
  }
  EXPECT_GT(ideal, 0) << "no access of kind " << kind;
  EXPECT_LE(cost, factor * ideal) << kind;
}

}  // namespace sluice::cuda
