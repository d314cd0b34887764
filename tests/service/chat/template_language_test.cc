// The language of chat templates, construct by construct. Every expectation is what Jinja 3.1
// prints with the settings of Hugging Face.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/chat/render.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Case {
  std::string source;
  std::string expected;
};

void ExpectAll(const std::vector<Case>& cases, const nlohmann::json& variables = {{"x", 1}}) {
  for (const Case& one : cases) {
    EXPECT_EQ(RenderText(one.source, variables), one.expected) << one.source;
  }
}

TEST(TemplateLanguage, TextAndOutput) {
  ExpectAll({{"", ""},
             {"plain { text } # %", "plain { text } # %"},
             {"a{{ x }}b", "a1b"},
             {"{{ 'it''s' }}", "its"},
             {R"({{ "tab\tnew\nline \"q\" \u00e9 \x41 \q" }})", "tab\tnew\nline \"q\" é A \\q"},
             {"{{ none }}|{{ true }}|{{ false }}|{{ 1.0 }}|{{ 1e20 }}|{{ missing }}|",
              "None|True|False|1.0|1e+20||"},
             {"{{ [1, 'a', none] }} {{ {'k': \"it's\"} }}", "[1, 'a', None] {'k': \"it's\"}"},
             {"{{ {'a': {'b': 2}}['a']['b'] }}", "2"},
             {"{# nothing #}x{#- nothing -#} y", "xy"},
             {"one\r\ntwo\r\n", "one\ntwo"}});
}

TEST(TemplateLanguage, OneNewlineAtTheEndOfTheSourceIsDropped) {
  ExpectAll({{"a\n", "a"}, {"a\n\n", "a\n"}, {"{{ x }}\n", "1"}, {"{{ 'a\n' }}\n", "a\n"}});
}

TEST(TemplateLanguage, BlocksTakeTheirLineAlongAndOutputsDoNot) {
  ExpectAll({
      {"  {% if x %}\nyes\n  {% endif %}\nend", "yes\nend"},
      {"a\n  {{ x }}\n  b", "a\n  1\n  b"},
      {"a  {% if x %}b{% endif %}", "a  b"},  // not at the beginning of the line
      {"{% if x %}  {% if x %}y{% endif %}{% endif %}", "  y"},
      {"{% if x %}\n  {% if x %}\ny\n{% endif %}\n{% endif %}", "y\n"},
      {"  {# note #}\nx", "x"},
      {"{% set a = 1 %}\n\n{{ a }}", "\n1"},
      {"  {%+ if x %}y{% endif %}", "  y"},  // "+" keeps what is before
      {"{% if x +%}\ny{% endif %}", "\ny"},  // and what is after
  });
}

TEST(TemplateLanguage, AMinusTakesAllWhitespace) {
  ExpectAll({{"a \n\n {{- x -}} \n\n b", "a1b"},
             {"a\n{%- if x -%}\n b \n{%- endif -%}\nc", "abc"},
             {"{{ 'a ' }} {{- ' b' }}", "a  b"},
             {"a {#- c -#} b", "ab"}});
}

TEST(TemplateLanguage, RawTextIsLeftAlone) {
  ExpectAll({{"{% raw %}{{ x }} {% if %}{% endraw %}!", "{{ x }} {% if %}!"},
             {"a {%- raw -%}  {{ y }}  {%- endraw -%} b", "a{{ y }}b"}});
}

TEST(TemplateLanguage, Arithmetic) {
  ExpectAll(
      {{"{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }}",
        "3 -4 1 2 3.5 1024"},
       {"{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ -x + 3 }} {{ 1.5 + x }}", "7 9 2 2.5"},
       {"{{ 'a' + 'b' }} {{ 'a' * 3 }} {{ [1] + [2] }}", "ab aaa [1, 2]"},
       {"{{ 1 ~ 'a' ~ none ~ 2 }}", "1aNone2"},
       {"{{ 1 ~ 2 + 3 }}", "ERROR line 1: '+' between a string and an integer is not possible"},
       {"{{ 'a' + 1 }}", "ERROR line 1: '+' between a string and an integer is not possible"},
       {"{{ 1 // 0 }}", "ERROR line 1: division by 0"},
       {"{{ 9223372036854775807 + 1 }}",
        "ERROR line 1: the result of 9223372036854775807 + 1 is too large"}});
}

