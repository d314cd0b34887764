#include "tests/cuda_on_cpu/backend/link_world.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "scheduler/base/status_macros.h"
#include "tests/cuda_on_cpu/backend/pattern_kernels.h"

namespace sluice::cuda {
namespace {

constexpr std::chrono::seconds kHang(60);
constexpr int kMostPumps = 1000000;

uint32_t FirstWord(uint32_t stamp, int64_t layer) {
  return stamp * 40503u * 65537u + static_cast<uint32_t>(layer) * 97u + 1u;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LinkWorld>> LinkWorld::Create(const WorldOptions& options) {
  std::unique_ptr<LinkWorld> world(new LinkWorld());
  SLUICE_RETURN_IF_ERROR(world->SetUp(options));
  return world;
}

absl::Status LinkWorld::SetUp(const WorldOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(context_, DeviceContext::Open(""));
  pools_.page = options.page;
  pools_.host_type = options.host_type;
  pools_.layers = options.layers;
  pools_.device_blocks = Blocks(options.device_blocks);
  pools_.host_blocks = Blocks(options.host_blocks);
  SLUICE_ASSIGN_OR_RETURN(device_, DeviceBuffer::Allocate(pools_.device_bytes(), "pool", account_));
  pools_.device = device_.as<std::byte>();
  SLUICE_ASSIGN_OR_RETURN(errors_, DeviceBuffer::Allocate(Bytes(4), "errors", account_));
  SLUICE_ASSIGN_OR_RETURN(errors_copy_, PinnedBuffer::Allocate(Bytes(4), "errors", account_));
  if (options.pageable) {
    pageable_.resize(pools_.host_bytes().size());
    pools_.host = pageable_.data();
  } else {
    const PinnedPoolOptions host{pools_.host_bytes(), pools_.host_block_bytes(), options.chunk,
                                 options.background};
    SLUICE_ASSIGN_OR_RETURN(host_, PinnedPool::Create(*context_, host, account_));
    pools_.host = host_->data();
    pools_.host_chunk = Blocks(host_->chunk().value() / pools_.host_block_bytes().value());
  }
  SLUICE_ASSIGN_OR_RETURN(compute_, Stream::Create());
  SLUICE_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(errors_.data(), 0, 4, compute_.get()));
  CudaLinkOptions link = options.link;
  link.host_pool = host_.get();
  own_threads_ = link.own_threads;
  SLUICE_ASSIGN_OR_RETURN(link_,
                          CudaLink::Create(*context_, pools_, link, health_, account_, meter_));
  link_->SetListener([this] {
    const std::lock_guard<std::mutex> lock(mu_);
    ++calls_;
    done_.notify_all();
  });
  return absl::OkStatus();
}

void LinkWorld::FillHost(int32_t block, uint32_t stamp) {
  for (int64_t layer = 0; layer < pools_.layers; ++layer) {
    std::byte* const page = pools_.HostPage(layer, block);
    for (int i = 0; i < pools_.host_page_bytes() / 4; ++i) {
      const uint32_t word = PatternWord(FirstWord(stamp, layer), i);
      std::memcpy(page + 4 * i, &word, 4);
    }
  }
}

bool LinkWorld::HostHolds(int32_t block, uint32_t stamp) const {
  for (int64_t layer = 0; layer < pools_.layers; ++layer) {
    const std::byte* const page = pools_.HostPage(layer, block);
    for (int i = 0; i < pools_.host_page_bytes() / 4; ++i) {
      const uint32_t word = PatternWord(FirstWord(stamp, layer), i);
      if (std::memcmp(page + 4 * i, &word, 4) != 0) return false;
    }
  }
  return true;
}

absl::Status LinkWorld::FillDevice(int32_t block, uint32_t stamp) {
  for (int64_t layer = 0; layer < pools_.layers; ++layer) {
    auto* const words = reinterpret_cast<uint32_t*>(pools_.DevicePage(layer, block));
    const int count = static_cast<int>(pools_.page_bytes() / 4);
    SLUICE_CUDA_RETURN_IF_ERROR(
        FillPage({words, count, FirstWord(stamp, layer), nullptr}, compute_.get()));
  }
  return absl::OkStatus();
}

absl::Status LinkWorld::CheckDevice(int32_t block, uint32_t stamp, int layer) {
  auto* const words = reinterpret_cast<uint32_t*>(pools_.DevicePage(layer, block));
  const int count = static_cast<int>(pools_.page_bytes() / 4);
  SLUICE_CUDA_RETURN_IF_ERROR(
      CheckPage({words, count, FirstWord(stamp, layer), errors_.as<uint32_t>()}, compute_.get()));
  return absl::OkStatus();
}

absl::Status LinkWorld::CheckDevice(int32_t block, uint32_t stamp) {
  for (int layer = 0; layer < pools_.layers; ++layer) {
    SLUICE_RETURN_IF_ERROR(CheckDevice(block, stamp, layer));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> LinkWorld::DeviceErrors() {
  SLUICE_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(errors_copy_.data(), errors_.data(), 4,
                                              cudaMemcpyDeviceToHost, compute_.get()));
  SLUICE_RETURN_IF_ERROR(compute_.Synchronize());
  return *errors_copy_.as<uint32_t>();
}

Copy LinkWorld::Make(LinkDirection direction, CopyClass copy_class,
                     std::vector<Copy::Pair> blocks) {
  Copy copy;
  copy.id = NextId();
  copy.direction = direction;
  copy.copy_class = copy_class;
  copy.blocks = std::move(blocks);
  return copy;
}

std::vector<CopyResult> LinkWorld::Take(size_t count) {
  std::vector<CopyResult> all;
  const auto add = [&] {
    for (CopyResult& result : link_->TakeFinished()) all.push_back(std::move(result));
    return all.size() >= count;
  };
  if (!own_threads_) {
    for (int i = 0; i < kMostPumps && !add(); ++i) link_->Pump(true);
    return all;
  }
  std::unique_lock<std::mutex> lock(mu_);
  int64_t seen = -1;
  while (true) {
    seen = calls_;
    lock.unlock();
    const bool enough = add();
    lock.lock();
    if (enough) return all;
    if (!done_.wait_for(lock, kHang, [&] { return calls_ != seen; })) return all;
  }
}

std::vector<Copy::Pair> Neighbours(int32_t source, int32_t target, int32_t count) {
  std::vector<Copy::Pair> pairs;
  for (int32_t i = 0; i < count; ++i) {
    pairs.push_back({BlockId(source + i), BlockId(target + i)});
  }
  return pairs;
}

}  // namespace sluice::cuda
