#include "service/access/token_table.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAnna[] = "anna-0123456789abcdef";
constexpr char kBert[] = "bert-0123456789abcdef";

TEST(TokenTableTest, KnowsWhomATokenStandsFor) {
  const auto table = TokenTable::Parse(
      "# who is who\n\n  anna-0123456789abcdef\tanna \r\nbert-0123456789abcdef bert admin\n");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->size(), 2);
  const auto anna = table->Find(kAnna);
  ASSERT_TRUE(anna.has_value());
  EXPECT_EQ(anna->tenant, "anna");
  EXPECT_TRUE(anna->authenticated);
  EXPECT_FALSE(anna->admin);
  ASSERT_TRUE(table->Find(kBert).has_value());
  EXPECT_TRUE(table->Find(kBert)->admin);
}

TEST(TokenTableTest, KnowsNobodyElse) {
  const auto table = TokenTable::Parse("anna-0123456789abcdef anna\n");
  ASSERT_TRUE(table.ok()) << table.status();
  for (const std::string& guess :
       {std::string(), std::string("anna"), std::string(kBert), std::string(kAnna) + "0",
        std::string(kAnna) + kAnna, std::string(kAnna).substr(1)}) {
    EXPECT_FALSE(table->Find(guess).has_value()) << guess;
  }
}

TEST(TokenTableTest, NamesTheLineAndNeverTheToken) {
  const auto refused = [](const std::string& text, const std::string& why) {
    EXPECT_THAT(TokenTable::Parse(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(why), Not(HasSubstr("0123456789abcdef")))))
        << text;
  };
  refused("\nanna-0123456789abcdef\n", "line 2: 1 words; want TOKEN TENANT [admin]");
  refused("anna-0123456789abcdef a admin b\n", "line 1: 4 words");
  refused("short anna\n", "line 1: the token has 5 bytes; want at least 16");
  refused("anna-0123456789abcdef an/na\n", "line 1: the tenant is not 1 to 64 characters");
  refused("anna-0123456789abcdef anna root\n", "line 1: the third word is not \"admin\"");
  refused("anna-0123456789abcdef a\nanna-0123456789abcdef b\n", "line 2: the token is there twice");
  refused("# nobody\n", "no token in it");
}

TEST(ConstantTimeTest, IsEquality) {
  EXPECT_TRUE(EqualInConstantTime("", ""));
  EXPECT_TRUE(EqualInConstantTime("abc", "abc"));
  EXPECT_FALSE(EqualInConstantTime("abc", "abd"));
  EXPECT_FALSE(EqualInConstantTime("abc", "abcabc"));
  EXPECT_FALSE(EqualInConstantTime("abc", "ab"));
  EXPECT_FALSE(EqualInConstantTime("abc", ""));
  EXPECT_FALSE(EqualInConstantTime("", "a"));
  EXPECT_FALSE(EqualInConstantTime(std::string("a\0", 2), "a"));
}

}  // namespace
}  // namespace sluice
