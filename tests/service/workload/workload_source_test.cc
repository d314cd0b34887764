#include "service/workload/workload_source.h"

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::sluice::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(WorkloadSourceTest, ANameMakesAndAPathReads) {
  WorkloadSource source;
  source.name_or_path = "sharegpt";
  source.synthetic.requests = 7;
  const auto made = LoadWorkload(source);
  ASSERT_THAT(made, IsOk());
  EXPECT_EQ(made->size(), 7U);

  const TempDir dir;
  source.name_or_path =
      dir.Write("t.jsonl", R"({"arrival_ms":0,"input_tokens":10,"output_tokens":1})");
  const auto read = LoadWorkload(source);
  ASSERT_THAT(read, IsOk());
  ASSERT_EQ(read->size(), 1U);
  EXPECT_EQ((*read)[0].input(), Tokens(10));

  source.trace.max_input = Tokens(9);
  EXPECT_THAT(LoadWorkload(source),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no request is left (1 longer than max input, 0 not in")));
}

TEST(WorkloadSourceTest, WhatIsNeitherListsTheNames) {
  WorkloadSource source;
  source.name_or_path = "sharegtp";
  EXPECT_THAT(LoadWorkload(source), StatusIs(absl::StatusCode::kNotFound,
                                             AllOf(HasSubstr("sharegtp: cannot be read"),
                                                   HasSubstr("or name one of sharegpt, narr"))));
}

}  // namespace
}  // namespace sluice
