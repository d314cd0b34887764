#!/usr/bin/env python3
"""`buf curl`, which knows nothing of our .proto files, talks to a real server by reflection."""

import json
import os
import platform
import subprocess

import packages

import harness  # pylint: disable=wrong-import-order

MODULES = packages.install("@bufbuild/buf", "1.75.0")
ARCHITECTURE = {"x86_64": "x64", "aarch64": "aarch64"}.get(platform.machine(), platform.machine())
BUF = os.path.join(MODULES, "@bufbuild", f"buf-linux-{ARCHITECTURE}", "bin", "buf")
ENGINE = "vllm.grpc.engine.VllmEngine"
if not os.path.exists(BUF):
    packages.skip(f"@bufbuild/buf has no program for {platform.machine()}")


class BufCurlTest(harness.TestCase):
    def curl(self, server, *arguments):
        folder = self.temp_dir()
        done = subprocess.run(
            [BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", *arguments[:-1],
             f"http://{server.endpoint}{arguments[-1]}"], capture_output=True, text=True, check=False, cwd=folder,
            env=os.environ | {"HOME": folder, "BUF_CACHE_DIR": folder}, timeout=60 * harness.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def ask(self, server, method, message="{}"):
        """Replies, as JSON objects."""
        text = self.curl(server, "--reflect", "-d", message, f"/{method}")
        replies, decoder, text = [], json.JSONDecoder(), text.strip()
        while text:
            reply, end = decoder.raw_decode(text)
            replies.append(reply)
            text = text[end:].lstrip()
        return replies

    def test_reflection_shows_every_method(self):
        listed = self.curl(self.start_server(), "--reflect", "--list-methods", "").split()
        methods = {name.rpartition("/")[2] for name in listed if name.startswith(ENGINE)}
        self.assertEqual(methods, {"Generate", "Embed", "HealthCheck", "Abort", "GetModelInfo", "GetServerInfo",
                                   "GetLoads", "GetTokenizer", "SubscribeKvEvents"})
        for name in ("sluice.v1.Inference/Generate", "sluice.v1.Control/GetLoad", "grpc.health.v1.Health/Check",
                     "xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"):
            self.assertIn(name, listed)

    def test_a_generation_and_what_gateways_ask(self):
        server = self.start_server()
        model, = self.ask(server, f"{ENGINE}/GetModelInfo")
        self.assertEqual(model["servedModelName"], "model")
        loads, = self.ask(server, f"{ENGINE}/GetLoads")
        self.assertEqual(len(loads["loads"]), 1)
        request = {"requestId": "buf", "tokenized": {"inputIds": [300, 301, 302]}, "stream": True,
                   "samplingParams": {"temperature": 0, "maxTokens": 5, "ignoreEos": True}}
        *chunks, end = self.ask(server, f"{ENGINE}/Generate", json.dumps(request))
        ids = [i for chunk in chunks for i in chunk["chunk"]["tokenIds"]]
        self.assertEqual(end["complete"]["outputIds"], ids)
        self.assertEqual(len(ids), 5)
        self.assertEqual(self.ask(server, "grpc.health.v1.Health/Check"), [{"status": "SERVING"}])
        zipped = self.ask(server, f"{ENGINE}/GetTokenizer")
        self.assertEqual(len(zipped[-1]["sha256"]), 64)


if __name__ == "__main__":
    harness.main()
