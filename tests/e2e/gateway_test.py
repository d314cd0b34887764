#!/usr/bin/env python3
"""A gateway's life against a real server, by a client that knows the protocol's numbers only."""

import base64
import hashlib
import json
import os
import shutil
import struct
import subprocess
import unittest
import zipfile

import harness

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

    def test_without_a_prefix_cache_there_are_no_events(self):
        server = self.start_server("--no-enable-prefix-caching")
        done = subprocess.run([client_program(), f"--endpoint={server.endpoint}", "restarted",
                               "--last=1"], capture_output=True, text=True, check=False,
                              timeout=60 * harness.PATIENCE)
        self.assertIn("have 12, want 11", done.stderr)  # UNIMPLEMENTED instead of OUT_OF_RANGE
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    harness.main()