TEST(TemplateLanguage, ComparisonsAndLogic) {
  ExpectAll(
      {{"{{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ [1] == [1] }}", "True True False True"},
       {"{{ 1 < 2 <= 2 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }}", "True False True"},
       {"{{ 'b' in 'abc' }} {{ 4 not in [1, 2] }} {{ 'k' in {'k': 0} }}", "True True True"},
       {"{{ not x }} {{ x and 'b' }} {{ 0 or 'c' }} {{ '' and missing.deep }}", "False b c "},
       {"{{ 'a' if x else 'b' }}{{ 'c' if not x }}|", "a|"},
       {"{{ missing == other }} {{ missing == none }}", "True False"},
       {"{{ 1 < 'a' }}", "ERROR line 1: an integer and a string have no order"}});
}

TEST(TemplateLanguage, ItemsAttributesAndSlices) {
  const nlohmann::json variables = {{"m", {{"role", "user"}, {"n", {1, 2, 3, 4}}}}, {"s", "añb€c"}};
  ExpectAll({{"{{ m.role }}{{ m['role'] }}{{ m.n[0] }}{{ m.n[-1] }}{{ m.n.1 }}", "useruser142"},
             {"{{ m.n[1:] }}{{ m.n[:-1] }}{{ m.n[::2] }}{{ m.n[::-1] }}{{ m.n[5:] }}",
              "[2, 3, 4][1, 2, 3][1, 3][4, 3, 2, 1][]"},
             {"{{ s[1] }}{{ s[-2] }}{{ s[1:3] }}{{ s | length }}", "ñ€ñb5"},
             {"{{ m.none }}|{{ m['no'] }}|{{ m.n[9] }}|", "|||"},
             {"{{ m.no.deeper }}", "ERROR line 1: a dict has no attribute 'no'"},
             {"{{ missing[0] }}", "ERROR line 1: 'missing' is undefined"}},
            variables);
}

