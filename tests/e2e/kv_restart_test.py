#!/usr/bin/env python3
"""KV outlives the server on its disk tier: after SIGTERM and after kill -9 the same prompts are read
from the disk and answered the same. Another type, layout or salt finds nothing; a disk that is full or in
use is said to be, and costs no request."""

import os
import subprocess
import unittest

import harness

OUTPUT_TOKENS = 12
POOLS = ("--device-kv-blocks=64", "--host-kv-blocks=48")
MOVED = "sluice_kv_transfer_bytes_total"


def prompts(count=12, characters=1100):
    texts = list(harness.demo_texts().values())
    result = []
    for start in range(0, 4 * characters, characters):
        result += [t[start:start + characters] for t in texts if len(t) >= start + characters]
    assert len(result) >= count, "the demo prompts are too short"
    return result[:count]


class DiskTestCase(harness.TestCase):
    def serve(self, directory, *arguments, **values):
        return self.start_server(*POOLS, f"--kv-disk-dir={directory}", "--kv-disk-gib=64MiB",
                                 *arguments, **values)

    def answers(self, server, **values):
        """The records of all prompts, one after the other."""
        values = {"max_tokens": OUTPUT_TOKENS, "ignore_eos": True} | values
        return [server.generate(prompt, **values) for prompt in prompts()]

    def settle(self, server):
        """Waits until nothing is on its way to the disk any more."""
        self.assert_quiet(server)
        last = []

        def still():
            found = server.metrics()
            last.append((found.value(MOVED, src="host", dst="disk"),
                         found.value("sluice_kv_transfer_inflight_bytes")))
            return len(last) > 8 and len(set(last[-8:])) == 1 and last[-1][1] == 0

        harness.wait_until(still, "everything on the disk")

    def assert_same(self, expected, actual):
        for i, (a, b) in enumerate(zip(expected, actual)):
            self.assertEqual(a["output_ids"], b["output_ids"], f"prompt {i}")

    def from_disk(self, records):
        return sum(record["usage"]["cached_disk_tokens"] for record in records)

    def assert_log(self, server, text):
        self.assertTrue(any(text in line for line in server.lines), f"{text!r} is not in the log")


class RestartTest(DiskTestCase):
    def check(self, end):
        directory = self.temp_dir()
        first = self.serve(directory)
        self.assert_log(first, "disk KV tier")
        expected = self.answers(first)
        self.assertEqual(self.from_disk(expected), 0)
        end(first)

        second = self.serve(directory)
        self.assert_log(second, "adopted")
        actual = self.answers(second)
        self.assert_same(expected, actual)
        cached = sum(record["usage"]["prompt_tokens"] for record in actual)
        self.assertGreater(self.from_disk(actual), 0.8 * cached)
        found = second.metrics()
        self.assertEqual(found.value("sluice_prompt_tokens_total", source="disk"),
                         self.from_disk(actual))
        self.assertGreater(found.value(MOVED, src="disk", dst="host"), 0)
        self.assertEqual(found.value("sluice_kv_transfer_operations_total", src="disk",
                                     outcome="failed"), 0)
        self.assertEqual(second.stop(), 0)

    def test_after_sigterm(self):
        # At once: what is on its way to the disk still gets there.
        self.check(lambda server: self.assertEqual(server.stop(), 0))

    def test_after_kill_9(self):
        def end(server):
            self.settle(server)
            server.kill()

        self.check(end)

    def test_after_kill_9_while_writing(self):
        directory = self.temp_dir()
        expected = None
        for _ in range(3):
            server = self.serve(directory)
            client = server.start_client("generate", prompt=prompts()[0], max_tokens=400,
                                         ignore_eos=True, temperature=0, json=True)
            actual = self.answers(server)
            server.kill()
            client.communicate()
            if expected is None:
                expected = actual
            self.assert_same(expected, actual)
        self.assertGreater(self.from_disk(actual), 0)

    def test_what_was_evicted_from_memory_comes_back_from_the_disk(self):
        server = self.serve(self.temp_dir())
        expected = self.answers(server)  # more than both pools hold
        self.settle(server)
        actual = self.answers(server)
        self.assert_same(expected, actual)
        self.assertGreater(self.from_disk(actual), 0)

    def test_a_small_limit_is_kept_and_old_blocks_go(self):
        directory = self.temp_dir()
        server = self.start_server(*POOLS, f"--kv-disk-dir={directory}", "--kv-disk-gib=2MiB")
        expected = self.answers(server)
        self.settle(server)
        used = sum(os.path.getsize(os.path.join(folder, name))
                   for folder, _, names in os.walk(directory) for name in names)
        self.assertLess(used, 2.1 * 2**20)
        self.assertGreater(server.metric("sluice_kv_block_evictions_total", tier="disk"), 0)
        self.assert_same(expected, self.answers(server))


