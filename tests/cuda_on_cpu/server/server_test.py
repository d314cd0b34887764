#!/usr/bin/env python3
"""A whole server on the emulated GPU: requests, offloading, preemption, quantized tiers, attention in
place, cancelled clients, a device that is lost.

Run by hand: python3 tests/cuda_on_cpu/server/server_test.py --sluice .../sluice_cuda_emulated
    --make-checkpoint .../make_random_checkpoint
"""

import os
import signal
import subprocess

import emulated_server
from emulated_server import LARGE, SLOW_LINK, SMALL, harness, prompts


class EmulatedServerTest(emulated_server.EmulatedServerTestCase):
    def assert_bytes_moved(self, metrics):
        moved = "sluice_kv_transfer_bytes_total"
        self.assertGreater(metrics.value(moved, src="device", dst="host"), 0)
        self.assertGreater(metrics.value(moved, src="host", dst="device"), 0)

    def test_offloading_changes_no_token(self):
        expected, resident, _ = self.answers(*LARGE)
        self.assertEqual(resident.value("sluice_kv_transfer_bytes_total"), 0)
        loaded, metrics, _ = self.answers(*SMALL, "--policy=fcfs")
        self.assert_bytes_moved(metrics)
        attended, _, in_place = self.answers(*SMALL, f"--calibration={SLOW_LINK}")
        self.assertGreater(in_place, 0)
        self.assertEqual(loaded, expected)
        self.assertEqual(attended, expected)

    def test_no_batch_or_chunk_changes_a_token(self):
        expected, _, _ = self.answers(*LARGE, "--max-num-seqs=1", "--no-enable-prefix-caching")
        batched, _, _ = self.answers(*LARGE)
        self.assertEqual(batched, expected)
        chunked, _, _ = self.answers(*LARGE, "--max-num-batched-tokens=23")
        self.assertEqual(chunked, expected)

    def test_demo_model_says_the_same_as_on_the_cpu(self):
        prompt = "It was a dark night, and the"
        answers = []
        for backend in ("cuda", "cpu"):
            server = self.start_server(f"--backend={backend}", *LARGE, model=harness.DEMO_MODEL)
            answers.append(server.generate(prompt, max_tokens=6, ignore_eos=True)["output_ids"])
            self.assertEqual(server.stop(), 0)
        self.assertEqual(answers[0], answers[1])

    def test_quantized_host_pool(self):
        for codec in ("fp8", "int8"):
            _, metrics, _ = self.answers(*SMALL, "--policy=fcfs", f"--kv-host-codec={codec}")
            self.assert_bytes_moved(metrics)

    def test_preempted_request_gives_the_same_answer(self):
        prompt, other = prompts()[:2]
        long = {"max_tokens": 60, "ignore_eos": True}
        relaxed = self.start_server(*LARGE)
        expected = relaxed.generate(prompt, **long)

        server = self.start_server("--device-kv-blocks=10", "--host-kv-blocks=60")
        low = server.start_client("generate", prompt=prompt, temperature=0, json=True, **long)
        harness.wait_until(lambda: server.metric("sluice_generated_tokens_total") > 3, "tokens")
        urgent = server.generate(other, priority=10, **long)
        self.assertEqual(len(urgent["output_ids"]), long["max_tokens"])
        out, err = low.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(low.returncode, 0, err)
        record = harness.last_json(out)
        self.assertGreater(record["timing"]["preemptions"], 0)
        self.assertEqual(record["output_ids"], expected["output_ids"])
        self.assert_quiet(server)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(relaxed.stop(), 0)

    def test_vanished_client(self):
        server = self.start_server(*LARGE)
        client = server.start_client("generate", prompt=prompts()[0], max_tokens=300,
                                     ignore_eos=True)
        harness.wait_until(lambda: server.metric("sluice_generated_tokens_total") > 2, "tokens")
        client.send_signal(signal.SIGKILL)
        client.communicate()
        self.assert_quiet(server)
        self.assertEqual(len(server.generate("again", max_tokens=2, ignore_eos=True)["output_ids"]),
                         2)
        self.assertEqual(server.stop(), 0)

    def test_sampling_is_reproducible(self):
        server = self.start_server(*LARGE)
        values = {"max_tokens": 12, "ignore_eos": True, "temperature": 1.3, "seed": 7}
        first = server.generate(prompts()[0], **values)["output_ids"]
        again = server.generate_all([prompts()[0]] * 3, concurrency=3, **values)
        self.assertEqual([first] * 3, [record["output_ids"] for record in again])
        self.assertEqual(server.stop(), 0)

    def test_lost_device_ends_the_server_with_a_clear_line(self):
        os.environ["SLUICE_EMULATED_FAILURE"] = "400"
        try:
            server = self.start_server(*LARGE)
        finally:
            del os.environ["SLUICE_EMULATED_FAILURE"]
        done = server.client("generate", prompt=prompts()[0], max_tokens=300, ignore_eos=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("cudaErrorIllegalAddress", done.stderr)
        self.assertEqual(server.wait(), 1)
        self.assertIn("sluice: device lost", server.log())
        server.process.returncode = 0  # not a crash

    def test_one_line_says_what_is_wrong(self):
        for arguments, message in (
                (("--device=5",), "5"),
                (("--dtype=f32",), "computes in bf16"),
                (("--link-gbps=1",), "--link-gbps"),
                (("--device-kv-gib=4GiB",), "the device KV pool")):
            with self.subTest(arguments):
                done = subprocess.run(
                    [harness.SLUICE, "serve", "--backend=cuda", "--model", self.model, "--port=0",
                     "--log-level=error", *arguments], capture_output=True, text=True, check=False,
                    timeout=60 * harness.PATIENCE)
                self.assertIn(done.returncode, (1, 2))
                self.assertIn(message, done.stderr)
                self.assertEqual(len(done.stderr.strip().split("\n")), 1, done.stderr)


if __name__ == "__main__":
    harness.main()