TEST(TemplateLanguage, ForLoops) {
  const nlohmann::json variables = {{"l", {"a", "b", "c"}}, {"d", {{"k", 1}, {"m", 2}}}};
  ExpectAll(
      {{"{% for i in l %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}", "a,b,c"},
       {"{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }} "
        "{% endfor %}",
        "103True 212False 321False "},
       {"{% for i in l if i != 'b' %}{{ loop.index }}{{ i }}/{{ loop.length }} {% endfor %}",
        "1a/2 2c/2 "},
       {"{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "k=1;m=2;"},
       {"{% for k in d %}{{ k }}{% else %}none{% endfor %}", "km"},
       {"{% for i in [] %}x{% else %}none{% endfor %}", "none"},
       {"{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}", "25"},
       {"{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
        "<a>b a<b>c b<c> "},
       {"{% for i in l %}{{ loop.cycle('x', 'y') }}{% endfor %}", "xyx"},
       {"{% for i in l %}{% if i == 'b' %}{% continue %}{% endif %}{{ i }}{% endfor %}", "ac"},
       {"{% for i in l %}{% if i == 'b' %}{% break %}{% endif %}{{ i }}{% endfor %}", "a"},
       {"{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
        "1231 1232 1233 "},
       {"{% for i in 5 %}{% endfor %}", "ERROR line 1: an integer has no elements to go over"}},
      variables);
}

TEST(TemplateLanguage, VariablesOfALoopDoNotLeaveItButThoseOfANamespaceDo) {
  ExpectAll({{"{% set a = 1 %}{% for i in [1, 2] %}{% set a = 5 %}{% endfor %}{{ a }}", "1"},
             {"{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}"
              "{% endfor %}{{ ns.n }}",
              "3"},
             {"{% if x %}{% set a = 2 %}{% endif %}{{ a }}", "2"},
             {"{% set x.y = 1 %}",
              "ERROR line 1: 'x' is an integer; only attributes of a namespace can be set"}});
}

TEST(TemplateLanguage, SetBlocksFiltersAndMacros) {
  ExpectAll({{"{% set a %}b{{ x }} {% endset %}[{{ a }}]", "[b1 ]"},
             {"{% set a | trim | upper %} b {% endset %}[{{ a }}]", "[B]"},
             {"{% set a, b = 1, 2 %}{{ b }}{{ a }}", "21"},
             {"{% filter upper %}a{{ 'b' }}{% endfilter %}", "AB"},
             {"{% macro m(a, b='-') %}{{ a }}{{ b }}{{ x }}{% endmacro %}{{ m(1) }}{{ m(2, b=3) }}",
              "1-1231"},
             {"{% generation %}a{% endgeneration %}", "a"},
             {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
              "ERROR line 1: macros call each other more than 20 deep"}});
}

TEST(TemplateLanguage, Filters) {
  ExpectAll(
      {{"{{ ' a ' | trim }}{{ 'xax' | trim('x') }}", "aa"},
       {"{{ [1, 2] | length }}{{ 'añ' | count }}{{ missing | length }}", "220"},
       {"{{ missing | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}", "dd"},
       {"{{ 'aB' | upper }}{{ 'aB' | lower }}{{ 'hi you' | title }}{{ 'hI' | capitalize }}",
        "ABabHi YouHi"},
       {"{{ [1, 'a'] | join(', ') }}{{ [1, 2] | first }}{{ [1, 2] | last }}", "1, a12"},
       {"{{ [3, 1] | max }}{{ [3, 1] | min }}{{ [1, 2] | reverse | list }}", "31[2, 1]"},
       {"{{ '3' | int + 1 }}{{ 'a' | int }}{{ 2.7 | int }}{{ '1.5' | float }}", "4021.5"},
       {"{{ 'a-b' | replace('-', '+') }}{{ 5 | string + 'x' }}{{ -3 | abs }}", "a+b5x3"},
       {"{{ [{'r': 'u'}, {'r': 'a'}] | selectattr('r', 'equalto', 'u') | list }}", "[{'r': 'u'}]"},
       {"{{ [{'r': 'u'}, {}] | rejectattr('r', 'defined') | list | length }}", "1"},
       {"{{ [{'r': 'u'}, {'r': 'a'}] | map(attribute='r') | join }}", "ua"},
       {"{{ ['a', 'b'] | map('upper') | join }}{{ [1, 0, 2] | select | list }}", "AB[1, 2]"},
       {"{{ 'a\nb\n\nc' | indent(2) }}", "a\n  b\n\n  c"},
       {"{{ {'b': 1, 'A': 2} | dictsort }}", "[['A', 2], ['b', 1]]"},
       {"{{ -1 | abs }}{{ 'a' | length + 1 }}", "12"}});
}

TEST(TemplateLanguage, ToJsonIsPythons) {
  const nlohmann::json variables = {{"v", {{"a", {1, 2.0, "é\"\n"}}, {"b", nullptr}}}, {"e", {}}};
  ExpectAll({{"{{ v | tojson }}", R"({"a": [1, 2.0, "é\"\n"], "b": null})"},
             {"{{ v | tojson(indent=2) }}",
              "{\n  \"a\": [\n    1,\n    2.0,\n    \"é\\\"\\n\"\n  ],\n  \"b\": null\n}"},
             {"{{ v | tojson(separators=(',', ':')) }}", R"({"a":[1,2.0,"é\"\n"],"b":null})"},
             {"{{ [] | tojson(indent=2) }}{{ {} | tojson }}{{ '<&>' | tojson }}", "[]{}\"<&>\""},
             {"{{ missing | tojson }}", "ERROR line 1: tojson of undefined"}},
            variables);
}