class SeparationTest(DiskTestCase):
    def test_another_type_or_layout_finds_nothing_and_the_first_still_does(self):
        directory = self.temp_dir()
        first = self.serve(directory)
        expected = self.answers(first)
        self.assertEqual(first.stop(), 0)
        for other in ("--dtype=f32", "--block-size=16"):
            server = self.serve(directory, other)
            self.assertEqual(self.from_disk(self.answers(server)), 0, other)
            self.assertEqual(server.stop(), 0)
        again = self.serve(directory)
        actual = self.answers(again)
        self.assertGreater(self.from_disk(actual), 0)
        self.assert_same(expected, actual)

    def test_another_model_finds_nothing(self):
        directory = self.temp_dir()
        models = [self.make_checkpoint(seed=seed, hidden=256, intermediate=768, layers=4, heads=4,
                                       kv_heads=2, vocab=256, max_positions=2048)
                  for seed in (1, 2)]
        for model in models:
            server = self.serve(directory, model=model)
            record = server.generate("x" * 600, max_tokens=4, ignore_eos=True)
            self.assertEqual(record["usage"]["cached_disk_tokens"], 0)
            self.assertEqual(server.stop(), 0)
        server = self.serve(directory, model=models[0])
        record = server.generate("x" * 600, max_tokens=4, ignore_eos=True)
        self.assertGreater(record["usage"]["cached_disk_tokens"], 0)

    def test_another_salt_finds_nothing(self):
        directory = self.temp_dir()
        first = self.serve(directory)
        self.answers(first, cache_salt="one")
        self.assertEqual(first.stop(), 0)
        second = self.serve(directory)
        self.assertEqual(self.from_disk(self.answers(second, cache_salt="two")), 0)
        self.assertEqual(second.stop(), 0)
        third = self.serve(directory)
        self.assertGreater(self.from_disk(self.answers(third, cache_salt="one")), 0)


class DirectoryTest(DiskTestCase):
    def refused(self, *arguments):
        done = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0",
                                  "--metrics-port=off", *POOLS, *arguments)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_a_second_server_is_told_who_uses_the_directory(self):
        directory = self.temp_dir()
        first = self.serve(directory)
        said = self.refused(f"--kv-disk-dir={directory}")
        self.assertIn("--kv-disk-dir", said)
        self.assertIn(f"in use by process {first.process.pid}", said)
        self.assertEqual(len(first.generate("x", max_tokens=1)["output_ids"]), 1)
        first.kill()
        self.serve(directory)  # the lock went with the process

    def test_flags_that_make_no_sense_together_are_refused(self):
        directory = f"--kv-disk-dir={self.temp_dir()}"
        self.assertIn("--kv-disk-dir", self.refused("--kv-disk-gib=1"))
        self.assertIn("prefix", self.refused(directory, "--no-enable-prefix-caching"))
        self.assertIn("host pool", self.refused(directory, "--host-kv-blocks=0"))
        self.assertIn("one block takes", self.refused(directory, "--kv-disk-gib=1KiB"))

    def test_a_directory_that_cannot_be_made_is_named(self):
        file = os.path.join(self.temp_dir(), "file")
        with open(file, "w", encoding="utf-8"):
            pass
        self.assertIn(file, self.refused(f"--kv-disk-dir={file}"))


class FullDiskTest(DiskTestCase):
    def test_a_full_disk_costs_no_request(self):
        directory = self.temp_dir()
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory],
                               check=False, capture_output=True)
        if mount.returncode != 0:
            self.skipTest("no right to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", "-l", directory], check=False)
        reference = self.start_server(*POOLS)
        expected = self.answers(reference)
        self.assertEqual(reference.stop(), 0)

        server = self.serve(directory)
        for _ in range(2):
            self.assert_same(expected, self.answers(server))
        self.settle(server)
        found = server.metrics()
        failed = found.value("sluice_kv_transfer_operations_total", dst="disk", outcome="failed")
        self.assertGreater(failed, 0)
        self.assertEqual(found.value("sluice_requests_total", outcome="error"), 0)
        self.assert_log(server, "cannot write")
        self.assert_log(server, "No space left on device")
        self.assertEqual(server.stop(), 0)

        again = self.serve(directory)  # a full disk can be read, and is no reason not to start
        actual = self.answers(again)
        self.assert_same(expected, actual)
        self.assertGreater(self.from_disk(actual), 0)


class CacheCommandTest(DiskTestCase):
    def cache(self, action, directory, *arguments):
        return harness.run_sluice("cache", action, f"--kv-disk-dir={directory}", *arguments)

    def test_ls_verify_and_gc(self):
        directory = self.temp_dir()
        for dtype in ("--dtype=f32", "--dtype=bf16"):
            server = self.serve(directory, dtype)
            server.generate(prompts()[0], max_tokens=4, ignore_eos=True)
            self.settle(server)
            listed = self.cache("ls", directory)
            self.assertEqual(listed.returncode, 0, listed.stderr)
            self.assertIn(f"in use by process {server.process.pid}", listed.stdout)
            refused = self.cache("verify", directory)
            self.assertEqual(refused.returncode, 1)
            self.assertIn(f"process {server.process.pid}", refused.stderr)
            self.assertEqual(server.stop(), 0)
        listed = self.cache("ls", directory).stdout
        self.assertIn("f32", listed)
        self.assertIn("bf16", listed)
        verified = self.cache("verify", directory)
        self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)
        self.assertEqual(verified.stdout.count(" 0 bad, 0 records broken"), 2)

        dry = self.cache("gc", directory)
        self.assertIn("would be free", dry.stdout)
        self.assertEqual(listed.count("f32"), self.cache("ls", directory).stdout.count("f32"))
        done = self.cache("gc", directory, "--no-dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)
        left = self.cache("ls", directory).stdout
        self.assertNotIn("f32", left)
        self.assertIn("bf16", left)

    def test_wrong_usage_exits_2(self):
        for arguments, expected in ((("ls",), "--kv-disk-dir"),
                                    (("burn", "--kv-disk-dir=."), "--action"),
                                    (("ls", "--kv-disk-dir=/nowhere/at/all"), "/nowhere/at/all"),
                                    (("ls", "--kv-disk-dir=.", "--keep=x"), "--keep")):
            done = harness.run_sluice("cache", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(expected, done.stderr)


if __name__ == "__main__":
    harness.main()
