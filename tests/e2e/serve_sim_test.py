#!/usr/bin/env python3
"""`sluice serve --backend=sim`: a server for a machine nobody has."""

import json
import os
import unittest

import harness

SIM = ("--backend=sim", "--hardware=h100-pcie5", "--model-profile=llama-3.1-8b",
       "--device-kv-gib=4", "--host-kv-gib=16")


class SimServerTest(harness.TestCase):
    def start_sim(self, *arguments):
        return self.start_server(*SIM, *arguments, model=None)

    def test_a_bench_runs_and_metrics_say_that_it_is_simulated(self):
        server = self.start_sim()
        out = os.path.join(self.temp_dir(), "bench.json")
        done = server.client("bench", f"--json={out}", num_requests=20, concurrency=4,
                             prompt_tokens=512, output_tokens=8)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(out, encoding="utf-8") as file:
            self.assertIn("sim", json.dumps(json.load(file)))
        self.assertEqual(server.metric("sluice_generated_tokens_total"), 160)
        self.assertIn('backend="sim"', server.metrics_text())
        self.assertTrue(any("simulated" in line for line in server.lines), server.log())
        self.assertEqual(server.stop(), 0)

    def test_answers_go_on_to_max_tokens_and_take_the_time_of_the_machine(self):
        server = self.start_sim("--hardware=h100-pcie5")
        ids = ",".join(str(i) for i in range(1000))
        done = server.client("generate", prompt_ids=ids, max_tokens=20, json=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        record = harness.last_json(done.stdout)
        self.assertEqual(len(record["output_ids"]), 20)
        self.assertEqual(record["finish_reason"], "length")
        # 16 GB of weights at 3.35 TB/s: no token in less than 4 ms.
        self.assertGreater(record["timing"]["total_s"], 20 * 0.004)

    def test_text_is_refused_for_want_of_a_tokenizer(self):
        server = self.start_sim()
        done = server.client("generate", prompt="some text", max_tokens=1)
        self.assertEqual(done.returncode, 1)
        self.assertIn("token ids", done.stderr)

    def test_unknown_profiles_are_named(self):
        done = harness.run_sluice("serve", "--backend=sim", "--hardware=h1000", "--port=0",
                                  "--metrics-port=0")
        self.assertEqual(done.returncode, 1)
        self.assertIn("h1000", done.stderr)


if __name__ == "__main__":
    harness.main()
