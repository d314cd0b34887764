#!/usr/bin/env python3
"""Runs smoke.mjs, with the npm package `openai` in a temporary folder, against a real server."""

import os
import shutil
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import harness  # pylint: disable=wrong-import-position
import openai_client  # pylint: disable=wrong-import-position


class OpenAiNpmTest(harness.TestCase):
    def install(self):
        """A folder with the package and the script; skips the test if it cannot be had."""
        for program in ("node", "npm"):
            if not shutil.which(program):
                self.skipTest(f"{program} is not installed")
        folder = self.temp_dir()
        command = ["npm", "i", "--no-audit", "--no-fund", "--ignore-scripts", "--silent",
                   "--prefix", folder, "openai"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        except subprocess.TimeoutExpired:
            self.skipTest("the npm registry does not answer")
        if done.returncode != 0:
            self.skipTest(f"npm cannot install openai: {done.stderr.strip()[-300:]}")
        return shutil.copy(os.path.join(HERE, "smoke.mjs"), folder)

    def test_smoke(self):
        script = self.install()
        server = self.start_server("--http-port=auto")
        url = f"http://127.0.0.1:{openai_client.http_port(server)}/v1"
        done = subprocess.run(["node", script, url], capture_output=True, text=True,
                              timeout=120 * harness.PATIENCE, check=False)
        print(done.stdout, end="")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_quiet(server)


if __name__ == "__main__":
    harness.main()
