#!/usr/bin/env python3
"""`sluice bench` at 64 concurrent streams on the demo model, with KV moving. Meant for sanitizer builds
as well."""

import json
import os
import unittest

import harness


class BenchTest(harness.TestCase):
    def bench(self, server, **values):
        """The results of `sluice bench`; every request must have succeeded."""
        path = os.path.join(self.temp_dir(), "bench.json")
        done = server.client("bench", timeout=240, json=path, **values)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(path, encoding="utf-8") as file:
            return json.load(file)["results"]

    def check(self, server, requests, results):
        self.assert_quiet(server)
        metrics = server.metrics()
        self.assertEqual(metrics.value("sluice_requests_total", outcome="length"), requests)
        self.assertEqual(metrics.value("sluice_requests_total", outcome="error"), 0)
        self.assertTrue(results)
        self.assertEqual(server.stop(), 0)

    def test_64_streams_share_a_pool_that_is_too_small(self):
        server = self.start_server("--device-kv-blocks=160", "--host-kv-blocks=400")
        results = self.bench(server, concurrency=64, num_requests=128, prompt_tokens=160,
                             shared_prefix_tokens=128, num_prefixes=12, output_tokens=24)
        moved = server.metric("sluice_kv_transfer_bytes_total")
        self.check(server, 128, results)
        self.assertGreater(moved, 0)

    def test_64_streams_at_once(self):
        server = self.start_server("--max-num-seqs=64")
        results = self.bench(server, concurrency=64, num_requests=128, prompt_tokens=64,
                             output_tokens=32)
        self.check(server, 128, results)

    def test_open_loop(self):
        server = self.start_server()
        results = self.bench(server, rate=40, num_requests=40, prompt_tokens=32, output_tokens=8)
        self.check(server, 40, results)


if __name__ == "__main__":
    harness.main()
