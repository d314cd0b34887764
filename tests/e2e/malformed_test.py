#!/usr/bin/env python3
"""A thousand malformed requests of every kind get the right status code; the server still answers, and
holds nothing for any of them."""

import subprocess
import unittest

import harness


class MalformedTest(harness.TestCase):
    def attack(self, server, seed, count):
        done = subprocess.run(
            [harness.MALFORMED_CLIENT, f"--endpoint={server.endpoint}", f"--seed={seed}",
             f"--count={count}"], capture_output=True, text=True, errors="replace",
            timeout=100 * harness.PATIENCE, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_kind_gets_its_status_code(self):
        server = self.start_server()
        expected = server.generate("In the beginning", max_tokens=8, ignore_eos=True)
        self.attack(server, seed=1, count=1000)
        self.assert_quiet(server)
        actual = server.generate("In the beginning", max_tokens=8, ignore_eos=True)
        self.assertEqual(actual["output_ids"], expected["output_ids"])
        self.assertEqual(server.stop(), 0)

    def test_others_do_not_notice(self):
        server = self.start_server()
        client = server.start_client("generate", prompt="In the beginning", max_tokens=1500,
                                     ignore_eos=True, temperature=0, json=True)
        self.attack(server, seed=2, count=300)
        out, err = client.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(client.returncode, 0, err)
        self.assertEqual(len(harness.last_json(out)["output_ids"]), 1500)


if __name__ == "__main__":
    harness.main()
