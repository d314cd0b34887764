// LinkTest: the fixture of tests that make one LinkWorld at a time.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>

#include "tests/cuda_on_cpu/backend/link_world.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {

inline constexpr auto kLoad = LinkDirection::kHostToDevice;
inline constexpr auto kStore = LinkDirection::kDeviceToHost;

// A clock that every look moves on.
inline std::function<absl::Time()> TickingClock() {
  return
      [t = std::make_shared<int64_t>(0)] { return absl::UnixEpoch() + absl::Microseconds(++*t); };
}

class LinkTest : public EmulatedTest {
 protected:
  void Make(WorldOptions options, bool own_threads = false) {
    options.link.own_threads = own_threads;
    if (!own_threads) options.link.clock = TickingClock();
    auto world = LinkWorld::Create(options);
    ASSERT_TRUE(world.ok()) << world.status();
    world_ = *std::move(world);
  }
  void TearDown() override {
    world_ = nullptr;
    EmulatedTest::TearDown();
  }
  CudaLink& link() { return world_->link(); }

  std::unique_ptr<LinkWorld> world_;
};

}  // namespace sluice::cuda
