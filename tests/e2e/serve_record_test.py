#!/usr/bin/env python3
"""`sluice serve --record`: what is written, what is not, and that the simulator reads it."""

import gzip
import json
import os
import re
import unittest

import harness

PROMPT_IDS = list(range(300, 396))  # three blocks of 32


class RecordTest(harness.TestCase):
    def ask(self, server, ids, **values):
        done = server.client("generate", prompt_ids=",".join(map(str, ids)), ignore_eos=True,
                             temperature=0, json=True, **values)
        self.assertEqual(done.returncode, 0, done.stderr)

    def record(self, name):
        """Serves four requests; returns (path, text of the recording)."""
        path = os.path.join(self.temp_dir(), name)
        server = self.start_server("--block-size=32", "--record", path)
        self.ask(server, PROMPT_IDS, max_tokens=5)
        self.ask(server, PROMPT_IDS, max_tokens=7, tenant="secret-name", priority=3)
        self.ask(server, PROMPT_IDS[:64] + [500, 501], max_tokens=4)
        self.ask(server, PROMPT_IDS, max_tokens=3, cache_salt="mine")
        refused = server.client("generate", prompt_ids="123456789", max_tokens=5)
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertEqual(server.stop(), 0)
        self.assertTrue(any("recorded 4 requests" in line for line in server.lines), server.log())
        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as file:
            return path, file.read()

    def test_lengths_tenants_and_shared_blocks_are_written_and_tokens_are_not(self):
        _, text = self.record("trace.jsonl")
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertEqual([line["input_tokens"] for line in lines], [96, 96, 66, 96])
        self.assertEqual([line["output_tokens"] for line in lines], [5, 7, 4, 3])
        arrivals = [line["arrival_ms"] for line in lines]
        self.assertEqual(arrivals, sorted(arrivals))
        self.assertEqual(arrivals[0], 0)
        hashes = [next(v for v in line.values() if isinstance(v, list)) for line in lines]
        self.assertEqual(hashes[0], hashes[1])
        self.assertEqual(hashes[0][:2], hashes[2][:2])
        self.assertNotEqual(hashes[0][2], hashes[2][2])
        self.assertFalse(set(hashes[0]) & set(hashes[3]), "another salt shares nothing")
        self.assertNotIn("secret-name", text)
        # Times could be any number.
        numbers = {int(number) for line in lines
                   for number in re.findall(r"\d+", json.dumps(line | {"arrival_ms": 0}))}
        self.assertFalse(numbers & {*PROMPT_IDS, 500, 501})
        _, again = self.record("trace.jsonl")
        other = [next(v for v in json.loads(line).values() if isinstance(v, list))
                 for line in again.splitlines()]
        self.assertFalse(set(hashes[0]) & set(other[0]), "every recording has its own salt")

    def test_the_simulator_reads_it(self):
        path, _ = self.record("trace.jsonl.gz")
        out = os.path.join(self.temp_dir(), "out.json")
        done = harness.run_sluice("simulate", f"--trace={path}", "--policy=fcfs", "--block-size=32",
                                  "--device-kv-gib=1", f"--json={out}")
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(out, encoding="utf-8") as file:
            policy = json.load(file)["policies"]["fcfs"]
        self.assertEqual(policy["completed"], 4)
        self.assertEqual(policy["output_tokens"], 5 + 7 + 4 + 3)

    def test_a_file_that_cannot_be_written_is_named_before_anything_is_loaded(self):
        done = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0",
                                  "--metrics-port=0", "--record=/nonexistent/trace.jsonl")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/trace.jsonl", done.stderr)
        self.assertNotIn("packing weights", done.stderr)


if __name__ == "__main__":
    harness.main()
