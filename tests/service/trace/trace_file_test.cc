#include "service/trace/trace_file.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gmock/gmock.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

const absl::Time kOrigin = absl::FromUnixSeconds(1000);

void Step(EngineTrace& trace, int number) {
  StepPlan plan;
  plan.id = StepId(number);
  plan.sequences.resize(1);
  plan.sequences[0].count = Tokens(1);
  StepResult result;
  result.started = kOrigin + absl::Milliseconds(number);
  result.finished = result.started + absl::Microseconds(500);
  trace.OnStep(plan, result);
}

class TraceFileTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  nlohmann::json Read() const {
    std::ifstream file(path_);
    std::stringstream content;
    content << file.rdbuf();
    return nlohmann::json::parse(content.str());
  }
  static size_t Spans(const nlohmann::json& trace) {
    size_t spans = 0;
    for (const nlohmann::json& event : trace["traceEvents"]) spans += event["ph"] == "X" ? 1 : 0;
    return spans;
  }

  const std::string path_ = std::filesystem::path(::testing::TempDir()) /
                            ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(TraceFileTest, EverythingIsInTheFileWhenItIsClosed) {
  EngineTrace trace(5000);
  auto file = TraceFile::Create(path_, trace, MiB(64), kOrigin, "cpu");
  ASSERT_TRUE(file.ok()) << file.status();
  for (int i = 0; i < 3000; ++i) Step(trace, i);
  ASSERT_TRUE((*file)->Close().ok());
  EXPECT_EQ(Spans(Read()), 3000U);
  EXPECT_EQ((*file)->stats().events, 3000);
  EXPECT_EQ((*file)->stats().lost, 0);
  EXPECT_FALSE((*file)->stats().full);
}

TEST_F(TraceFileTest, TheLimitEndsTheTraceButNotTheDocument) {
  EngineTrace trace(5000);
  auto file = TraceFile::Create(path_, trace, Bytes(300000), kOrigin, "cpu");
  ASSERT_TRUE(file.ok());
  for (int i = 0; i < 5000; ++i) Step(trace, i);
  ASSERT_TRUE((*file)->Close().ok());
  EXPECT_TRUE((*file)->stats().full);
  const size_t spans = Spans(Read());
  EXPECT_GT(spans, 0U);
  EXPECT_LT(spans, 5000U);
  EXPECT_LE(std::filesystem::file_size(path_), 300100U);
}

TEST_F(TraceFileTest, WhatTheRingLostIsCountedAndMarked) {
  EngineTrace trace(10);
  for (int i = 0; i < 100; ++i) Step(trace, i);
  auto file = TraceFile::Create(path_, trace, MiB(1), kOrigin, "cpu");
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Close().ok());
  EXPECT_EQ((*file)->stats().lost, 90);
  EXPECT_EQ(Spans(Read()), 10U);
  EXPECT_THAT(Read().dump(), HasSubstr("90 events lost"));
}

TEST_F(TraceFileTest, AFileThatCannotBeWrittenIsNamed) {
  const EngineTrace trace(10);
  const auto file = TraceFile::Create("/nowhere/t.json", trace, MiB(1), kOrigin, "cpu");
  EXPECT_TRUE(absl::IsUnavailable(file.status()));
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("/nowhere/t.json"));
}

}  // namespace
}  // namespace sluice
