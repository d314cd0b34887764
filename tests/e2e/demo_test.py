#!/usr/bin/env python3
"""`sluice demo`, what `make demo` runs: a table per request, totals that show moved bytes, an answer."""

import re
import shutil
import signal
import subprocess
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
        self.assertIn("/v1/chat/completions", done.stdout)

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_the_line_for_curl_works_as_it_is(self):
        with subprocess.Popen(
                [harness.SLUICE, "demo", "--model", harness.DEMO_MODEL, "--docs", harness.DEMO_PROMPTS,
                 "--output-tokens=1", "--keep-serving"], stdout=subprocess.PIPE, text=True) as demo:
            lines = []
            try:
                for line in demo.stdout:
                    lines.append(line)
                    if "Ctrl-C" in line:
                        break
                said = "".join(lines)
                if "API is off" in said:
                    self.skipTest("port 8000 is in use")
                curl = next(line for line in lines if line.startswith("  curl "))
                done = subprocess.run(["sh", "-c", curl.replace("curl ", "curl -sS ", 1)], capture_output=True,
                                      text=True, timeout=60 * harness.PATIENCE, check=False)
                self.assertEqual(done.returncode, 0, said + done.stderr)
                self.assertTrue(done.stdout.startswith("data: {"), done.stdout)
                self.assertTrue(done.stdout.endswith("data: [DONE]\n\n"), done.stdout)
            finally:
                demo.send_signal(signal.SIGINT)
                demo.stdout.read()
            self.assertEqual(demo.wait(30 * harness.PATIENCE), 0)

    def test_a_wrong_folder_is_named(self):
        done = harness.run_sluice("demo", "--model", harness.DEMO_MODEL, "--docs=nowhere")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nowhere", done.stderr)


if __name__ == "__main__":
    harness.main()
