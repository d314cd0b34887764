#!/usr/bin/env python3
"""A storage tier behind the pinned host pool of the emulated GPU: KV outlives the server on a disk and
in Redis, and prompts are answered the same from there; a server on a CPU finds none of it, and a disk
that is broken costs no request.

Run by hand: python3 tests/cuda_on_cpu/server/storage_test.py --sluice .../sluice_cuda_emulated
    --make-checkpoint .../make_random_checkpoint
"""

import os
import unittest

import emulated_server
from emulated_server import harness

import redis_server  # pylint: disable=wrong-import-order

OUTPUT_TOKENS = 5
PROMPTS = 5
CHARACTERS = 90  # tokens, too
FULL_BLOCKS = 80  # of those: five blocks of 16
# Two prompts fit on the device, three on the host.
POOLS = ("--device-kv-blocks=14", "--host-kv-blocks=18")
MOVED = "sluice_kv_transfer_bytes_total"
OPERATIONS = "sluice_kv_transfer_operations_total"


def prompts():
    text = list(harness.demo_texts().values())[0]
    return [text[CHARACTERS * i:CHARACTERS * (i + 1)] for i in range(PROMPTS)]


class StorageTestCase(emulated_server.EmulatedServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # So small a model would rather be computed again than read.
        cls.calibration = harness.slow_calibration(cls.model)

    def serve(self, *arguments, backend="cuda"):
        return self.start_server(f"--backend={backend}", *POOLS, "--attend-in-place=off",
                                 f"--calibration={self.calibration}", *arguments)

    def answers_of(self, server):
        """The records of all prompts, one after the other."""
        return [server.generate(prompt, max_tokens=OUTPUT_TOKENS, ignore_eos=True)
                for prompt in prompts()]

    def answers_with(self, server, tier):
        """The same, all of whose prompts were read from the tier, not only in the end: reading is so
        much quicker than computing is said to be that every full block is worth it."""
        records = self.answers_of(server)
        for i, record in enumerate(records):
            usage = record["usage"]
            self.assertEqual(usage[f"cached_{tier}_tokens"], FULL_BLOCKS, f"prompt {i}: {usage}")
        return records

    def cached(self, records, tier):
        return sum(record["usage"][f"cached_{tier}_tokens"] for record in records)

    def assert_same(self, expected, actual):
        for i, (want, got) in enumerate(zip(expected, actual)):
            self.assertEqual(want["output_ids"], got["output_ids"], f"prompt {i}")

    def assert_log(self, server, text):
        self.assertTrue(any(text in line for line in server.lines), f"{text!r} is not in the log")

    def settle(self, server, tier):
        """Waits until nothing is on its way to the tier any more."""
        self.assert_quiet(server)
        last = []

        def still():
            found = server.metrics()
            last.append((found.value(MOVED, src="host", dst=tier),
                         found.value("sluice_kv_transfer_inflight_bytes")))
            return len(last) > 8 and len(set(last[-8:])) == 1 and last[-1][1] == 0

        harness.wait_until(still, "everything in the tier")


class DiskTest(StorageTestCase):
    def on_disk(self, directory, *arguments, **values):
        return self.serve(f"--kv-disk-dir={directory}", "--kv-disk-gib=32MiB", *arguments, **values)

    def restart(self, end, *arguments, loads=True):
        """Answers of a server and of the next one on the same disk. loads=False: the second may
        attend to what it has read in host memory."""
        arguments += () if loads else ("--attend-in-place=auto",)
        directory = self.temp_dir()
        first = self.on_disk(directory, *arguments)
        self.assert_log(first, "disk KV tier")
        expected = self.answers_of(first)
        self.assertEqual(self.cached(expected, "disk"), 0)
        end(first)
        second = self.on_disk(directory, *arguments)
        self.assert_log(second, "adopted")
        actual = self.answers_with(second, "disk")
        found = second.metrics()
        self.assertGreater(found.value(MOVED, src="disk", dst="host"), 0)
        in_place = sum(record["usage"]["attended_in_place_tokens"] for record in actual)
        if loads:
            self.assertGreater(found.value(MOVED, src="host", dst="device"), 0)
            self.assertEqual(in_place, 0)
        else:
            self.assertGreater(in_place, 0)
        self.assertEqual(found.value(OPERATIONS, src="disk", outcome="failed"), 0)
        self.assertEqual(second.stop(), 0)
        return expected, actual

    def stop(self, server):
        # At once: what is on its way to the disk still gets there.
        self.assertEqual(server.stop(), 0)

    def kill(self, server):
        self.settle(server, "disk")
        server.kill()

    def test_answers_are_the_same_after_sigterm(self):
        self.assert_same(*self.restart(self.stop))

    def test_answers_are_the_same_if_the_blocks_stay_on_the_host(self):
        self.assert_same(*self.restart(self.stop, loads=False))

    def test_answers_are_the_same_after_kill_9(self):
        self.assert_same(*self.restart(self.kill))

    def test_8_bit_pools_go_to_the_disk_and_come_back(self):
        # What is read has been rounded once: nearly the same, which one token shows little of.
        for arguments in (("--kv-host-codec=fp8",), ("--kv-host-codec=int8", "--kv-disk-codec=int4")):
            with self.subTest(arguments):
                self.restart(self.stop, *arguments)

    def test_what_was_evicted_from_memory_comes_back_from_the_disk(self):
        server = self.on_disk(self.temp_dir())
        expected = self.answers_of(server)  # more than both pools hold
        self.settle(server, "disk")
        actual = self.answers_of(server)
        self.assert_same(expected, actual)
        self.assertGreater(self.cached(actual, "disk"), 0)
        self.assertEqual(sum(record["usage"]["computed_tokens"] for record in actual),
                         PROMPTS * (CHARACTERS - FULL_BLOCKS))
        self.assertEqual(server.stop(), 0)

    def test_a_server_on_a_cpu_has_a_folder_of_its_own(self):
        directory = self.temp_dir()
        gpu = self.on_disk(directory)
        expected = self.answers_of(gpu)
        self.stop(gpu)
        cpu = self.on_disk(directory, backend="cpu")
        self.assertEqual(self.cached(self.answers_of(cpu), "disk"), 0)
        self.stop(cpu)
        again = self.on_disk(directory)
        self.assert_same(expected, self.answers_with(again, "disk"))
        self.assertEqual(again.stop(), 0)
        listed = harness.run_sluice("cache", "ls", f"--kv-disk-dir={directory}")
        self.assertIn("bf16 (cuda)", listed.stdout)

    def test_a_damaged_disk_costs_no_request(self):
        directory = self.temp_dir()
        first = self.on_disk(directory)
        expected = self.answers_of(first)
        self.stop(first)
        for folder, _, names in os.walk(directory):
            for name in names:
                if name.startswith("segment-"):
                    self.spoil(os.path.join(folder, name))
        server = self.on_disk(directory)
        self.assert_same(expected, self.answers_of(server))
        self.assertEqual(server.metric("sluice_requests_total", outcome="error"), 0)
        self.assertGreater(server.metric(OPERATIONS, src="disk", outcome="failed"), 0)
        self.assertEqual(server.stop(), 0)

    def spoil(self, path):
        """Another byte every 512."""
        with open(path, "r+b") as file:
            content = bytearray(file.read())
            for at in range(0, len(content), 512):
                content[at] ^= 0x55
            file.seek(0)
            file.write(content)


@unittest.skipUnless(redis_server.BINARY, "redis-server is not installed")
class RemoteTest(StorageTestCase):
    def test_what_one_server_has_computed_another_reads(self):
        redis = redis_server.RedisServer(self.temp_dir())
        self.addCleanup(redis.kill)
        url = f"--kv-remote-url={redis.url}"
        first = self.serve(url)
        self.assert_log(first, "remote KV tier")
        expected = self.answers_of(first)
        self.settle(first, "remote")
        second = self.serve(url)  # beside the first
        self.assert_same(expected, self.answers_with(second, "remote"))
        self.assertEqual(second.metric("sluice_kv_remote_corrupt_blocks_total"), 0)
        # Without Redis both go on.
        redis.kill()
        self.assert_same(expected, self.answers_of(first))
        self.assert_same(expected, self.answers_of(second))
        for server in (first, second):
            self.assertEqual(server.metric("sluice_requests_total", outcome="error"), 0)
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    harness.main()
