#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/grpc/orca_report.h"
#include "tests/service/grpc/test_server.h"
#include "xds/service/orca/v3/orca.grpc.pb.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::TestServer;
using xds::data::orca::v3::OrcaLoadReport;
using xds::service::orca::v3::OpenRcaService;
using xds::service::orca::v3::OrcaLoadReportRequest;

ServerLoad SomeLoad() {
  ServerLoad load;
  SchedulerStats& stats = load.engine.scheduler;
  stats.running = 3;
  stats.waiting = 7;
  stats.device = {Blocks(100), Blocks(20), Blocks(30), Blocks(45), Blocks(5)};
  stats.host = {Blocks(200), Blocks(150), Blocks(0), Blocks(50), Blocks(0)};
  load.rates.device_busy = 0.25;
  load.rates.link_to_device_busy = 0.1;
  load.rates.link_to_host_busy = 0.2;
  load.requests_per_s = 4;
  load.errors_per_s = 1;
  load.max_running = 10;
  return load;
}

TEST(OrcaReportTest, UtilizationIsThatOfTheBottleneck) {
  ServerLoad load = SomeLoad();
  EXPECT_DOUBLE_EQ(DeviceKvUsage(load), 0.35);  // what can be evicted is free
  EXPECT_DOUBLE_EQ(BottleneckUtilization(load), 0.35);
  load.rates.device_busy = 0.5;
  EXPECT_DOUBLE_EQ(BottleneckUtilization(load), 0.5);
  load.engine.scheduler.running = 6;
  EXPECT_DOUBLE_EQ(BottleneckUtilization(load), 0.6);
  load.rates.link_to_host_busy = 0.7;
  EXPECT_DOUBLE_EQ(BottleneckUtilization(load), 0.7);
  load.max_running = 0;  // unknown
  load.engine.scheduler.running = 1000;
  EXPECT_DOUBLE_EQ(BottleneckUtilization(load), 0.7);
  EXPECT_DOUBLE_EQ(BottleneckUtilization(ServerLoad()), 0);
}

TEST(OrcaReportTest, NamesTheParts) {
  const OrcaLoadReport report = MakeOrcaReport(SomeLoad());
  EXPECT_DOUBLE_EQ(report.application_utilization(), 0.35);
  EXPECT_DOUBLE_EQ(report.rps_fractional(), 4);
  EXPECT_DOUBLE_EQ(report.eps(), 1);
  const auto& named = report.named_metrics();
  EXPECT_DOUBLE_EQ(named.at("kv_cache_usage_perc"), 0.35);
  EXPECT_DOUBLE_EQ(named.at("num_requests_waiting"), 7);
  EXPECT_DOUBLE_EQ(named.at("num_requests_running"), 3);
  EXPECT_DOUBLE_EQ(named.at("host_kv_usage"), 0.25);
  EXPECT_DOUBLE_EQ(named.at("pcie_busy"), 0.2);
  EXPECT_DOUBLE_EQ(named.at("device_busy"), 0.25);
}

TEST(OrcaServiceTest, StreamsReportsUntilTheClientLeaves) {
  TestServer server;
  const auto stub = OpenRcaService::NewStub(server.channel());
  OrcaLoadReportRequest request;
  request.mutable_report_interval()->set_nanos(1);  // as often as it goes
  grpc::ClientContext context;
  auto reader = stub->StreamCoreMetrics(&context, request);
  OrcaLoadReport report;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(reader->Read(&report));
    EXPECT_EQ(report.named_metrics().count("num_requests_running"), 1U);
  }
  context.TryCancel();
  while (reader->Read(&report)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(OrcaServiceTest, ANegativeIntervalIsRefused) {
  TestServer server;
  const auto stub = OpenRcaService::NewStub(server.channel());
  OrcaLoadReportRequest request;
  request.mutable_report_interval()->set_seconds(-1);
  grpc::ClientContext context;
  auto reader = stub->StreamCoreMetrics(&context, request);
  OrcaLoadReport report;
  EXPECT_FALSE(reader->Read(&report));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("report_interval: -1 s"));
}

TEST(OrcaServiceTest, ShutdownEndsStreamsAtOnce) {
  TestServer server;
  const auto stub = OpenRcaService::NewStub(server.channel());
  grpc::ClientContext context;
  auto reader = stub->StreamCoreMetrics(&context, {});
  OrcaLoadReport report;
  ASSERT_TRUE(reader->Read(&report));  // the first one comes at once
  const absl::Time start = absl::Now();
  server.server().Shutdown(absl::Seconds(60));
  EXPECT_FALSE(reader->Read(&report));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
}

}  // namespace
}  // namespace sluice
