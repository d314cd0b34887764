#!/usr/bin/env python3
"""Traces of a running server, and of a whole run: valid, complete, and every lane nests."""

import collections
import json
import os
import subprocess
import time
import unittest

import harness

DEVICE, LINKS, REQUESTS = 1, 2, 3
SERVER = ("--device-kv-blocks=64", "--host-kv-blocks=256", "--link-gbps=0.05", "--policy=fcfs")
PHASES = ["queue", "load", "prefill", "decode"]
ROUNDING = 0.0011  # microseconds: times are written with three digits


def spans(trace, process=None):
    return [event for event in trace["traceEvents"]
            if event["ph"] == "X" and process in (None, event["pid"])]


def lane_names(trace, process):
    return {event["tid"]: event["args"]["name"] for event in trace["traceEvents"]
            if event["ph"] == "M" and event["name"] == "thread_name" and event["pid"] == process}


class TraceTest(harness.TestCase):
    def busy(self, server, rounds=2):
        texts = [text[:1300] for text in harness.demo_texts().values()][:5]
        for _ in range(rounds):
            self.records = server.generate_all(texts, concurrency=3, max_tokens=16, ignore_eos=True)
        self.assert_quiet(server)

    def trace(self, server, *arguments):
        path = os.path.join(self.temp_dir(), "trace.json")
        done = harness.run_sluice("trace", f"--target={server.endpoint}", f"--output={path}", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("ui.perfetto.dev", done.stderr)
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def assert_well_formed(self, trace):
        processes = {event["args"]["name"].split(":")[0]: event["pid"] for event in trace["traceEvents"]
                     if event["name"] == "process_name"}
        self.assertEqual(processes, {"device": DEVICE, "links": LINKS, "requests": REQUESTS})
        lanes = collections.defaultdict(list)
        for event in spans(trace):
            self.assertLessEqual({"name", "cat", "pid", "tid", "ts", "dur", "args"}, event.keys())
            self.assertGreaterEqual(event["dur"], 0)
            self.assertIn(event["tid"], lane_names(trace, event["pid"]), "a lane without a name")
            lanes[event["pid"], event["tid"]].append(event)
        for lane in lanes.values():
            self.assert_nests(lane)

    def assert_nests(self, lane):
        """Any two spans of a lane are apart, or one contains the other."""
        open_ends = []
        for event in sorted(lane, key=lambda event: (event["ts"], -event["dur"])):
            start, end = event["ts"], event["ts"] + event["dur"]
            while open_ends and open_ends[-1] <= start + ROUNDING:
                open_ends.pop()
            self.assertTrue(not open_ends or end <= open_ends[-1] + ROUNDING, event)
            open_ends.append(end)

    def test_the_last_seconds_of_a_server(self):
        server = self.start_server(*SERVER)
        self.busy(server)
        trace = self.trace(server, "--seconds=0")
        self.assert_well_formed(trace)
        requests = [event for event in spans(trace, REQUESTS) if event["cat"] == "request"]
        self.assertEqual(len(requests), 10)
        for request in requests:
            args = request["args"]
            self.assertEqual(args["reason"], "length")
            self.assertEqual(args["output_tokens"], 16)
            self.assertIn(args["plan"], ("resident", "load", "split", "in_place", "recompute"))
            cached = sum(args[f"cached_{tier}_tokens"] for tier in ("device", "host", "disk", "remote"))
            self.assertEqual(cached + args["computed_tokens"], args["prompt_tokens"])
        self.assertIn("load", {request["args"]["plan"] for request in requests})
        self.assertTrue(any(request["args"]["kappa"] > 0 for request in requests))

    def test_phases_of_a_request_follow_each_other_without_a_gap(self):
        server = self.start_server(*SERVER)
        self.busy(server)
        trace = self.trace(server, "--seconds=0")
        by_request = collections.defaultdict(list)
        for event in spans(trace, REQUESTS):
            by_request[event["tid"]].append(event)
        for events in by_request.values():
            whole = [event for event in events if event["cat"] == "request"]
            phases = sorted((event for event in events if event["cat"] == "phase"), key=lambda event: event["ts"])
            order = [PHASES.index(event["name"]) for event in phases]
            self.assertEqual(order, sorted(set(order)))
            self.assertEqual(len(whole), 1)
            at = whole[0]["ts"]
            for phase in phases:
                self.assertAlmostEqual(phase["ts"], at, delta=ROUNDING)
                at = phase["ts"] + phase["dur"]
            self.assertAlmostEqual(at, whole[0]["ts"] + whole[0]["dur"], delta=ROUNDING)

    def test_lanes_add_up_to_the_metrics(self):
        server = self.start_server(*SERVER)
        self.busy(server)
        trace = self.trace(server, "--seconds=0")
        metrics = server.metrics()
        steps = spans(trace, DEVICE)
        self.assertEqual(len(steps), metrics.value("sluice_steps_total"))
        self.assertEqual(sum(step["args"]["prefill_tokens"] + step["args"]["decode_tokens"] for step in steps),
                         metrics.value("sluice_step_tokens_total"))
        names = lane_names(trace, LINKS)
        for source, target in (("host", "device"), ("device", "host")):
            moved = sum(event["args"]["bytes"] for event in spans(trace, LINKS)
                        if names[event["tid"]].startswith(f"{source} to {target}: ")
                        and event["args"]["result"] == "OK")
            self.assertEqual(moved, metrics.value("sluice_kv_transfer_bytes_total", src=source, dst=target))
        self.assertIn("host to device: demand", names.values())
        self.assertIn("device to host: write-back", names.values())

    def test_only_the_seconds_that_were_asked_for(self):
        server = self.start_server(*SERVER)
        self.busy(server, rounds=1)
        time.sleep(1.5)
        server.generate("Once", max_tokens=4, ignore_eos=True)
        trace = self.trace(server, "--seconds=1")
        requests = [event for event in spans(trace, REQUESTS) if event["cat"] == "request"]
        self.assertEqual(len(requests), 1)

    def test_a_request_under_way_is_shown_open(self):
        server = self.start_server("--max-model-len=16384", model=harness.slow_model())
        client = server.start_client("generate", prompt="x", max_tokens=12000, ignore_eos=True)
        harness.wait_until(lambda: server.metric("sluice_generated_tokens_total") > 10, "some tokens")
        trace = self.trace(server)
        client.kill()
        client.communicate()
        self.assert_well_formed(trace)
        self.assertEqual([event["args"].get("open") for event in spans(trace, REQUESTS)
                          if event["name"] in ("decode", "request 1")], [True, True])

    def test_a_whole_run_in_a_file(self):
        path = os.path.join(self.temp_dir(), "run.json")
        server = self.start_server(*SERVER, f"--trace-file={path}")
        self.busy(server)
        total = server.metric("sluice_steps_total")
        self.assertEqual(server.stop(), 0)
        with open(path, encoding="utf-8") as file:
            trace = json.load(file)
        self.assert_well_formed(trace)
        self.assertGreaterEqual(len(spans(trace, DEVICE)), total)
        self.assertEqual(len([event for event in spans(trace, REQUESTS) if event["cat"] == "request"]), 10)
        self.assertIn("traced", server.log())

    def test_errors_say_what_to_do(self):
        server = self.start_server("--trace-events=0")
        done = harness.run_sluice("trace", f"--target={server.endpoint}", "--output=-")
        self.assertEqual(done.returncode, 1)
        self.assertIn("--trace-events above 0", done.stderr)
        self.assertEqual(done.stdout, "")
        for arguments, words in ((["--trace-file=x", "--trace-events=0"], "needs --trace-events above 0"),
                                 (["--trace-file=/nowhere/x.json", "--port=0", "--metrics-port=0"],
                                  "cannot write the trace to /nowhere/x.json")):
            refused = subprocess.run([harness.SLUICE, "serve", "--model", harness.DEMO_MODEL, *arguments],
                                     capture_output=True, text=True, timeout=60, check=False)
            self.assertIn(words, refused.stderr)
            self.assertNotEqual(refused.returncode, 0)


if __name__ == "__main__":
    harness.main()
