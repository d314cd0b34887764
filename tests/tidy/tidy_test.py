#!/usr/bin/env python3
"""The tree passes every check of tidy.py, and every check reports what it is there for."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import checks
import tidy
from function_size import function_sizes
from include_table import RULES, rule_for
from source_tree import SourceTree, blank_comments_and_literals, includes

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def lines(count, text="x;"):
    return "\n".join([text] * count)


# A tree that passes. Each violation below changes or adds files.
CLEAN = {
    "scheduler/CMakeLists.txt": "sluice_library(NAME scheduler SRCS scheduler.cc kv/pool.cc)",
    "scheduler/README.md": "# scheduler",
    "scheduler/kv/README.md": "# scheduler/kv",
    "scheduler/scheduler.h": "#pragma once\n#include <vector>\n#include \"scheduler/kv/pool.h\"\n",
    "scheduler/scheduler.cc": "#include \"scheduler/scheduler.h\"\nvoid PlanStep() {}\n",
    "scheduler/kv/pool.h": "#pragma once\n#include \"scheduler/step.h\"\n",
    "scheduler/kv/pool.cc": "#include \"scheduler/kv/pool.h\"\n// std::mutex: not here\n",
    "service/README.md": "# service",
    "service/engine/README.md": "# service/engine",
    "service/engine/loop.h": "#pragma once\n#include \"scheduler/scheduler.h\"\n"
                             "#include \"backend/backend.h\"\n",
    "tests/README.md": "# tests",
    "tests/CMakeLists.txt": "sluice_test(NAME pool_test SRCS scheduler/pool_test.cc)",
    "tests/scheduler/pool_test.cc": "#include \"gtest/gtest.h\"\nTEST(A, B) {\n" + lines(90) + "\n}\n",
}

# (check, files to add or change, what the report must contain)
VIOLATIONS = [
    ("includes", {"scheduler/kv/pool.h": "#include \"scheduler/scheduler.h\""},
     "scheduler/kv/ must not include scheduler/scheduler.h"),
    ("includes", {"scheduler/scheduler.h": "#include <chrono>"}, "must not include chrono"),
    ("includes", {"scheduler/scheduler.h": "\n\n#include \"prometheus/counter.h\""},
     "scheduler/scheduler.h:3: scheduler/ must not include prometheus/counter.h"),
    ("includes", {"scheduler/scheduler.h": "#include \"absl/time/clock.h\""}, "absl/time/clock.h"),
    ("includes", {"scheduler/scheduler.h": "#include <unistd.h>"}, "unistd.h"),
    ("includes", {"scheduler/scheduler.cc": "#include \"backend/backend.h\""}, "backend/backend.h"),
    ("includes", {"backend/backend.h": "#include \"scheduler/scheduler.h\""},
     "backend/ must not include scheduler/scheduler.h"),
    ("includes", {"backend/cpu/cpu.h": "#include \"service/engine/loop.h\""}, "service/engine"),
    ("includes", {"backend/cpu/cpu.h": "#include <grpcpp/grpcpp.h>"}, "grpcpp/grpcpp.h"),
    ("includes", {"service/tokenizer/bpe.h": "#include \"scheduler/scheduler.h\""},
     "service/tokenizer/ must not include scheduler/scheduler.h"),
    ("includes", {"service/engine/loop.h": "#include \"tests/support/fake.h\""}, "tests/support"),
    ("includes", {"planner/plan.h": "#pragma once"}, "no rule"),
    ("drivers", {"service/grpc/rpc.cc": "void F() { scheduler->PlanStep(now); }"},
     "service/grpc/rpc.cc:1: only service/engine calls PlanStep()"),
    ("pure-core", {"scheduler/kv/pool.cc": "auto t = absl::Now();"}, "absl::Now"),
    ("pure-core", {"scheduler/kv/pool.cc": "std::random_device d;"}, "random_device"),
    ("pure-core", {"scheduler/kv/pool.cc": "std::mutex mu;"}, "std::mutex"),
    ("pure-core", {"scheduler/kv/pool.cc": "std::this_thread::yield();"}, "this_thread"),
    ("product-tokens", {"service/engine/loop.h": "auto x = std::getenv(\"X\");"}, "getenv"),
    ("product-tokens", {"service/engine/loop.h": "throw 1;"}, "throw"),
    ("sleeps", {"tests/scheduler/pool_test.cc": "absl::SleepFor(x);"}, "SleepFor"),
    ("sleeps", {"tests/service/some_test.py": "time.sleep(1)"}, "sleep"),
    ("disabled-tests", {"tests/scheduler/pool_test.cc": "TEST(A, DISABLED_B) {}"}, "DISABLED_B"),
    ("promises", {"scheduler/scheduler.cc": "// TO" "DO: later"}, "scheduler/scheduler.cc:1"),
    ("absolute-paths", {"service/engine/loop.h": "auto p = \"" "/wo" "rk/x\";"}, "loop.h:1"),
    ("file-size", {"scheduler/scheduler.cc": lines(601) + "\n"}, "601 lines"),
    ("function-size", {"scheduler/scheduler.cc": "int F(int a) {\n" + lines(59) + "\n}\n"},
     "F: 61 lines; the limit is 60"),
    ("function-size", {"tests/scheduler/pool_test.cc": "TEST(A, B) {\n" + lines(99) + "\n}\n"},
     "TEST(A, B): 101 lines; the limit is 100"),
    ("pragma-once", {"scheduler/scheduler.h": "int x;"}, "scheduler/scheduler.h:1"),
    ("built", {"tests/scheduler/forgotten_test.cc": ""}, "tests/scheduler/forgotten_test.cc"),
    ("built", {"tests/CMakeLists.txt": "# sluice_test(SRCS scheduler/pool_test.cc)"},
     "tests/scheduler/pool_test.cc"),
    ("readmes", {"backend/cpu/cpu.cc": ""}, "backend/cpu/README.md"),
]


class FixtureTree:
    """A tree of the given files in a temporary folder."""

    def __init__(self, files):
        self.files = files

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        for path, text in self.files.items():
            full = os.path.join(self.folder.name, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        return SourceTree(self.folder.name, self.files)

    def __exit__(self, *exception):
        self.folder.cleanup()


class TheTreeTest(unittest.TestCase):
    """One test per check, on this repository."""

    tree = None

    @classmethod
    def setUpClass(cls):
        cls.tree = SourceTree(ROOT)

    def test_is_not_empty(self):
        self.assertGreater(len(self.tree.with_suffix(".cc")), 20)


def _add_tree_tests():
    for name in tidy.CHECKS:
        def test(self, name=name):
            found = tidy.findings(self.tree, name)
            if found:
                self.fail("\n" + "\n".join(found))
        setattr(TheTreeTest, "test_" + name.replace("-", "_"), test)


_add_tree_tests()


class ChecksReportTest(unittest.TestCase):
    def test_nothing_in_a_clean_tree(self):
        with FixtureTree(CLEAN) as tree:
            for name in tidy.CHECKS:
                with self.subTest(name):
                    self.assertEqual(tidy.findings(tree, name), [])

    def test_each_violation(self):
        for name, change, expected in VIOLATIONS:
            with self.subTest(name, change=change), FixtureTree(CLEAN | change) as tree:
                self.assertIn(expected, "\n".join(tidy.findings(tree, name)))

    def test_every_check_has_a_violation(self):
        self.assertEqual({name for name, _, _ in VIOLATIONS}, set(tidy.CHECKS))

    def test_long_files_are_only_noted(self):
        with FixtureTree(CLEAN | {"scheduler/scheduler.cc": lines(401) + "\n"}) as tree:
            self.assertEqual(tidy.findings(tree, "file-size"), [])
            self.assertEqual([path for path, _, _ in checks.long_files(tree)],
                             ["scheduler/scheduler.cc"])


class ParsingTest(unittest.TestCase):
    def test_blanking_keeps_lines_and_code(self):
        text = "a /* x\ny */ b // \"c\nd(\"e // f\", 'g', 1'000, R\"(h\n\")\");"
        self.assertEqual(blank_comments_and_literals(text),
                         "a  \n b  \nd(\"\", 0, 1'000, \"\"\n);")

    def test_includes_in_comments_do_not_count(self):
        text = "// #include <a>\n/*\n#include <b>\n*/\n#  include <c>\n#include \"d/e.h\"\n"
        self.assertEqual(list(includes(text)), [(5, "c", True), (6, "d/e.h", False)])

    def test_functions_are_found_in_every_position(self):
        code = """
namespace sluice {
namespace {
constexpr int kTable[] = {1, 2};
template <class T>
int Free(T t) { return t; }
}
class C : public B {
 public:
  C() : a_{1}, b_(2) {
  }
  int Get() const { return a_; }
  struct D { int x; };
  enum E { F };
};
int C::Set(const struct S& s) {
  if (s) { for (;;) {} }
  auto f = [] { return 1; };
}
std::map<int, int> table = Make({
  {1, 2},
});
TEST_P(Suite, Name) {
}
}
"""
        found = {name: size for _, size, name in function_sizes(code)}
        # A constructor counts under the name of its last initializer.
        self.assertEqual(found, {"Free": 1, "C": 1, "b_": 2, "Get": 1, "C::Set": 4,
                                 "TEST_P(Suite, Name)": 2})

    def test_the_most_specific_rule_wins(self):
        self.assertEqual(rule_for("scheduler/kv/pool.h").folder, "scheduler/kv")
        self.assertEqual(rule_for("scheduler/scheduler.h").folder, "scheduler")
        self.assertEqual(len({rule.folder for rule in RULES}), len(RULES))


if __name__ == "__main__":
    unittest.main()
