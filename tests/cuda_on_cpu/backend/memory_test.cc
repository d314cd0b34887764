#include "backend/cuda/device/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "backend/cuda/device/pinned_pool.h"
#include "backend/cuda/device/stream.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {
namespace {

using ::testing::HasSubstr;

class MemoryTest : public EmulatedTest {
 protected:
  DeviceContext Open() {
    auto context = DeviceContext::Open("");
    EXPECT_TRUE(context.ok()) << context.status();
    return *std::move(context);
  }
  MemoryAccount account_;
};

TEST_F(MemoryTest, BuffersAreAccountedToTheByte) {
  {
    auto a = DeviceBuffer::Allocate(Bytes(1000), "a", account_);
    auto b = DeviceBuffer::Allocate(Bytes(24), "b", account_);
    auto c = PinnedBuffer::Allocate(Bytes(77), "c", account_);
    ASSERT_TRUE(a.ok() && b.ok() && c.ok());
    EXPECT_EQ(account_.device(), Bytes(1024));
    EXPECT_EQ(account_.pinned(), Bytes(77));
    DeviceBuffer moved = *std::move(a);
    EXPECT_EQ(account_.device(), Bytes(1024));
    moved = *std::move(b);  // the old content goes with b
    EXPECT_EQ(moved.size(), Bytes(24));
    const auto none = DeviceBuffer::Allocate(Bytes(0), "nothing", account_);
    ASSERT_TRUE(none.ok());
    EXPECT_EQ(none->data(), nullptr);
  }
  EXPECT_EQ(account_.device(), Bytes(0));
  EXPECT_EQ(account_.pinned(), Bytes(0));
}

TEST_F(MemoryTest, WhatDoesNotFitSaysWhatIsFree) {
  const auto kept = DeviceBuffer::Allocate(MiB(1000), "weights", account_);
  ASSERT_TRUE(kept.ok());
  const absl::Status status = DeviceBuffer::Allocate(MiB(100), "the KV pool", account_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("104857600 bytes of device memory for the KV pool; 24 of 1024 MiB are free"));
  EXPECT_EQ(account_.device(), MiB(1000));
}

TEST_F(MemoryTest, APoolIsRegisteredInWholeGranulesInTheBackground) {
  const DeviceContext context = Open();
  PinnedPoolOptions options;
  options.size = Bytes(10 * 12288 + 12288);
  options.granule = Bytes(12288);  // three pages
  options.chunk = Bytes(20000);
  const auto created = PinnedPool::Create(context, options, account_);
  ASSERT_TRUE(created.ok()) << created.status();
  PinnedPool& pool = **created;
  EXPECT_EQ(pool.chunk(), Bytes(24576));
  std::memset(pool.data(), 1, pool.size().size());  // the host need not wait
  ASSERT_TRUE(pool.WaitFor(Bytes(1)).ok());
  EXPECT_GE(pool.registered(), pool.chunk());
  ASSERT_TRUE(pool.WaitForAll().ok());
  EXPECT_EQ(pool.registered(), pool.size());
  EXPECT_EQ(account_.pinned(), pool.size());
  EXPECT_EQ(cuda_emu::Leaks().registrations, 6u);
  const auto stream = Stream::Create();
  const DeviceArray<std::byte> device(pool.size().size());
  for (Bytes at; at < pool.size(); at += Bytes(12288)) {
    EXPECT_CUDA_OK(cudaMemcpyAsync(device.data() + at.value(), pool.data() + at.value(), 12288,
                                   cudaMemcpyHostToDevice, stream->get()));
  }
  EXPECT_TRUE(stream->Synchronize().ok());
}

TEST_F(MemoryTest, ChunksAreWholePagesForOddGranules) {
  const DeviceContext context = Open();
  for (const int64_t granule : {1, 48, 1040, 4096, 6144}) {
    PinnedPoolOptions options;
    options.size = Bytes(granule * 100);
    options.granule = Bytes(granule);
    options.chunk = Bytes(1);
    options.background = false;
    const auto pool = PinnedPool::Create(context, options, account_);
    ASSERT_TRUE(pool.ok()) << pool.status();
    EXPECT_EQ((*pool)->chunk().value() % 4096, 0);
    EXPECT_EQ((*pool)->chunk().value() % granule, 0);
    EXPECT_EQ((*pool)->registered(), (*pool)->size());
  }
  EXPECT_EQ(account_.pinned(), Bytes(0));
}

TEST_F(MemoryTest, APoolThatCannotBePinnedTellsWhoWaits) {
  const DeviceContext context = Open();
  PinnedPoolOptions options;
  options.size = MiB(4);
  options.chunk = MiB(1);
  for (const bool background : {true, false}) {
    cuda_emu::FailCall(cuda_emu::Api::kHostRegister, 3, cudaErrorMemoryAllocation);
    options.background = background;
    const auto pool = PinnedPool::Create(context, options, account_);
    const absl::Status status = background ? (*pool)->WaitForAll() : pool.status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("only 2 of 4 MiB of the host KV pool"));
    if (background) {
      EXPECT_TRUE((*pool)->WaitFor(MiB(2)).ok());
    }
  }
  EXPECT_EQ(account_.pinned(), Bytes(0));
}

TEST_F(MemoryTest, APoolLargerThanTheMachineIsRefused) {
  const DeviceContext context = Open();
  PinnedPoolOptions options;
  options.size = Bytes(int64_t{1} << 50);
  const absl::Status status = PinnedPool::Create(context, options, account_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the machine has"));
}

TEST_F(MemoryTest, APoolMayBeDestroyedWhileItIsBeingRegistered) {
  const DeviceContext context = Open();
  PinnedPoolOptions options;
  options.size = MiB(16);
  options.chunk = Bytes(4096);
  const auto pool = PinnedPool::Create(context, options, account_);
  ASSERT_TRUE(pool.ok());
}

}  // namespace
}  // namespace sluice::cuda
