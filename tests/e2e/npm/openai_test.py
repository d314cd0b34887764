#!/usr/bin/env python3
"""Runs openai.mjs, with the npm package `openai`, against a real server, over HTTP and HTTPS."""

import os
import shutil
import subprocess

import packages

import certificates  # pylint: disable=wrong-import-order
import harness
import openai_client

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = packages.install("openai", "7.57.0")


class OpenAiNpmTest(harness.TestCase):
    def run_script(self, server, scheme, **environment):
        # Beside node_modules, where node looks for packages.
        script = shutil.copy(os.path.join(HERE, "openai.mjs"), os.path.dirname(MODULES))
        url = f"{scheme}://localhost:{openai_client.http_port(server)}/v1"
        done = subprocess.run(["node", script, url], capture_output=True, text=True, env=os.environ | environment,
                              timeout=120 * harness.PATIENCE, check=False)
        print(done.stdout, end="")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("ok abort", done.stdout)
        self.assert_quiet(server)

    def test_http(self):
        self.run_script(self.start_server("--http-port=auto"), "http")

    def test_https(self):
        if not certificates.available():
            self.skipTest("openssl is not installed")
        authority = certificates.Authority(self.temp_dir())
        certificate, key = authority.issue("server")
        server = self.start_server("--http-port=auto", f"--tls-cert={certificate}", f"--tls-key={key}")
        self.run_script(server, "https", NODE_EXTRA_CA_CERTS=authority.certificate)


if __name__ == "__main__":
    harness.main()
