// No template hangs, and none takes the stack or the memory with it.
#include <algorithm>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/chat/render.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

std::string Repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

void ExpectFails(const std::string& source, const std::string& why) {
  const absl::StatusOr<std::string> text = Render(source);
  ASSERT_FALSE(text.ok()) << source.substr(0, 100);
  EXPECT_THAT(std::string(text.status().message()), HasSubstr(why)) << source.substr(0, 100);
}

TEST(TemplateLimits, LoopsEndWhenTheStepsAreUsedUp) {
  ExpectFails("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
              "runs for more than 4000000 steps");
  ExpectFails(
      "{% set ns = namespace(s='x') %}{% for a in range(99999) %}{% set ns.s = ns.s + 'y' * 9999 %}"
      "{% endfor %}",
      "runs for more than");
}

TEST(TemplateLimits, TextsAndListsStaySmall) {
  ExpectFails("{{ 'x' * 999999999999 }}", "(limit 16777216)");
  ExpectFails("{% set a = 'x' * 9999999 %}{{ a + a }}", "(limit 16777216)");
  ExpectFails("{% set a = 'x' * 9999 %}{{ a | replace('x', a) }}", "(limit 16777216)");
  ExpectFails("{{ range(99999999999) | length }}", "range() of more than");
  ExpectFails("{% for i in range(9) %}{{ 'x' * 9999999 }}{% endfor %}", "grows beyond 16777216");
}

TEST(TemplateLimits, OutputIsBoundedByTheCallersLimit) {
  jinja::RenderLimits limits;
  limits.output_bytes = 10;
  EXPECT_THAT(Render("0123456789", {}, limits), IsOk());
  EXPECT_THAT(Render("0123456789a", {}, limits),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("grows beyond 10 bytes")));
}

TEST(TemplateLimits, NestingIsBounded) {
  ExpectFails("{{ " + Repeated("(", 5000) + "1" + Repeated(")", 5000) + " }}", "this large");
  ExpectFails("{{ " + Repeated("not ", 5000) + "1 }}", "this large");
  ExpectFails("{{ " + Repeated("-", 5000) + "1 }}", "this large");
  ExpectFails("{{ 1" + Repeated(" + 1", 5000) + " }}", "this large");
  ExpectFails("{{ x" + Repeated(".a", 5000) + " }}", "this large");
  ExpectFails("{{ x" + Repeated("|trim", 5000) + " }}", "this large");
  ExpectFails(Repeated("{% if 1 %}", 5000), "nested this deeply");
  ExpectFails("{% if 1 %}" + Repeated("{% elif 1 %}", 5000) + "{% endif %}", "in a row");
  ExpectFails(
      "{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}"
      "{% endfor %}",
      "nested more than 100 deep");
}

TEST(TemplateLimits, NothingContainsItself) {
  ExpectFails("{% set ns = namespace() %}{% set ns.me = ns %}", "namespace inside of a namespace");
  ExpectFails("{% set ns = namespace() %}{% set ns.me = [ns] %}", "a namespace in a list");
  ExpectFails("{% set ns = namespace() %}{% set ns.me = dict(a=ns) %}", "a namespace in a dict");
}

// Random pieces of templates give a text or an error, always.
TEST(TemplateLimits, RandomTemplatesEnd) {
  const std::vector<std::string> pieces = {"{{",
                                           "}}",
                                           "{%",
                                           "%}",
                                           "{#",
                                           "#}",
                                           "-",
                                           "+",
                                           " ",
                                           "\n",
                                           "x",
                                           "messages",
                                           "'a'",
                                           "\"",
                                           "\\",
                                           "(",
                                           ")",
                                           "[",
                                           "]",
                                           "{",
                                           "}",
                                           ":",
                                           ",",
                                           ".",
                                           "|",
                                           "=",
                                           "==",
                                           "~",
                                           "*",
                                           "//",
                                           "%",
                                           "1",
                                           "2.5",
                                           " if ",
                                           " else ",
                                           " endif ",
                                           " for ",
                                           " in ",
                                           " endfor ",
                                           " set ",
                                           " endset ",
                                           " macro ",
                                           " endmacro ",
                                           " is ",
                                           " not ",
                                           " and ",
                                           " or ",
                                           "defined",
                                           "trim",
                                           "tojson",
                                           "length",
                                           "namespace()",
                                           "range(9)",
                                           "loop.index",
                                           "raw",
                                           "endraw",
                                           "é",
                                           "\xff",
                                           "{% if x %}",
                                           "{% endif %}",
                                           "{% for i in [1,2] %}",
                                           "{% endfor %}",
                                           "{{ x }}",
                                           "{%- set a = [1] -%}"};
  const uint64_t seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  jinja::RenderLimits limits;
  limits.steps = 10'000;
  int rendered = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string source;
    for (uint64_t n = random() % 12; n > 0; --n) source += pieces[random() % pieces.size()];
    const absl::StatusOr<std::string> text = Render(source, {{"x", "y"}}, limits);
    if (text.ok()) {
      ++rendered;
    } else {
      EXPECT_THAT(std::string(text.status().message()), HasSubstr("line ")) << source;
    }
  }
  EXPECT_GT(rendered, 100);  // the pieces do make templates
}

}  // namespace
}  // namespace sluice::testing
