#!/usr/bin/env python3
"""`sluice demo`, what `make demo` runs: a table per request, totals that show moved bytes, an answer."""

import re
import unittest

import harness


class DemoTest(harness.TestCase):
    def test_it_shows_kv_moving_and_an_answer(self):
        done = harness.run_sluice("demo", "--model", harness.DEMO_MODEL, "--docs",
                                  harness.DEMO_PROMPTS, "--output-tokens=16", timeout=150)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for words in ("κ_ratio", "TTFT", "exposed", "overlapped", "plan", "emulated", "host -> device"):
            self.assertIn(words, done.stdout)
        for name in harness.demo_texts():
            self.assertGreaterEqual(done.stdout.count(name.removesuffix(".txt")), 2)
        self.assertIsNone(re.search(r"host -> device\W+0 B", done.stdout))
        self.assertIn("load", done.stdout)

    def test_a_wrong_folder_is_named(self):
        done = harness.run_sluice("demo", "--model", harness.DEMO_MODEL, "--docs=nowhere")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nowhere", done.stderr)


if __name__ == "__main__":
    harness.main()
