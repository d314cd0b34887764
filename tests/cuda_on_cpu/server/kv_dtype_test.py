#!/usr/bin/env python3
"""A whole server on the emulated GPU with 8-bit KV on the device (--kv-cache-dtype): what it holds and
says, and that moving such KV to the host and back, or reading it there, changes no token. And with
weights in fp8 (--quantization).

Run by hand: python3 tests/cuda_on_cpu/server/kv_dtype_test.py --sluice .../sluice_cuda_emulated
    --make-checkpoint .../make_random_checkpoint
"""

import subprocess

import emulated_server
from emulated_server import LARGE, SLOW_LINK, SMALL, harness

# Layers, K and V, tokens, heads, and 64 codes with a scale.
BLOCK_BYTES = 2 * 2 * 16 * 1 * (64 + 2)


class KvDTypeTest(emulated_server.EmulatedServerTestCase):
    def test_offloading_changes_no_token(self):
        moved = "sluice_kv_transfer_bytes_total"
        for dtype in ("fp8", "int8"):
            type_flag = f"--kv-cache-dtype={dtype}"
            with self.subTest(dtype):
                expected, resident, _ = self.answers(type_flag, *LARGE)
                self.assertEqual(resident.value(moved), 0)
                loaded, metrics, _ = self.answers(type_flag, *SMALL, "--policy=fcfs")
                for ends in ({"src": "device", "dst": "host"}, {"src": "host", "dst": "device"}):
                    count = metrics.value(moved, **ends)
                    self.assertGreater(count, 0)
                    self.assertEqual(count % BLOCK_BYTES, 0)
                self.assertEqual(loaded, expected)
                attended, _, in_place = self.answers(type_flag, *SMALL,
                                                     f"--calibration={SLOW_LINK}")
                self.assertGreater(in_place, 0)
                self.assertEqual(attended, expected)

    def test_it_says_what_kv_is(self):
        server = self.start_server("--kv-cache-dtype=fp8", *SMALL)
        metrics = server.metrics()
        for tier, blocks in (("device", 14), ("host", 60)):
            self.assertEqual(metrics.value("sluice_kv_tier_capacity_bytes", tier=tier),
                             blocks * BLOCK_BYTES)
        self.assertTrue('dtype="bf16, fp8 KV"' in server.metrics_text())
        self.assertIn("host KV is fp8-kt128-vt128-v1, as on the device", server.log())
        self.assertEqual(server.stop(), 0)

    def test_weights_in_fp8(self):
        prompt = "It was a dark night, and the"
        answers = []
        for quantization in ("none", "fp8"):
            server = self.start_server(f"--quantization={quantization}", *LARGE,
                                       model=harness.DEMO_MODEL)
            answers.append(server.generate(prompt, max_tokens=1, ignore_eos=True, logprobs=1))
            text = server.metrics_text()
            self.assertEqual(quantization == "fp8", 'dtype="bf16, fp8 weights"' in text)
            self.assertEqual(server.stop(), 0)
        likeliest = [answer["logprobs"][0]["top"][0] for answer in answers]
        self.assertEqual(likeliest[0]["token_id"], likeliest[1]["token_id"])
        self.assertNotEqual(likeliest[0]["logprob"], likeliest[1]["logprob"])
        self.assertAlmostEqual(likeliest[0]["logprob"], likeliest[1]["logprob"], delta=0.2)

    def test_one_line_says_what_is_wrong(self):
        for arguments, message in (
                (("--backend=cpu", "--kv-cache-dtype=fp8"),
                 "--kv-cache-dtype: a CPU attends to KV in the type of --dtype only"),
                (("--backend=cuda", "--kv-cache-dtype=fp8", "--kv-host-codec=int8"),
                 "--kv-host-codec: int8 behind a device pool of fp8 would round twice"),
                (("--backend=cpu", "--quantization=fp8"),
                 "--quantization: fp8: not with --backend=cpu"),
                (("--backend=cuda", "--kv-cache-dtype=fp4"), "--kv-cache-dtype")):
            with self.subTest(arguments):
                done = subprocess.run(
                    [harness.SLUICE, "serve", "--model", self.model, "--port=0",
                     "--log-level=error", *arguments], capture_output=True, text=True, check=False,
                    timeout=60 * harness.PATIENCE)
                self.assertIn(done.returncode, (1, 2))
                self.assertIn(message, done.stderr)


if __name__ == "__main__":
    harness.main()
