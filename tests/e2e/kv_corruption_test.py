#!/usr/bin/env python3
"""Files of the disk tier are damaged at random, while the server is down and while it runs: no answer
changes, no request fails, and what was found wrong is counted."""

import os
import random
import signal
import unittest

import harness
from kv_restart_test import DiskTestCase

CORRUPT = "sluice_kv_disk_corrupt_blocks_total"
USED_BLOCKS = 160  # of the first segment, about


class CorruptionTest(DiskTestCase):
    def folder(self, directory):
        found = [name for name in os.listdir(directory) if len(name) == 32]
        self.assertEqual(len(found), 1)
        return os.path.join(directory, found[0])

    def fill(self):
        """A directory with blocks of all prompts, and the right answers."""
        directory = self.temp_dir()
        server = self.serve(directory)
        expected = self.answers(server)
        self.assertEqual(server.stop(), 0)
        return directory, expected

    def check(self, directory, expected):
        server = self.serve(directory)
        actual = self.answers(server)
        self.assert_same(expected, actual)
        found = server.metrics()
        self.assertEqual(found.value("sluice_requests_total", outcome="error"), 0)
        self.assert_quiet(server)
        return server, actual, found

    def flip(self, path, count, limit, seed):
        """Flips `count` random bits of the file's first `limit` bytes."""
        chance = random.Random(seed)
        with open(path, "r+b") as file:
            size = min(limit, os.fstat(file.fileno()).st_size)
            for _ in range(count):
                at = chance.randrange(size)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ (1 << chance.randrange(8))]))

    def block_bytes(self, directory):
        listed = harness.run_sluice("cache", "ls", f"--kv-disk-dir={directory}").stdout
        self.assertIn("bf16", listed)
        return 49152

    def test_flipped_bits_in_blocks(self):
        for seed, count in ((1, 20), (2, 1000)):
            with self.subTest(seed=seed, count=count):
                directory, expected = self.fill()
                path = os.path.join(self.folder(directory), "segment-000000")
                self.flip(path, count, USED_BLOCKS * self.block_bytes(directory), seed)
                verified = harness.run_sluice("cache", "verify", f"--kv-disk-dir={directory}")
                self.assertEqual(verified.returncode, 1)
                self.assertIn("checksum mismatch", verified.stdout)
                server, _, found = self.check(directory, expected)
                self.assertGreater(found.value(CORRUPT), 0)
                self.assert_log(server, "checksum mismatch")
                self.settle(server)
                self.assertEqual(server.stop(), 0)
                # What was bad has been written again.
                _, actual, found = self.check(directory, expected)
                self.assertGreater(self.from_disk(actual), 0)

    def harm_every_block(self, path, block_bytes, chance):
        """One harm to each slot: a flipped bit, zeros, or another block's bytes. Returns how many slots."""
        harmed = 0
        with open(path, "r+b") as file:
            before = b""
            for slot in range(os.fstat(file.fileno()).st_size // block_bytes):
                file.seek(slot * block_bytes)
                block = bytearray(file.read(block_bytes))
                intact = bytes(block)
                how = chance.randrange(10)
                if how == 0:
                    block[:] = bytes(block_bytes)
                elif how == 1 and before:
                    block[:] = before
                else:
                    block[chance.randrange(block_bytes)] ^= 1 << chance.randrange(8)
                before = intact
                file.seek(slot * block_bytes)
                file.write(block)
                harmed += 1
        return harmed

    def test_a_thousand_injections_are_found_counted_and_computed(self):
        directory, expected = self.fill()
        path = os.path.join(self.folder(directory), "segment-000000")
        block_bytes = self.block_bytes(directory)
        chance = random.Random(7)
        injected = found = 0
        while injected < 1000:
            harmed = self.harm_every_block(path, block_bytes, chance)
            verified = harness.run_sluice("cache", "verify", f"--kv-disk-dir={directory}").stdout
            # Slots that hold nothing now lie there harmed, too.
            bad = int(verified.split(" bad")[0].split()[-1])
            self.assertIn(f": 0 blocks good, {bad} bad, 0 records broken", verified)
            self.assertLessEqual(bad, harmed)
            injected += bad
            server, actual, metrics = self.check(directory, expected)
            self.assertEqual(self.from_disk(actual), 0)
            counted = metrics.value(CORRUPT)
            # Each block that a prompt reads; only those with output tokens are read by none.
            self.assertLessEqual(counted, bad)
            self.assertGreaterEqual(counted, bad - len(expected))
            found += counted
            self.settle(server)
            self.assertEqual(server.stop(), 0)
        print(f"{injected} blocks harmed, {found:.0f} read and found", flush=True)

    def test_flipped_bits_in_records(self):
        directory, expected = self.fill()
        path = os.path.join(self.folder(directory), "records")
        self.flip(path, 200, os.path.getsize(path), 3)
        self.check(directory, expected)

    def test_cut_and_removed_files(self):
        for name in ("segment-000000", "records", "namespace.json"):
            for size in (None, 0, 5000):
                with self.subTest(name=name, size=size):
                    directory, expected = self.fill()
                    path = os.path.join(self.folder(directory), name)
                    if size is None:
                        os.remove(path)
                    else:
                        os.truncate(path, min(size, os.path.getsize(path)))
                    server, _, _ = self.check(directory, expected)
                    self.assertEqual(server.stop(), 0)

    def test_damage_under_a_running_server(self):
        server = self.serve(self.temp_dir())
        directory = next(line.split("kv-disk-dir=")[1].split()[0] for line in server.lines
                         if "kv-disk-dir=" in line)
        expected = self.answers(server)
        self.settle(server)
        path = os.path.join(self.folder(directory), "segment-000000")
        self.flip(path, 500, USED_BLOCKS * self.block_bytes(directory), 4)
        self.assert_same(expected, self.answers(server))
        self.assertGreater(server.metric(CORRUPT), 0)
        os.truncate(path, 0)
        for _ in range(2):
            self.assert_same(expected, self.answers(server))
        self.assertEqual(server.metric("sluice_requests_total", outcome="error"), 0)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    harness.main()
