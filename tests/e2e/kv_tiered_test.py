#!/usr/bin/env python3
"""A disk and Redis behind host memory at once: what is written goes to both, what is read comes from the
disk if it can and from Redis if it must. Redis killed, the disk wiped, its blocks damaged, another server
with a disk of its own: the answers are the same, and the metrics say where they came from."""

import os
import random
import shutil
import unittest

import harness
import redis_server
from kv_remote_test import RemoteTestCase, STATE
from kv_restart_test import POOLS, prompts

READ = "sluice_kv_storage_blocks_read_total"
COPIES = "sluice_kv_storage_copies_total"
FILLS = "sluice_kv_storage_fills_total"
WRONG = "sluice_kv_storage_wrong_blocks_total"
WAITING = "sluice_kv_storage_waiting_bytes"


@unittest.skipUnless(redis_server.BINARY, "redis-server is not installed")
class TieredTest(RemoteTestCase):
    def serve(self, redis, *arguments, **values):
        # Else a disk or a Redis that is measured while others load the machine may lose to computing.
        calibration = harness.slow_calibration(self.temp_dir())
        return super().serve(redis, f"--calibration={calibration}", *arguments, **values)

    def both(self, redis, directory, *arguments, **values):
        return self.serve(redis, f"--kv-disk-dir={directory}", "--kv-disk-gib=64MiB", *arguments,
                          **values)

    def settle(self, server):
        super().settle(server)
        harness.wait_until(lambda: server.metric(WAITING) == 0, "the copies are done")

    def stored(self, records):
        return sum(record["usage"]["cached_disk_tokens"] for record in records)

    def assert_all_stored(self, records):
        """All but the ends of the prompts was read from the disk or from Redis."""
        total = sum(record["usage"]["prompt_tokens"] for record in records)
        self.assertGreater(self.stored(records), 0.8 * total,
                           [record["usage"] for record in records])

    def places(self, server):
        found = server.metrics()
        return found.value(READ, place="disk"), found.value(READ, place="remote")

    def read_again(self, server, expected):
        """The same answers, all from what is stored; returns the blocks read from the disk, from Redis."""
        actual = self.answers(server)
        self.assert_same(expected, actual)
        self.assert_all_stored(actual)
        return self.places(server)

    def filled(self):
        """A Redis and a directory that a server has filled, and its answers."""
        redis = self.redis()
        directory = self.temp_dir()
        server = self.both(redis, directory)
        self.assert_log(server, "storage KV tier: the disk, and beside it the remote store")
        expected = self.answers(server)
        self.settle(server)
        self.assertGreater(server.metric(COPIES, result="written"), 0)
        self.assertEqual(server.metric(COPIES, result="failed"), 0)
        self.assertEqual(server.stop(), 0)
        self.assertGreater(len(redis.keys()), 0)
        return redis, directory, expected

    def test_the_disk_is_read_if_both_have_it(self):
        redis, directory, expected = self.filled()
        server = self.both(redis, directory)
        disk, remote = self.read_again(server, expected)
        self.assertGreater(disk, 0)
        self.assertEqual(remote, 0)
        self.assert_no_errors(server)

    def test_redis_killed_the_disk_serves(self):
        redis, directory, expected = self.filled()
        redis.kill()
        server = self.both(redis, directory)
        self.assertEqual(server.metric(STATE), 2)
        disk, remote = self.read_again(server, expected)
        self.assertGreater(disk, 0)
        self.assertEqual(remote, 0)
        self.answers(server, [text[::-1] for text in prompts()[:2]])
        self.assert_quiet(server)
        harness.wait_until(lambda: server.metric(COPIES, result="away") > 0, "copies are dropped")
        self.assert_no_errors(server)
        # And when it is back, copies are made again.
        redis.start()
        harness.wait_until(lambda: server.metric(STATE) == 0, "the breaker closes")
        self.answers(server, [text[::-1] for text in prompts()[2:5]])
        harness.wait_until(lambda: server.metric(COPIES, result="written") > 0, "copies are made")

    def test_the_disk_wiped_redis_serves_and_fills_it(self):
        redis, directory, expected = self.filled()
        shutil.rmtree(directory)
        os.mkdir(directory)
        server = self.both(redis, directory)
        disk, remote = self.read_again(server, expected)
        self.assertGreater(remote, 0)
        self.settle(server)
        self.assertGreater(server.metric(FILLS, result="written"), 0)
        self.assert_no_errors(server)
        self.assertEqual(server.stop(), 0)
        redis.kill()  # what was filled is on the disk now
        server = self.both(redis, directory)
        disk, remote = self.read_again(server, expected)
        self.assertGreater(disk, 0)
        self.assertEqual(remote, 0)

    def test_damaged_blocks_on_the_disk_come_from_redis(self):
        redis, directory, expected = self.filled()
        chance = random.Random(11)
        for folder, _, names in os.walk(directory):
            for name in names:
                if not name.startswith("segment-"):
                    continue
                path = os.path.join(folder, name)
                with open(path, "r+b") as file:
                    for at in range(0, os.path.getsize(path), 512):  # every block, many times
                        file.seek(at + chance.randrange(512))
                        byte = file.read(1)
                        file.seek(-len(byte), os.SEEK_CUR)
                        if byte:
                            file.write(bytes([byte[0] ^ (1 << chance.randrange(8))]))
        server = self.both(redis, directory)
        actual = self.answers(server)
        self.assert_same(expected, actual)
        disk, remote = self.places(server)
        self.assertEqual(disk, 0)
        self.assertGreater(remote, 0)
        self.assertGreater(server.metric(WRONG, place="disk"), 0)
        self.assertEqual(server.metric("sluice_kv_storage_rescued_blocks_total"), remote)
        self.assertEqual(server.metric("sluice_kv_disk_corrupt_blocks_total"), 0)
        self.assert_no_errors(server)

    def test_two_servers_share_redis_each_with_a_disk(self):
        redis = self.redis()
        first = self.both(redis, self.temp_dir())
        expected = self.answers(first, cache_salt="one")
        self.settle(first)
        second = self.both(redis, self.temp_dir())
        self.assertEqual(self.stored(self.answers(second, cache_salt="two")), 0)
        actual = self.answers(second, cache_salt="one")
        self.assert_same(expected, actual)
        self.assert_all_stored(actual)
        self.assertGreater(self.places(second)[1], 0)
        # One that has Redis only shares the names.
        third = self.serve(redis)
        actual = self.answers(third, cache_salt="one")
        self.assert_same(expected, actual)
        self.assertGreater(self.remote(actual), 0)

    def test_a_limit_of_its_own_is_refused(self):
        redis = self.redis()
        done = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0",
                                  "--metrics-port=off", *POOLS, f"--kv-remote-url={redis.url}",
                                  f"--kv-disk-dir={self.temp_dir()}", "--kv-remote-gib=1")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--kv-disk-gib", done.stderr)


if __name__ == "__main__":
    harness.main()