TEST(TemplateLanguage, Tests) {
  ExpectAll(
      {{"{{ x is defined }}{{ y is defined }}{{ y is not defined }}", "TrueFalseTrue"},
       {"{{ none is none }}{{ 'a' is string }}{{ x is number }}{{ {} is mapping }}",
        "TrueTrueTrueTrue"},
       {"{{ [1] is iterable }}{{ 'a' is iterable }}{{ x is iterable }}", "TrueTrueFalse"},
       {"{{ true is true }}{{ 1 is true }}{{ 2 is even }}{{ 3 is odd }}{{ 9 is divisibleby 3 }}",
        "TrueFalseTrueTrueTrue"},
       {"{{ x is equalto 1 }}{{ 'a' is in ['a'] }}{{ not x is string }}", "TrueTrueTrue"},
       {"{{ 'yes' if y is not defined or y is none else 'no' }}", "yes"}});
}

TEST(TemplateLanguage, MethodsOfStringsAndDicts) {
  ExpectAll(
      {{"{{ ' a '.strip() }}{{ '\n a'.lstrip('\n') }}{{ 'a\n'.rstrip() }}", "a aa"},
       {"{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}", "TrueTrue"},
       {"{{ 'a,b,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a,b,c'.split(',', 1)[-1] }}",
        "['a', 'b', 'c']['a', 'b']b,c"},
       {"{{ 'x</think>y'.split('</think>')[-1] }}{{ 'a'.upper() }}{{ 'aXb'.replace('X', '') }}",
        "yAab"},
       {"{{ ', '.join(['a', 'b']) }}{{ 'ñab'.find('b') }}{{ 'aba'.count('a') }}", "a, b22"},
       {"{{ {'a': 1}.get('a') }}{{ {}.get('b', 2) }}{{ {'a': 1}.keys() | list }}", "12['a']"},
       {"{{ 'a'.nothing() }}",
        "ERROR line 1: a string has no method 'nothing' (or it is not supported)"},
       {"{{ [].append(1) }}",
        "ERROR line 1: a list has no method 'append' (or it is not supported)"}});
}

TEST(TemplateLanguage, RaiseExceptionIsAnErrorWithItsTextAndLine) {
  EXPECT_THAT(Render("\n\n{{ raise_exception('roles must ' + 'alternate') }}"),
              StatusIs(absl::StatusCode::kInvalidArgument, "line 3: roles must alternate"));
}

TEST(TemplateLanguage, MistakesAreFoundWhenTheTemplateIsLoaded) {
  const std::vector<Case> cases = {
      {"\n{{ x", "line 2: the tag does not end; \"}}\" is missing"},
      {"{# x", "line 1: the comment does not end; \"#}\" is missing"},
      {"{{ 'x }}", "line 1: the string does not end; a quote is missing"},
      {"a\n{% if x %}\nb", "line 2: the block does not end; {% endif %} is missing"},
      {"{% for x %}", "line 1: expected 'in' but found '%}'"},
      {"{% endif %}", "line 1: {% endif %} without the block that it belongs to"},
      {"{{ }}", "line 1: expected a value but found '}}'"},
      {"{{ a b }}", "line 1: expected '}}' but found 'b'"},
      {"{{ a $ b }}", "line 1: unexpected character '$'"},
      {"{% break %}", "line 1: 'break' outside of a for loop"},
  };
  for (const Case& one : cases) {
    EXPECT_THAT(Render(one.source), StatusIs(absl::StatusCode::kInvalidArgument, one.expected));
  }
}

TEST(TemplateLanguage, WhatIsNotSupportedIsNamedWhenTheTemplateIsLoaded) {
  const std::vector<Case> cases = {
      {"\n{% include 'x' %}", "line 2: the statement {% include %} is not supported"},
      {"{{ x | urlize }}", "line 1: the filter 'urlize' is not supported"},
      {"{{ x is filter }}", "line 1: the test 'filter' is not supported"},
      {"{{ f(*x) }}", "line 1: unpacking arguments with '*' is not supported"},
      {"{% for a in b recursive %}{% endfor %}", "line 1: a recursive for loop is not supported"},
  };
  for (const Case& one : cases) {
    EXPECT_THAT(Render(one.source), StatusIs(absl::StatusCode::kUnimplemented, one.expected));
  }
}

}  // namespace
}  // namespace sluice::testing
