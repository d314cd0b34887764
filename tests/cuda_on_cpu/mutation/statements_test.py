#!/usr/bin/env python3
"""What mutate.py finds in a source, and what is left without it."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from mutation import statements  # noqa: E402

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
        return list(statements.find("a.cc", SOURCE, calls))

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


if __name__ == "__main__":
    unittest.main()
