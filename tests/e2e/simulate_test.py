#!/usr/bin/env python3
"""`sluice simulate` on small workloads: what it writes, that it repeats, and what it refuses."""

import gzip
import json
import os
import unittest

import harness

SMALL = ("--model=llama-3.1-8b", "--hardware=h100-pcie5", "--device-kv-gib=8", "--host-kv-gib=64")


class SimulateTest(harness.TestCase):
    def simulate(self, *arguments):
        """Runs a simulation that must succeed; returns (results, bytes of the JSON, stdout)."""
        path = os.path.join(self.temp_dir(), "out.json")
        done = harness.run_sluice("simulate", *arguments, f"--json={path}", timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(path, "rb") as file:
            data = file.read()
        return json.loads(data), data, done.stdout

    def write_trace(self, requests):
        path = os.path.join(self.temp_dir(), "trace.jsonl.gz")
        with gzip.open(path, "wt", encoding="utf-8") as file:
            for request in requests:
                file.write(json.dumps(request) + "\n")
        return path

    def check_policy(self, policy, requests):
        self.assertEqual(policy["requests"], requests)
        self.assertEqual(policy["completed"], requests)
        self.assertEqual(policy["rejected"], 0)
        for name in ("ttft_s", "slowdown", "itl_s"):
            figures = policy[name]
            self.assertLessEqual(figures["p50"], figures["p90"])
            self.assertLessEqual(figures["p90"], figures["p99"])
            self.assertLessEqual(figures["p99"], figures["max"])
        self.assertGreater(policy["ttft_s"]["mean"], 0)
        self.assertGreaterEqual(policy["slowdown"]["mean"], 1)
        self.assertLessEqual(policy["bound_s"], policy["makespan_s"])
        self.assertLessEqual(policy["device_busy_s"], policy["makespan_s"] * 1.000001)
        self.assertEqual(policy["beyond_wait_bound"], 0)
        self.assertGreater(policy["energy_j"], 0)
        admitted = sum(count for reason, count in policy["decisions"].items()
                       if reason.startswith("admit_") and reason != "admit_overdue")
        self.assertGreaterEqual(admitted, requests)

    def test_policies_are_compared_on_a_workload(self):
        report = os.path.join(self.temp_dir(), "out.html")
        results, _, table = self.simulate(
            "--workload=kappa-mix", "--requests=120", "--max-input=32768", "--rate=4", "--tenants=2",
            *SMALL, "--policy=slack,fcfs,offload-off,all-resident", f"--report={report}")
        self.assertEqual(list(results["policies"]),
                         ["slack", "fcfs", "offload-off", "all-resident"])
        for name, policy in results["policies"].items():
            self.check_policy(policy, 120)
            self.assertIn(name, table)
        self.assertEqual(results["policies"]["offload-off"]["cached_tokens"]["host"], 0)
        self.assertEqual(results["policies"]["offload-off"]["link_busy_s"], 0)
        with open(report, encoding="utf-8") as file:
            page = file.read()
        self.assertIn("<svg", page)
        self.assertIn("all-resident", page)

    def test_the_same_seed_gives_the_same_bytes(self):
        arguments = ("--workload=sharegpt", "--requests=150", "--rate=20", "--noise=0.1",
                     "--copy-failure-rate=0.05", "--policy=slack,fcfs", *SMALL)
        _, first, _ = self.simulate(*arguments, "--seed=5")
        _, again, _ = self.simulate(*arguments, "--seed=5")
        _, other, _ = self.simulate(*arguments, "--seed=6")
        # The command names the file the JSON goes to.
        def without_command(data):
            return [line for line in data.split(b"\n") if b'"command"' not in line]
        self.assertEqual(without_command(first), without_command(again))
        self.assertNotEqual(without_command(first), without_command(other))

    def test_a_trace_with_sessions(self):
        trace = self.write_trace([
            {"arrival_ms": 1000 * i, "input_tokens": 640 + 640 * (i // 4), "output_tokens": 20 + i,
             "session": f"s{i % 4}", "turn": i // 4, "block_tokens": 64,
             "shared_prefix_tokens": 640 * (i // 4), "ref": i - 4 if i >= 4 else None}
            for i in range(24)])
        results, _, _ = self.simulate(f"--trace={trace}", "--policy=fcfs", *SMALL)
        policy = results["policies"]["fcfs"]
        self.check_policy(policy, 24)
        total = sum(640 + 640 * (i // 4) for i in range(24))
        cached = sum(policy["cached_tokens"].values())
        self.assertEqual(cached + policy["computed_tokens"], total)
        # What was asked before is found again, but for the last block of each prompt at most.
        self.assertGreater(cached, sum(640 * (i // 4) for i in range(24)) - 24 * 64)
        self.assertEqual(policy["output_tokens"], sum(20 + i for i in range(24)))

    def test_a_utilization_sets_the_rate(self):
        busy = {}
        for utilization in (0.4, 1.3):
            results, _, _ = self.simulate("--workload=kappa-mix", "--requests=200", *SMALL,
                                          f"--utilization={utilization}", "--policy=fcfs")
            busy[utilization] = results
        self.assertAlmostEqual(busy[1.3]["rate_scale"] / busy[0.4]["rate_scale"], 1.3 / 0.4, 6)
        ttft = {u: r["policies"]["fcfs"]["ttft_s"]["mean"] for u, r in busy.items()}
        self.assertGreater(ttft[1.3], 2 * ttft[0.4])

    def test_json_on_stdout_is_all_there_is(self):
        done = harness.run_sluice("simulate", "--workload=uniform", "--requests=5", *SMALL,
                                  "--json=-")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["policies"]["slack"]["completed"], 5)

    def check_refused(self, message, *arguments):
        done = harness.run_sluice("simulate", *arguments)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_what_cannot_be_done_is_refused(self):
        self.check_refused("--trace or --workload")
        self.check_refused('"fifo" is unknown', "--workload=uniform", "--policy=fifo")
        self.check_refused("/nonexistent/trace.jsonl", "--trace=/nonexistent/trace.jsonl")
        self.check_refused("arrive at once", "--workload=uniform", "--requests=1",
                           "--utilization=0.9")
        self.check_refused("h100", "--workload=uniform", "--hardware=h1000")
        bad = self.write_trace([{"arrival_ms": 0, "input_tokens": -3, "output_tokens": 1}])
        self.check_refused("input_tokens", f"--trace={bad}")


if __name__ == "__main__":
    harness.main()
