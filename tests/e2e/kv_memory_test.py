#!/usr/bin/env python3
"""What a server takes of memory is what it was told it may: weights, the two pools and a stated
allowance, with every tier full; and the flags of the host pool's memory."""

import os
import re
import unittest

import harness
from kv_restart_test import MOVED

# Code, libraries, tokenizer, buffers of gRPC, threads' stacks, the index and metrics: what a server
# of the demo model takes with pools of nothing.
TOLERANCE = 0.02
MIB = 1 << 20


def high_water(server):
    """VmHWM in bytes: the most the process ever had in memory."""
    with open(f"/proc/{server.process.pid}/status", encoding="utf-8") as file:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1))


class MemoryTest(harness.TestCase):
    def model(self):
        """Big blocks (1 MiB), quick to compute."""
        return self.make_checkpoint(hidden=128, intermediate=256, layers=8, heads=4, kv_heads=4,
                                    head_dim=128, vocab=256, max_positions=4096)

    def serve(self, model, device_mib, host_mib):
        directory = self.temp_dir()
        return self.start_server(
            f"--device-kv-gib={device_mib}MiB", f"--host-kv-gib={host_mib}MiB",
            f"--kv-disk-dir={directory}", "--kv-disk-gib=96MiB", "--max-model-len=1024",
            "--max-num-seqs=16", model=model)

    def load(self, server):
        """More KV than all three tiers hold."""
        path = os.path.join(self.temp_dir(), "bench.json")
        done = server.client("bench", json=path, timeout=120, concurrency=16, num_requests=90,
                             prompt_tokens=480, output_tokens=4, ignore_eos=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        found = server.metrics()
        for tier in ("device", "host", "disk"):
            used = found.value("sluice_kv_tier_used_bytes", tier=tier)
            capacity = found.value("sluice_kv_tier_capacity_bytes", tier=tier)
            self.assertGreater(used, 0.95 * capacity, tier)
            self.assertGreater(found.value("sluice_kv_block_evictions_total", tier=tier), 0)
        self.assertGreater(found.value(MOVED, src="host", dst="disk"), 0)
        return high_water(server)

    def test_peak_memory_is_what_the_pools_were_given(self):
        model = self.model()
        small = self.serve(model, 64, 32)
        base = self.load(small)
        self.assertEqual(small.stop(), 0)
        large = self.serve(model, 192, 288)
        peak = self.load(large)
        pools = (192 - 64 + 288 - 32) * MIB
        grown = peak - base
        print(f"pools larger by {pools / MIB:.0f} MiB, peak by {grown / MIB:.1f} MiB "
              f"({grown / pools - 1:+.2%}); the rest: {(base - 96 * MIB) / MIB:.1f} MiB", flush=True)
        self.assertLess(abs(grown - pools), TOLERANCE * peak)
        # All there is besides: weights (3 MiB), program, libraries, scratch, disk buffers (64 MiB).
        self.assertLess(base - 96 * MIB, 300 * MIB)

    def test_flags_of_the_host_pool(self):
        server = self.start_server("--host-kv-gib=96MiB", "--kv-host-numa-node=auto",
                                   "--kv-host-lock")
        harness.wait_until(lambda: any("touched in the background" in line
                                       for line in server.lines), "the host pool's memory")
        self.assertTrue(any("locked in memory" in line for line in server.lines), server.log())
        self.assertEqual(len(server.generate("x", max_tokens=1)["output_ids"]), 1)
        done = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0",
                                  "--kv-host-numa-node=77")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("NUMA node 77", done.stderr)
        done = harness.run_sluice("serve", "--model", harness.DEMO_MODEL,
                                  "--kv-host-numa-node=near")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--kv-host-numa-node", done.stderr)


if __name__ == "__main__":
    harness.main()
