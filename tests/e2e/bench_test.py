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

    def test_a_synthetic_workload_finds_its_prompts_cached(self):
        server = self.start_server()
        results = self.bench(server, workload="sharegpt", rate=40, num_requests=40, scale=100,
                             max_input=200, tenants=2)
        self.check(server, 40, results)
        self.assertGreater(results["cached_device_tokens"], 0)

    def test_a_trace_is_replayed_with_its_lengths_and_shared_prefixes(self):
        trace = os.path.join(self.temp_dir(), "trace.jsonl")
        with open(trace, "w", encoding="utf-8") as file:
            for i in range(20):
                # Two conversations that share nothing with each other; each grows by a block.
                ids = [i % 2 * 1000 + j for j in range(2 + i // 4)]
                file.write(json.dumps({"arrival_ms": 100 * i, "input_tokens": 32 * len(ids),
                                       "output_tokens": 1 + i % 3, "block_tokens": 32,
                                       "block_hashes": ids}) + "\n")
        server = self.start_server()
        results = self.bench(server, replay=trace, rate_scale=2)
        self.check(server, 20, results)
        self.assertEqual(results["prompt_tokens"], 32 * sum(2 + i // 4 for i in range(20)))
        self.assertEqual(results["output_tokens"], sum(1 + i % 3 for i in range(20)))
        self.assertGreater(results["cached_device_tokens"], results["prompt_tokens"] // 3)
        self.assertGreaterEqual(results["duration_s"], 0.95)


if __name__ == "__main__":
    harness.main()
