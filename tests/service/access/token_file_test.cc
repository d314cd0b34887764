#include "service/access/token_file.h"

#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

class TokenFileTest : public ::testing::Test {
 protected:
  std::unique_ptr<TokenFile> Open(const std::string& path) {
    auto file = TokenFile::Open(
        path, [this] { return now_; }, [this](const absl::Status& s) { reports_.push_back(s); });
    EXPECT_THAT(file, IsOk());
    return *std::move(file);
  }

  testing::TempDir dir_;
  absl::Time now_ = absl::UnixEpoch();
  std::vector<absl::Status> reports_;
};

TEST_F(TokenFileTest, TokensComeAndGoWithTheFile) {
  const std::string path = dir_.Write("tokens", "anna-0123456789abcdef anna\n");
  const auto file = Open(path);
  EXPECT_TRUE(file->table()->Find("anna-0123456789abcdef").has_value());

  dir_.Write("tokens", "bert-0123456789abcdef-longer bert\n");
  EXPECT_TRUE(file->table()->Find("anna-0123456789abcdef").has_value()) << "looked too often";
  now_ += TokenFile::kInterval;
  EXPECT_FALSE(file->table()->Find("anna-0123456789abcdef").has_value());
  EXPECT_TRUE(file->table()->Find("bert-0123456789abcdef-longer").has_value());
  ASSERT_EQ(reports_.size(), 1);
  EXPECT_THAT(reports_[0], IsOk());
}

TEST_F(TokenFileTest, AWrongFileKeepsTheLastGoodTokens) {
  const std::string path = dir_.Write("tokens", "anna-0123456789abcdef anna\n");
  const auto file = Open(path);
  dir_.Write("tokens", "what is this supposed to be\n");
  now_ += TokenFile::kInterval;
  EXPECT_TRUE(file->table()->Find("anna-0123456789abcdef").has_value());
  ASSERT_EQ(reports_.size(), 1);
  EXPECT_THAT(reports_[0],
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path + ": line 1: 6 words")));
  now_ += TokenFile::kInterval;
  EXPECT_TRUE(file->table()->Find("anna-0123456789abcdef").has_value());
  EXPECT_EQ(reports_.size(), 1) << "reported again without a change";
}

TEST_F(TokenFileTest, NamesTheFileItCannotOpen) {
  const std::string path = dir_.File("none");
  EXPECT_THAT(
      TokenFile::Open(path, absl::Now, nullptr),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("cannot read the token file " + path)));
  EXPECT_THAT(
      TokenFile::Open(dir_.Write("bad", "x y\n"), absl::Now, nullptr),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bad: line 1: the token has")));
}

}  // namespace
}  // namespace sluice
