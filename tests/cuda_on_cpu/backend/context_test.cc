#include "backend/cuda/device/context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {
namespace {

using ::testing::HasSubstr;

class ContextTest : public EmulatedTest {};

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST_F(ContextTest, OpensTheFirstDeviceAndTellsAboutIt) {
  const auto context = DeviceContext::Open("");
  ASSERT_TRUE(context.ok()) << context.status();
  EXPECT_EQ(context->info().ordinal, 0);
  EXPECT_EQ(ComputeName(context->info()), "sm_90");
  EXPECT_EQ(context->info().pci, "0000:3b:00.0");
  EXPECT_EQ(context->info().copy_engines, 3);
  EXPECT_EQ(context->lowest_priority(), 0);
  EXPECT_EQ(context->highest_priority(), -5);
  EXPECT_THAT(context->Describe(), HasSubstr("sm_90, PCI 0000:3b:00.0"));
  EXPECT_THAT(context->Describe(), HasSubstr("driver for CUDA 13.0"));
  const auto memory = context->QueryMemory();
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(memory->total.value(), 1 << 30);
  EXPECT_EQ(memory->free, memory->total);
}

TEST_F(ContextTest, WithoutDriverOrDeviceOneLineSaysWhatToDo) {
  cuda_emu::Config config;
  config.devices = 0;
  cuda_emu::Reset(config);
  absl::Status status = DeviceContext::Open("").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("no NVIDIA driver"));
  EXPECT_THAT(Message(status), HasSubstr("--backend=cpu"));
  EXPECT_EQ(Message(status).find('\n'), std::string::npos);

  cuda_emu::Reset();
  cuda_emu::FailCall(cuda_emu::Api::kDevice, 1, cudaErrorNoDevice);
  status = DeviceContext::Open("").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("CUDA_VISIBLE_DEVICES"));

  config = {};
  config.driver_version = 12040;
  cuda_emu::Reset(config);
  status = DeviceContext::Open("").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("supports CUDA 12.4, this program needs 13.0"));
}

TEST_F(ContextTest, OldDevicesAreRefused) {
  cuda_emu::Config config;
  config.compute_major = 7;
  config.compute_minor = 5;
  cuda_emu::Reset(config);
  const absl::Status status = DeviceContext::Open("0").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("compute capability 7.5; want at least 8.0"));
}

TEST_F(ContextTest, EveryFailingCallIsAnError) {
  for (int nth = 1; nth < 12; ++nth) {
    cuda_emu::Reset();
    cuda_emu::FailCall(cuda_emu::Api::kDevice, nth, cudaErrorDevicesUnavailable);
    const absl::Status status = DeviceContext::Open("").status();
    const auto calls = cuda_emu::CurrentCounts().calls;
    EXPECT_EQ(status.ok(), calls < static_cast<uint64_t>(nth)) << nth;
    if (!status.ok()) {
      EXPECT_THAT(Message(status), HasSubstr("holds it exclusively"));
    }
  }
}

std::vector<DeviceInfo> Two() {
  DeviceInfo a;
  a.name = "GPU A";
  a.pci = "0000:3b:00.0";
  a.uuid = "GPU-11112222-0000-0000-0000-000000000001";
  DeviceInfo b = a;
  b.ordinal = 1;
  b.name = "GPU B";
  b.pci = "0001:af:00.0";
  b.uuid = "GPU-11113333-0000-0000-0000-000000000001";
  return {a, b};
}

TEST_F(ContextTest, DevicesHaveNumbersUuidsAndAddresses) {
  const std::vector<DeviceInfo> devices = Two();
  for (const auto& [wanted, ordinal] :
       std::vector<std::pair<std::string, int>>{{"", 0},
                                                {"0", 0},
                                                {"1", 1},
                                                {"GPU-11113", 1},
                                                {"gpu-11112222", 0},
                                                {"3b:00.0", 0},
                                                {"0000:3B:00.0", 0},
                                                {"0001:af:00.0", 1},
                                                {"0001:AF:00", 1}}) {
    const auto device = ChooseDevice(wanted, devices);
    ASSERT_TRUE(device.ok()) << wanted << ": " << device.status();
    EXPECT_EQ(device->ordinal, ordinal) << wanted;
  }
}

TEST_F(ContextTest, WrongNamesListWhatThereIs) {
  const std::vector<DeviceInfo> devices = Two();
  for (const std::string wanted : {"2", "-1", "GPU-4444", "af:00.0"}) {
    const absl::Status status = ChooseDevice(wanted, devices).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << wanted;
    EXPECT_THAT(Message(status), HasSubstr("there are 0: GPU A 0000:3b:00.0 GPU-11112222"));
    EXPECT_THAT(Message(status), HasSubstr("1: GPU B 0001:af:00.0"));
  }
  EXPECT_THAT(Message(ChooseDevice("GPU-1111", devices).status()), HasSubstr("fits several"));
  for (const std::string wanted : {"first", "cuda:0", "3b-00"}) {
    EXPECT_EQ(ChooseDevice(wanted, devices).status().code(), absl::StatusCode::kInvalidArgument)
        << wanted;
  }
}

}  // namespace
}  // namespace sluice::cuda
