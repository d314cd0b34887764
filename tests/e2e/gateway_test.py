#!/usr/bin/env python3
"""A gateway's life against a real server, by a client that knows the protocol's numbers only."""

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import unittest
import zipfile

import harness
import raw_grpc

PROMPT = [400, 500, 600, 700, 410, 510, 610, 710]
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"}


def client_program():
    return os.path.join(os.path.dirname(harness.SLUICE), "tests", "e2e", "gateway", "gateway_client")


class GatewayTest(harness.TestCase):
    def run_client(self, server, *arguments):
        """Runs the client to its end; returns what it printed, by name."""
        done = subprocess.run([client_program(), f"--endpoint={server.endpoint}",
                               *map(str, arguments)], capture_output=True, text=True,
                              errors="replace", timeout=100 * harness.PATIENCE, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        pairs = [line.partition(" ") for line in done.stdout.splitlines()]
        return {name: value for name, _, value in pairs}

    def check_model(self, facts):
        with open(os.path.join(harness.DEMO_MODEL, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        with open(os.path.join(harness.DEMO_MODEL, "generation_config.json"),
                  encoding="utf-8") as file:
            generation = json.load(file)
        self.assertEqual(facts["model_path"], harness.DEMO_MODEL)
        self.assertEqual(facts["tokenizer_path"], harness.DEMO_MODEL)
        self.assertEqual(facts["is_generation"], "1")
        self.assertEqual(int(facts["vocab_size"]), config["vocab_size"])
        self.assertEqual(int(facts["max_context_length"]), config["max_position_embeddings"])
        self.assertEqual(facts["model_type"], config["model_type"])
        self.assertEqual(facts["architectures"], config["architectures"][0])
        self.assertEqual(int(facts["bos_token_id"]), config["bos_token_id"])
        self.assertEqual([int(i) for i in facts["eos_token_ids"].split()],
                         generation["eos_token_id"])
        defaults = json.loads(facts["default_sampling_params_json"])
        self.assertEqual(defaults, {name: generation[name] for name in ("temperature", "top_p")})

    def check_tokenizer(self, path, digest):
        with open(path, "rb") as file:
            self.assertEqual(hashlib.sha256(file.read()).hexdigest(), digest)
        with zipfile.ZipFile(path) as archive:
            self.assertIsNone(archive.testzip())
            self.assertEqual(set(archive.namelist()), TOKENIZER_FILES)
            for name in TOKENIZER_FILES:
                with open(os.path.join(harness.DEMO_MODEL, name), "rb") as file:
                    self.assertEqual(archive.read(name), file.read(), name)

    def test_life(self):
        server = self.start_server()
        ids = ",".join(map(str, PROMPT))
        done = server.client("generate", f"--prompt-ids={ids}", max_tokens=200, ignore_eos=True,
                             temperature=0, json=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = harness.last_json(done.stdout)["text"]
        stop = text[len(text) // 2:len(text) // 2 + 6]
        path = os.path.join(self.temp_dir(), "tokenizer.zip")
        facts = self.run_client(server, "life", f"--tokenizer={path}",
                                f"--prompt={ids}", f"--stop={stop}")
        self.check_model(facts)
        self.check_tokenizer(path, facts["sha256"])
        self.assert_quiet(server)
        self.assertEqual(server.stop(), 0)

    @unittest.skipUnless(shutil.which("curl"), "needs curl with HTTP/2")
    def test_every_generate_ends_with_a_load_report(self):
        server = self.start_server()
        tokenized = b"\x12\x02\x05\x06"  # field 2: ids 5, 6
        sampling = b"\x40\x03"  # field 8: 3 tokens
        vllm = b"\x12" + bytes([len(tokenized)]) + tokenized + b"\x22\x02" + sampling
        native = b"\x1a\x04\x0a\x02\x05\x06" + b"\x2a\x02\x08\x03"
        for method, message in (("vllm.grpc.engine.VllmEngine/Generate", vllm),
                                ("sluice.v1.Inference/Generate", native),
                                ("vllm.grpc.engine.VllmEngine/Generate", b"")):
            path = os.path.join(self.temp_dir(), "request")
            with open(path, "wb") as file:
                file.write(b"\0" + struct.pack(">I", len(message)) + message)
            done = subprocess.run(
                ["curl", "-sS", "--http2-prior-knowledge", "-D", "-", "-o", path + ".reply",
                 "-H", "content-type: application/grpc", "-H", "te: trailers",
                 "--data-binary", "@" + path, f"http://{server.endpoint}/{method}"],
                capture_output=True, text=True, check=True, timeout=30 * harness.PATIENCE)
            lines = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
            self.assertEqual(lines["grpc-status"], "0" if message else "3", done.stdout)
            report = lines["endpoint-load-metrics-bin"]
            report = base64.b64decode(report + "=" * (-len(report) % 4))
            self.assertIn(b"kv_cache_usage_perc", report)

    def test_kv_events_across_offload_eviction_and_restart(self):
        pools = ["--device-kv-blocks=16", "--host-kv-blocks=32", "--policy=slack"]
        server = self.start_server(*pools)
        facts = self.run_client(server, "events", "--device-blocks=16", "--host-blocks=32")
        self.assertEqual(server.stop(), 0)
        again = self.start_server(*pools)
        self.run_client(again, "restarted", f"--last={facts['last']}")
        self.assertEqual(again.stop(), 0)

    def test_events_may_be_off(self):
        for flag in ("--no-enable-prefix-caching", "--kv-events=off"):
            server = self.start_server(flag)
            done = subprocess.run([client_program(), f"--endpoint={server.endpoint}", "restarted",
                                   "--last=1"], capture_output=True, text=True, check=False,
                                  timeout=60 * harness.PATIENCE)
            self.assertIn("have 12, want 11", done.stderr)  # UNIMPLEMENTED instead of OUT_OF_RANGE
            self.assertEqual(server.stop(), 0)
        wrong = harness.run_sluice("serve", "--kv-events=perhaps")
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("--kv-events", wrong.stderr)

    def test_who_was_away_longer_than_events_are_kept_begins_anew_and_is_counted(self):
        server = self.start_server("--device-kv-blocks=16", "--host-kv-blocks=32", "--policy=slack",
                                   "--kv-events=8")
        for i in range(12):
            ids = ",".join(str(300 + i * 40 + j) for j in range(65))
            done = server.client("generate", f"--prompt-ids={ids}", max_tokens=1)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(server.metric("sluice_kv_events_total"), 8)
        reply = raw_grpc.call(server.port, "vllm.grpc.engine.VllmEngine/SubscribeKvEvents",
                              raw_grpc.field(1, 1))
        self.assertEqual(reply.code, 11)  # OUT_OF_RANGE
        self.assertEqual(server.metric("sluice_kv_event_gaps_total", reason="too_old"), 1)
        self.assertEqual(server.metric("sluice_kv_event_gaps_total", reason="fell_behind"), 0)
        harness.wait_until(lambda: server.metric("sluice_kv_event_subscribers") == 0, "no subscriber")

    def test_it_leaves_as_a_gateway_expects(self):
        server = self.start_server(model=harness.slow_model())
        with subprocess.Popen([client_program(), f"--endpoint={server.endpoint}", "leaving"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            self.assertEqual(client.stdout.readline(), "running 1\n")
            server.signal(signal.SIGTERM)
            _, errors = client.communicate(timeout=100 * harness.PATIENCE)
            self.assertEqual(client.returncode, 0, errors)
        self.assertEqual(server.wait(), 0)

    def test_the_gateways_port_is_no_http_server(self):
        server = self.start_server()
        for path in ("/health", "/v1/models", "/"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                said = connection.recv(1000)
            self.assertNotIn(b" 200", said)

    def test_the_clients_trace_is_in_the_log(self):
        server = self.start_server("--log-level=debug")
        trace = "0af7651916cd43dd8448eb211c80319c"
        reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([5], request_id="traced"),
                              [f"traceparent: 00-{trace}-b7ad6b7169203331-01"])
        self.assertEqual(reply.code, raw_grpc.OK, reply.message)
        harness.wait_until(lambda: '"traced" OK' in server.log() and f"trace {trace}" in server.log(),
                           "the end of the request in the log")


if __name__ == "__main__":
    harness.main()
