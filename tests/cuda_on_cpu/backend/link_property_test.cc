// Random copies, classes, revocations, steps and reuse of blocks, in all stream orders. The oracle
// knows who wrote every block last; each copy has exactly one result, and what it says is true.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/cuda_on_cpu/backend/link_world.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {
namespace {

using cuda_emu::Config;
using cuda_emu::StreamOrder;
using cuda_emu::Streams;

struct BlockState {
  uint32_t stamp = 0;  // 0: undefined
  int readers = 0;     // copies from it
  bool written = false;
  bool free() const { return readers == 0 && !written; }
};

class Driver {
 public:
  Driver(LinkWorld& world, uint64_t seed, bool own_threads)
      : world_(world), random_(seed), own_threads_(own_threads) {
    device_.resize(world.pools().device_blocks.size());
    host_.resize(world.pools().host_blocks.size());
    for (size_t b = 0; b < host_.size(); ++b) WriteHost(static_cast<int32_t>(b));
    for (size_t b = 0; b < device_.size(); ++b) WriteDevice(static_cast<int32_t>(b));
  }

  void Run(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFatalFailure(); ++i) {
      switch (Draw(5)) {
        case 0:
        case 1:
          StartSome();
          break;
        case 2:
          Step();
          break;
        case 3:
          if (Draw(3) == 0) RevokeOne();
          Move();
          break;
        default:
          Move();
          break;
      }
    }
    Drain();
  }
  int started() const { return started_; }
  int succeeded() const { return succeeded_; }

 private:
  struct Under {
    Copy copy;
    std::vector<uint32_t> stamps;  // of the sources
  };

