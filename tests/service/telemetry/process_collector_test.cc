#include "service/telemetry/process_collector.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "gtest/gtest.h"
#include "prometheus/metric_family.h"

namespace sluice {
namespace {

std::map<std::string, double> Values(const ProcessCollector& collector) {
  std::map<std::string, double> values;
  for (const prometheus::MetricFamily& family : collector.Collect()) {
    const prometheus::ClientMetric& sample = family.metric.at(0);
    values[family.name] =
        family.type == prometheus::MetricType::Counter ? sample.counter.value : sample.gauge.value;
  }
  return values;
}

TEST(ProcessCollectorTest, ReadsTheFieldsOfProc) {
  const std::filesystem::path proc = std::filesystem::path(::testing::TempDir()) / "fake_proc";
  std::filesystem::create_directories(proc / "self" / "fd" / "0");
  std::filesystem::create_directories(proc / "self" / "fd" / "1");
  // Fields 14 and 15: CPU ticks; 20: threads; 22: start in ticks; 23: virtual bytes; 24: pages.
  std::ofstream(proc / "self" / "stat")
      << "7 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 300 200 0 0 20 0 9 0 5000 4096000 11 0\n";
  std::ofstream(proc / "self" / "limits") << "Limit   Soft Hard Units\n"
                                          << "Max open files            1024   4096   files\n";
  std::ofstream(proc / "stat") << "cpu 1 2 3\nbtime 1700000000\n";
  const std::map<std::string, double> values = Values(ProcessCollector(proc / "self"));
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  EXPECT_DOUBLE_EQ(values.at("process_cpu_seconds_total"), 500 / ticks);
  EXPECT_EQ(values.at("process_threads"), 9);
  EXPECT_EQ(values.at("process_virtual_memory_bytes"), 4096000);
  EXPECT_EQ(values.at("process_resident_memory_bytes"),
            11 * static_cast<double>(sysconf(_SC_PAGESIZE)));
  EXPECT_DOUBLE_EQ(values.at("process_start_time_seconds"), 1700000000 + 5000 / ticks);
  EXPECT_EQ(values.at("process_open_fds"), 2);
  EXPECT_EQ(values.at("process_max_fds"), 1024);
  std::filesystem::remove_all(proc);
}

TEST(ProcessCollectorTest, WhatIsNotThereIsLeftOut) {
  EXPECT_TRUE(ProcessCollector("/nowhere/self").Collect().empty());
}

TEST(ProcessCollectorTest, ThisProcessHasAllSeven) {
  const std::map<std::string, double> values = Values(ProcessCollector());
  EXPECT_EQ(values.size(), 7U);
  EXPECT_GT(values.at("process_resident_memory_bytes"), 1e5);
  EXPECT_GT(values.at("process_start_time_seconds"), 1.5e9);
}

}  // namespace
}  // namespace sluice
