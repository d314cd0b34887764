#!/usr/bin/env python3
"""What mutate.py finds in a source, what is left without it, and that all of it has tests."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from mutation import statements, targets  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]

SOURCE = """\
absl::Status Lane::Wait(Event& e);  // cudaStreamWaitEvent(a, b) in a comment
absl::Status Lane::Wait(Event& e) {
  __syncthreads();
  gpu::cp_async_wait<1>();
  if (x) __syncwarp();
  RETURN_IF_ERROR(Note(cudaStreamWaitEvent(stream_.get(), e.get()), "wait"));
  return health_.Note(cudaEventRecord(
      done.get(), stream), "record");
  lane->Wait(e).IgnoreError();
}
"""


class StatementsTest(unittest.TestCase):
    def find(self, calls):
        return list(statements.find("a.cc", SOURCE, {**statements.CALLS, **calls}))

    def test_finds_calls_and_neither_comments_nor_definitions(self):
        found = [(m.line, m.statement) for m in self.find({"Wait": statements.STATUS})]
        self.assertEqual(found, [
            (3, "__syncthreads()"), (4, "gpu::cp_async_wait<1>()"), (5, "__syncwarp()"),
            (6, "cudaStreamWaitEvent(stream_.get(), e.get())"),
            (7, "cudaEventRecord( done.get(), stream)"), (9, "lane->Wait(e)")])

    def test_replaces_one_call_by_its_stand_in(self):
        mutants = self.find({"Wait": statements.STATUS})
        for mutant, line in zip(mutants, [
                "  static_cast<void>(0);", "  static_cast<void>(0);",
                "  if (x) static_cast<void>(0);",
                '  RETURN_IF_ERROR(Note(cudaSuccess, "wait"));',
                '  return health_.Note(cudaSuccess, "record");',
                "  ::absl::OkStatus().IgnoreError();"]):
            lines = mutant.text.splitlines()
            self.assertEqual(lines[mutant.line - 1], line)
            changed = [a for a, b in zip(lines, SOURCE.splitlines()) if a != b]
            self.assertEqual(changed[0], line)


class TargetsTest(unittest.TestCase):
    def test_every_statement_of_the_backend_has_tests(self):
        found = targets.statements_of_tree(ROOT)
        self.assertGreater(len(found), 50)
        for group, mutant in found:
            self.assertIsNotNone(group, f"{mutant.source}:{mutant.line}: {mutant.statement} has no "
                                        "test; give it one in mutation/targets.py")

    def test_no_group_is_for_nothing(self):
        used = {group.name for group, _ in targets.statements_of_tree(ROOT) if group}
        self.assertEqual(used, {group.name for group in targets.GROUPS})

    def test_reasons_are_for_statements_that_are_there(self):
        found = targets.statements_of_tree(ROOT)
        for group in targets.GROUPS:
            for key in group.redundant:
                self.assertTrue(any(g is group and group.reason_if_redundant(m) == group.redundant[key]
                                    for g, m in found), f"{group.name}: {key}")


if __name__ == "__main__":
    unittest.main()
