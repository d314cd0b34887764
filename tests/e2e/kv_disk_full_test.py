#!/usr/bin/env python3
"""The disk of the KV tier is filled to its last byte under 64 streams, in a small file system of the
server's own: no request fails, no answer changes, the metrics say what happened, and with space again,
blocks are written again and the load is served as fast as before."""

import json
import os
import shutil
import subprocess
import unittest

import harness
from kv_restart_test import MOVED, POOLS, DiskTestCase

DISK_MIB = 224  # more than the blocks of the whole test
OPERATIONS = "sluice_kv_transfer_operations_total"
STREAMS = 64


def own_file_system(directory):
    """A command prefix: a small tmpfs at `directory`, seen by the program behind it alone."""
    mount = f'mount -t tmpfs -o size={DISK_MIB}m tmpfs "{directory}" && exec "$@"'
    return ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh")


def have_namespaces(directory):
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*own_file_system(directory), "true"], capture_output=True, check=False)
    return done.returncode == 0


class DiskFullTest(DiskTestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.temp_dir()
        if not have_namespaces(self.directory):
            self.skipTest("no right to a mount namespace")
        self.server = self.start_server(
            *POOLS, f"--kv-disk-dir={self.directory}", "--kv-disk-gib=256MiB",
            prefix=own_file_system(self.directory))
        # The same place, seen from outside.
        self.inside = f"/proc/{self.server.process.pid}/root{self.directory}"
        self.ballast = os.path.join(self.inside, "ballast")

    def bench_command(self, seed, requests):
        # Nothing is shared but within a few prefixes: most blocks are new, and written.
        return dict(concurrency=STREAMS, num_requests=requests, prompt_tokens=192, output_tokens=8,
                    shared_prefix_tokens=64, num_prefixes=16, seed=seed, ignore_eos=True)

    def start_bench(self, seed, requests):
        path = os.path.join(self.temp_dir(), "bench.json")
        values = self.bench_command(seed, requests)
        return self.server.start_client("bench", *harness.flags(json=path, **values)), path

    def end_bench(self, started, requests):
        """Requests per second; all must have succeeded."""
        process, path = started
        out, err = process.communicate(timeout=120 * harness.PATIENCE)
        self.assertEqual(process.returncode, 0, out + err)
        with open(path, encoding="utf-8") as file:
            results = json.load(file)["results"]
        self.assertEqual(results["ok"], requests, results)
        return results["requests_per_s"]

    def bench(self, seed, requests):
        return self.end_bench(self.start_bench(seed, requests), requests)

    def fill(self):
        """Until not a byte is left."""
        piece = bytes(1 << 20)
        with open(self.ballast, "ab", buffering=0) as file:
            while piece:
                try:
                    file.write(piece)
                except OSError:
                    piece = piece[:len(piece) // 2]
        self.assertEqual(os.statvfs(self.inside).f_bfree, 0)

    def test_a_disk_that_is_filled_under_load_costs_nothing_but_its_blocks(self):
        server = self.server
        prompt = "Once there was a sea so small " * 20
        expected = server.generate(prompt, max_tokens=16, ignore_eos=True)["output_ids"]
        before = max(self.bench(seed, 96) for seed in (1, 2))
        written = server.metric(MOVED, src="host", dst="disk")
        self.assertGreater(written, 0)

        started = self.start_bench(3, 256)
        self.fill()
        self.end_bench(started, 256)
        harness.wait_until(
            lambda: server.metric(OPERATIONS, dst="disk", outcome="failed") >= 3,
            "writes that fail")
        harness.wait_until(lambda: self.shut_writes() == 1, "a disk that is left alone")
        self.assertEqual(server.generate(prompt, max_tokens=16, ignore_eos=True)["output_ids"],
                         expected)
        self.assert_log(server, "cannot write")
        self.assert_log(server, "No space left on device")

        os.remove(self.ballast)
        full = server.metric(MOVED, src="host", dst="disk")
        seed = 10

        def writes_again():
            nonlocal seed
            seed += 1
            self.bench(seed, 16)
            return (server.metric(MOVED, src="host", dst="disk") > full
                    and self.shut_writes() == 0)

        harness.wait_until(writes_again, "blocks on the disk again", timeout=40)
        after = max(self.bench(seed + 1, 96), self.bench(seed + 2, 96))
        print(f"requests per second: {before:.1f} before, {after:.1f} after", flush=True)
        self.assertGreater(after, 0.6 * before)
        self.assertEqual(server.metric("sluice_requests_total", outcome="error"), 0)
        self.assertEqual(server.generate(prompt, max_tokens=16, ignore_eos=True)["output_ids"],
                         expected)
        self.assertEqual(server.stop(), 0)

    def shut_writes(self):
        return self.server.metric("sluice_kv_disk_off", use="write")


if __name__ == "__main__":
    harness.main()
