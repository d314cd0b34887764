#!/usr/bin/env python3
"""`sluice calibrate`: a profile that reads well, in time; nothing left behind when interrupted."""

import json
import os
import signal
import subprocess
import tempfile
import time

import harness


class CalibrateTest(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = os.path.join(self.folder.name, "hardware.json")

    def test_it_measures_this_machine_and_writes_a_profile(self):
        start = time.monotonic()
        done = harness.run_sluice("calibrate", "--quick", "--model", harness.DEMO_MODEL, "--out",
                                  self.out, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertLess(time.monotonic() - start, 30 * harness.PATIENCE)
        self.assertEqual(os.listdir(self.folder.name), ["hardware.json"])
        with open(self.out, encoding="utf-8") as file:
            profile = json.load(file)
        for section in ("compute", "attention", "memory_bandwidth", "link", "step", "disk"):
            self.assertIn(section, profile)
        self.assertIn("80 % of", profile["link"]["source"])
        for words in ("reading memory", "attention, prefill", "disk read", "Wrote " + self.out):
            self.assertIn(words, done.stdout)
        self.assertIn("calibrating", done.stderr)

    def test_an_interrupt_leaves_nothing_behind(self):
        process = subprocess.Popen([harness.SLUICE, "calibrate", "--out", self.out],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        while "products" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(output, "")
        self.assertEqual(os.listdir(self.folder.name), [])

    def test_no_gpu_is_pretended(self):
        done = harness.run_sluice("calibrate", "--backend=cuda", "--out", self.out)
        self.assertEqual(done.returncode, 1)
        self.assertIn("built without CUDA", done.stderr)
        self.assertFalse(os.path.exists(self.out))


if __name__ == "__main__":
    harness.main()
