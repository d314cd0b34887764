#include "service/report/svg.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "tests/service/report/xml_check.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::ParseXml;

TEST(EscapeXmlTest, MarkupBecomesEntities) {
  EXPECT_EQ(EscapeXml("a<b>&\"c\"'d'"), "a&lt;b&gt;&amp;&quot;c&quot;&#39;d&#39;");
  EXPECT_EQ(EscapeXml("κ ≥ 14 µs 日本 🎉"), "κ ≥ 14 µs 日本 🎉");
}

TEST(EscapeXmlTest, WhatXmlForbidsIsDroppedOrReplaced) {
  EXPECT_EQ(EscapeXml(std::string("a\0b\x1b[1mc\x7f", 9)), "ab[1mc");
  EXPECT_EQ(EscapeXml("bad \xff byte"), "bad \xEF\xBF\xBD byte");
  EXPECT_EQ(EscapeXml("cut \xE2\x82"), "cut \xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(EscapeXml("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") << "a surrogate";
  EXPECT_EQ(EscapeXml("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD") << "an overlong slash";
}

TEST(EscapeXmlTest, EveryByteGivesWellFormedText) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; b += 5) {
      const std::string text = {static_cast<char>(a), static_cast<char>(b), 'x'};
      EXPECT_THAT(ParseXml("<a b=\"" + EscapeXml(text) + "\">" + EscapeXml(text) + "</a>"), IsOk())
          << a << " " << b;
    }
  }
}

TEST(PxTest, IsShortAndAlwaysANumber) {
  EXPECT_EQ(Px(12), "12");
  EXPECT_EQ(Px(0.5), "0.5");
  EXPECT_EQ(Px(1.0 / 3), "0.33");
  EXPECT_EQ(Px(-0.001), "0");
  EXPECT_EQ(Px(std::nan("")), "0");
  EXPECT_EQ(Px(std::numeric_limits<double>::infinity()), "0");
}

TEST(ShortenedTest, KeepsWholeCharacters) {
  EXPECT_EQ(Shortened("short", 1000), "short");
  const std::string cut = Shortened("κκκκκκκκκκκκ", 60);
  EXPECT_LE(TextWidth(cut), 60);
  EXPECT_EQ(cut.substr(cut.size() - 3), "…");
  EXPECT_EQ(EscapeXml(cut), cut) << "no half character";
  EXPECT_EQ(Shortened("abc", 0), "…");
}

}  // namespace
}  // namespace sluice