  int Draw(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  void WriteHost(int32_t b) {
    host_[static_cast<size_t>(b)].stamp = ++stamp_;
    world_.FillHost(b, stamp_);
  }
  void WriteDevice(int32_t b) {
    device_[static_cast<size_t>(b)].stamp = ++stamp_;
    EXPECT_TRUE(world_.FillDevice(b, stamp_).ok());
  }

  // Blocks to copy, none twice; the books are kept.
  std::vector<Copy::Pair> Choose(bool load, std::vector<uint32_t>* stamps) {
    std::vector<BlockState>& from = load ? host_ : device_;
    std::vector<BlockState>& to = load ? device_ : host_;
    std::vector<Copy::Pair> pairs;
    const int most = 1 + Draw(4);
    auto source = static_cast<size_t>(Draw(static_cast<int>(from.size())));
    for (size_t t = 0; t < to.size() && static_cast<int>(pairs.size()) < most; ++t) {
      if (!to[t].free() || Draw(3) == 0) continue;
      source = Draw(3) == 0 ? static_cast<size_t>(Draw(static_cast<int>(from.size())))
                            : (source + 1) % from.size();
      const auto source_id = BlockId(static_cast<int32_t>(source));
      const bool twice = std::any_of(pairs.begin(), pairs.end(),
                                     [&](const Copy::Pair& p) { return p.source == source_id; });
      if (twice || from[source].written || from[source].stamp == 0) continue;
      Touch(load, source_id.value(), static_cast<int32_t>(t));
      ++from[source].readers;
      to[t].written = true;
      stamps->push_back(from[source].stamp);
      pairs.push_back({source_id, BlockId(static_cast<int32_t>(t))});
    }
    return pairs;
  }

  // Work in the compute stream that the copy must come after.
  void Touch(bool load, int32_t source, int32_t target) {
    if (load) {
      const uint32_t stamp = device_[static_cast<size_t>(target)].stamp;
      if (stamp == 0 || Draw(2) == 0) return;
      EXPECT_TRUE(world_.CheckDevice(target, stamp).ok());
    } else if (device_[static_cast<size_t>(source)].free() && Draw(2) == 0) {
      WriteDevice(source);
    }
  }

  void StartSome() {
    std::vector<Copy> copies;
    for (int n = 1 + Draw(3); n > 0; --n) {
      const bool load = Draw(2) == 0;
      Under under;
      std::vector<Copy::Pair> pairs = Choose(load, &under.stamps);
      if (pairs.empty()) continue;
      const CopyClass copy_class =
          load ? static_cast<CopyClass>(Draw(3))
               : (Draw(4) == 0 ? CopyClass::kDemand : CopyClass::kWriteBack);
      under.copy = world_.Make(load ? LinkDirection::kHostToDevice : LinkDirection::kDeviceToHost,
                               copy_class, std::move(pairs));
      under.copy.rank = Draw(3);
      copies.push_back(under.copy);
      under_.emplace(under.copy.id, std::move(under));
    }
    started_ += static_cast<int>(copies.size());
    world_.link().Start(copies, world_.compute());
  }

  // A step that reads what some loads bring, layer by layer.
  void Step() {
    std::vector<CopyId> loads;
    for (const auto& [id, under] : under_) {
      if (under.copy.direction == LinkDirection::kHostToDevice && Draw(2) == 0) loads.push_back(id);
    }
    for (int layer = 0; layer < world_.pools().layers; ++layer) {
      const absl::Status status = world_.link().WaitForLayer(world_.compute(), loads, layer);
      if (!status.ok()) {
        EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
        EXPECT_FALSE(revoked_.empty());
        return;
      }
      for (const CopyId id : loads) {
        const Under& under = under_.at(id);
        for (size_t i = 0; i < under.stamps.size(); ++i) {
          const int32_t block = under.copy.blocks[i].target.value();
          EXPECT_TRUE(world_.CheckDevice(block, under.stamps[i], layer).ok());
        }
      }
    }
  }

  void RevokeOne() {
    if (under_.empty()) return;
    auto it = under_.begin();
    std::advance(it, Draw(static_cast<int>(under_.size())));
    revoked_.push_back(it->first);
    world_.link().Revoke({&it->first, 1});
  }

  void Move() {
    if (!own_threads_) {
      for (int n = Draw(6); n > 0; --n) world_.link().Pump(Draw(2) == 0);
    }
    for (const CopyResult& result : world_.link().TakeFinished()) Finish(result);
  }

  void Drain() {
    for (const CopyResult& result : world_.Take(under_.size())) Finish(result);
    EXPECT_TRUE(under_.empty()) << under_.size() << " copies have no result";
    for (size_t b = 0; b < device_.size(); ++b) {
      if (device_[b].stamp == 0) continue;
      EXPECT_TRUE(world_.CheckDevice(static_cast<int32_t>(b), device_[b].stamp).ok());
    }
    for (size_t b = 0; b < host_.size(); ++b) {
      if (host_[b].stamp != 0) {
        EXPECT_TRUE(world_.HostHolds(static_cast<int32_t>(b), host_[b].stamp))
            << "host block " << b;
      }
    }
    const absl::StatusOr<uint32_t> errors = world_.DeviceErrors();
    ASSERT_TRUE(errors.ok()) << errors.status();
    EXPECT_EQ(*errors, 0u) << "words on the device are wrong";
    EXPECT_TRUE(world_.link().TakeFinished().empty()) << "a copy has two results";
  }

  void Finish(const CopyResult& result) {
    const auto it = under_.find(result.id);
    ASSERT_NE(it, under_.end()) << "copy " << result.id << " has two results";
    const Under under = it->second;
    under_.erase(it);
    const bool ok = result.status.ok();
    succeeded_ += ok ? 1 : 0;
    if (!ok) {
      EXPECT_EQ(result.status.code(), absl::StatusCode::kCancelled) << result.status;
      EXPECT_NE(std::find(revoked_.begin(), revoked_.end(), result.id), revoked_.end());
    }
    const bool load = under.copy.direction == LinkDirection::kHostToDevice;
    for (size_t i = 0; i < under.stamps.size(); ++i) {
      const Copy::Pair& pair = under.copy.blocks[i];
      BlockState& source = (load ? host_ : device_)[pair.source.index()];
      BlockState& target = (load ? device_ : host_)[pair.target.index()];
      --source.readers;
      target.written = false;
      target.stamp = ok ? under.stamps[i] : 0;
      if (!load && ok) {
        EXPECT_TRUE(world_.HostHolds(pair.target.value(), under.stamps[i]));
      }
      Reuse(load, pair, source, ok);
    }
  }

  // The result is out, so blocks may be written at once: bytes that are still under way would show.
  void Reuse(bool load, const Copy::Pair& pair, const BlockState& source, bool ok) {
    if (source.free() && Draw(2) == 0) {
      load ? WriteHost(pair.source.value()) : WriteDevice(pair.source.value());
    }
    if (!ok || Draw(4) == 0) {
      load ? WriteDevice(pair.target.value()) : WriteHost(pair.target.value());
    }
  }

  LinkWorld& world_;
  std::mt19937_64 random_;
  const bool own_threads_;
  std::vector<BlockState> device_;
  std::vector<BlockState> host_;
  std::map<CopyId, Under> under_;
  std::vector<CopyId> revoked_;
  uint32_t stamp_ = 0;
  int started_ = 0;
  int succeeded_ = 0;
};

WorldOptions RandomWorld(uint64_t seed, bool own_threads) {
  std::mt19937_64 random(seed * 977);
  WorldOptions options;
  options.layers = 1 + static_cast<int64_t>(random() % 4);
  options.page.kv_heads = 1 + static_cast<int64_t>(random() % 2);
  options.device_blocks = 6 + static_cast<int64_t>(random() % 8);
  options.host_blocks = 6 + static_cast<int64_t>(random() % 8);
  options.chunk = Bytes(random() % 2 == 0 ? 1 : 1 << 20);
  const double page_seconds = 1e-6;
  options.link.rate = ByteRate(static_cast<double>(options.page.page_bytes()) / page_seconds);
  options.link.per_descriptor = Seconds(0);
  options.link.slices_in_flight = 1 + static_cast<int>(random() % 3);
  options.link.slice_time =
      absl::Microseconds(static_cast<int64_t>(options.link.slices_in_flight * (1 + random() % 3)));
  const int64_t crossovers[] = {0, 1500, 1 << 20};
  options.link.kernel_below = Bytes(crossovers[random() % 3]);
  options.link.own_threads = own_threads;
  if (!own_threads) {
    options.link.clock = [t = std::make_shared<int64_t>(0)] {
      return absl::UnixEpoch() + absl::Microseconds(++*t);
    };
  }
  return options;
}

class LinkPropertyTest : public EmulatedTest {
 protected:
  void RunSeeds(Config config, bool own_threads, int seeds, int operations) {
    int started = 0;
    int succeeded = 0;
    for (int s = 1; s <= seeds; ++s) {
      const auto seed = static_cast<uint64_t>(s) * 131 +
                        static_cast<uint64_t>(config.stream_order) +
                        17 * static_cast<uint64_t>(config.streams);
      SCOPED_TRACE(::testing::Message() << "seed " << seed << " own threads " << own_threads);
      config.seed = seed;
      cuda_emu::Reset(config);
      auto world = LinkWorld::Create(RandomWorld(seed, own_threads));
      ASSERT_TRUE(world.ok()) << world.status();
      Driver driver(**world, seed, own_threads);
      driver.Run(operations);
      started += driver.started();
      succeeded += driver.succeeded();
      world->reset();
      EXPECT_EQ(TakeDiagnostics(), "");
      EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
      if (HasFailure()) return;
    }
    // A run in which everything is refused or revoked would show nothing.
    EXPECT_GT(started, seeds * operations / 8);
    EXPECT_GT(succeeded, started / 2);
  }
};

#if defined(SLUICE_TEST_TSAN) || defined(SLUICE_TEST_ASAN)
constexpr int kSeeds = 2;
#else
constexpr int kSeeds = 8;
#endif
constexpr int kOperations = 60;

TEST_F(LinkPropertyTest, ModelledTime) {
  Config config;
  config.stream_order = StreamOrder::kTimed;
  config.host_to_device = {1e9, 1, 1, 0.5};
  config.device_to_host = {1e9, 1, 1, 0.5};
  RunSeeds(config, false, kSeeds, kOperations);
}
TEST_F(LinkPropertyTest, RandomOrder) { RunSeeds({}, false, kSeeds, kOperations); }
TEST_F(LinkPropertyTest, CopiesLast) {
  Config config;
  config.stream_order = StreamOrder::kCopiesLast;
  RunSeeds(config, false, kSeeds, kOperations);
}
TEST_F(LinkPropertyTest, CopiesFirst) {
  Config config;
  config.stream_order = StreamOrder::kCopiesFirst;
  RunSeeds(config, false, kSeeds, kOperations);
}
TEST_F(LinkPropertyTest, RoundRobin) {
  Config config;
  config.stream_order = StreamOrder::kRoundRobin;
  RunSeeds(config, false, kSeeds, kOperations);
}
TEST_F(LinkPropertyTest, EagerStreams) {
  Config config;
  config.streams = Streams::kEager;
  RunSeeds(config, false, kSeeds / 2, kOperations);
}
TEST_F(LinkPropertyTest, OwnThreadsAndRandomOrder) { RunSeeds({}, true, kSeeds, kOperations); }
TEST_F(LinkPropertyTest, OwnThreadsAndCopiesLast) {
  Config config;
  config.stream_order = StreamOrder::kCopiesLast;
  RunSeeds(config, true, kSeeds, kOperations);
}
TEST_F(LinkPropertyTest, OwnThreadsAndEagerStreams) {
  Config config;
  config.streams = Streams::kEager;
  RunSeeds(config, true, kSeeds / 2, kOperations);
}
TEST_F(LinkPropertyTest, OwnThreadsAndAThreadPerStream) {
  Config config;
  config.streams = Streams::kThreads;
  RunSeeds(config, true, kSeeds / 2, kOperations);
}

}  // namespace
}  // namespace sluice::cuda
