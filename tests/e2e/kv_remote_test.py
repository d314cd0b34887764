#!/usr/bin/env python3
"""Servers share KV through Redis: what one has computed another reads, with the same answers; another
type, model or salt finds nothing. A Redis that is killed, hangs, is full, refuses the password or gives
back damaged values costs no request."""

import os
import random
import threading
import unittest

import certificates
import harness
import redis_server
from kv_restart_test import OUTPUT_TOKENS, POOLS, prompts

STATE = "sluice_kv_remote_breaker_state"
OPENED = "sluice_kv_remote_breaker_opened_total"
ERRORS = "sluice_kv_remote_errors_total"
CORRUPT = "sluice_kv_remote_corrupt_blocks_total"
BLOCKS = "sluice_kv_remote_blocks_total"


@unittest.skipUnless(redis_server.BINARY, "redis-server is not installed")
class RemoteTestCase(harness.TestCase):
    def redis(self, *arguments, **values):
        server = redis_server.RedisServer(self.temp_dir(), *arguments, **values)
        self.addCleanup(server.kill)
        return server

    def serve(self, redis, *arguments, **values):
        return self.start_server(*POOLS, f"--kv-remote-url={redis.url}", *arguments, **values)

    def answers(self, server, texts=None, **values):
        values = {"max_tokens": OUTPUT_TOKENS, "ignore_eos": True} | values
        return server.generate_all(texts or prompts(), concurrency=2, **values)

    def assert_same(self, expected, actual):
        for i, (a, b) in enumerate(zip(expected, actual)):
            self.assertEqual(a["output_ids"], b["output_ids"], f"prompt {i}")

    def remote(self, records):
        return sum(record["usage"]["cached_remote_tokens"] for record in records)

    def settle(self, server):
        """Waits until nothing is on its way to the store any more."""
        self.assert_quiet(server)
        last = []

        def still():
            found = server.metrics()
            last.append((found.value(BLOCKS, result="written"), found.value(BLOCKS, result="shared"),
                         found.value("sluice_kv_transfer_inflight_bytes")))
            return len(last) > 8 and len(set(last[-8:])) == 1 and last[-1][2] == 0

        harness.wait_until(still, "everything in the store")

    def assert_no_errors(self, server):
        self.assertEqual(server.metric("sluice_requests_total", outcome="error"), 0)

    def reference(self):
        server = self.start_server(*POOLS)
        expected = self.answers(server)
        self.assertEqual(server.stop(), 0)
        return expected

    def assert_log(self, server, text):
        self.assertTrue(any(text in line for line in server.lines), f"{text!r} is not in the log")

    def refused(self, *arguments):
        done = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0",
                                  "--metrics-port=off", *POOLS, *arguments)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr


class SharingTest(RemoteTestCase):
    def test_what_one_server_has_computed_another_reads(self):
        redis = self.redis()
        first = self.serve(redis)
        self.assert_log(first, "remote KV tier: reads")
        expected = self.answers(first)
        self.assertEqual(self.remote(expected), 0)
        self.settle(first)
        second = self.serve(redis)  # beside the first
        actual = self.answers(second)
        self.assert_same(expected, actual)
        prompt_tokens = sum(record["usage"]["prompt_tokens"] for record in actual)
        self.assertGreater(self.remote(actual), 0.5 * prompt_tokens)
        found = second.metrics()
        self.assertEqual(found.value("sluice_prompt_tokens_total", source="remote"),
                         self.remote(actual))
        self.assertGreater(
            found.value("sluice_kv_transfer_bytes_total", src="remote", dst="host"), 0)
        self.assertGreater(found.value("sluice_kv_tier_used_bytes", tier="remote"), 0)
        self.assertEqual(found.value(CORRUPT), 0)
        self.assertEqual(sum(record["usage"]["cached_disk_tokens"] for record in actual), 0)
        # And the other way round, while both run.
        texts = [text[::-1] for text in prompts()[:3]]
        expected = self.answers(second, texts)
        self.settle(second)
        actual = self.answers(first, texts)
        self.assert_same(expected, actual)
        self.assertGreater(self.remote(actual), 0)

    def test_it_outlives_a_server_that_is_killed(self):
        redis = self.redis()
        first = self.serve(redis)
        expected = self.answers(first)
        self.settle(first)
        first.kill()
        second = self.serve(redis)
        actual = self.answers(second)
        self.assert_same(expected, actual)
        self.assertGreater(self.remote(actual), 0)

    def test_another_type_model_or_salt_finds_nothing(self):
        redis = self.redis()
        first = self.serve(redis)
        expected = self.answers(first, cache_salt="one")
        self.settle(first)
        self.assertEqual(self.remote(self.answers(first, cache_salt="two")), 0)
        self.settle(first)
        for other in ("--dtype=f32", "--block-size=16"):
            server = self.serve(redis, other)
            self.assertEqual(self.remote(self.answers(server, cache_salt="one")), 0, other)
            self.assertEqual(server.stop(), 0)
        again = self.serve(redis)
        actual = self.answers(again, cache_salt="one")
        self.assertGreater(self.remote(actual), 0)
        self.assert_same(expected, actual)
        model = self.make_checkpoint(seed=1, hidden=256, intermediate=768, layers=4, heads=4,
                                     kv_heads=2, vocab=256, max_positions=2048)
        other_model = self.make_checkpoint(seed=2, hidden=256, intermediate=768, layers=4, heads=4,
                                           kv_heads=2, vocab=256, max_positions=2048)
        for checkpoint in (model, other_model):
            server = self.serve(redis, model=checkpoint)
            record = server.generate("x" * 600, max_tokens=4, ignore_eos=True)
            self.assertEqual(record["usage"]["cached_remote_tokens"], 0)
            self.assertEqual(server.stop(), 0)


class Load:
    """Streams that go on, one request after the other, until told to stop. Every answer is compared."""

    def __init__(self, server, texts, expected, streams=64):
        self.server = server
        self.jobs = list(zip(texts, expected))
        self.stopping = threading.Event()
        self.finished = 0
        self.problems = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(streams)]
        for thread in self._threads:
            thread.start()

    def _run(self, which):
        chance = random.Random(which)
        while not self.stopping.is_set():
            text, expected = chance.choice(self.jobs)
            try:
                record = self.server.generate(text, max_tokens=OUTPUT_TOKENS, ignore_eos=True)
            except AssertionError as error:
                self._note(str(error))
                continue
            same = record["output_ids"] == expected["output_ids"]
            self._note(None if same else f"another answer to {text[:20]!r}")

    def _note(self, problem):
        with self._lock:
            self.finished += 1
            if problem is not None:
                self.problems.append(problem)

    def stop(self):
        self.stopping.set()
        for thread in self._threads:
            thread.join()


class OutageTest(RemoteTestCase):
    def rate(self, load, seconds=2.0):
        before = load.finished
        redis_server.wait(seconds)
        return (load.finished - before) / seconds

    def test_redis_killed_and_restarted_under_64_streams(self):
        expected = self.reference()
        redis = self.redis()
        # Few blocks on host and device: much comes from the store.
        server = self.start_server("--device-kv-blocks=64", "--host-kv-blocks=24",
                                   f"--kv-remote-url={redis.url}")
        load = Load(server, prompts(), expected)
        try:
            before = self.rate(load)
            redis.kill()
            harness.wait_until(lambda: server.metric(STATE) == 2, "the breaker opens")
            during = self.rate(load)
            self.assertGreaterEqual(server.metric(OPENED), 1)
            self.assertGreater(server.metric(ERRORS, kind="connection"), 0)
            written = server.metric(BLOCKS, result="written")
            redis.start()
            harness.wait_until(lambda: server.metric(STATE) == 0, "the breaker closes")
            harness.wait_until(lambda: server.metric(BLOCKS, result="written") > written,
                               "blocks are written again")
            after = self.rate(load)
        finally:
            load.stop()
        print(f"requests/s before {before:.1f}, without Redis {during:.1f}, after {after:.1f}")
        self.assertEqual(load.problems, [])
        self.assertGreater(during, 0.2 * before)
        self.assertGreater(after, 0.4 * before)
        self.assertEqual(server.metric(CORRUPT), 0)
        self.assert_no_errors(server)
        self.assert_log(server, "is left alone until it answers")
        self.assert_log(server, "answers again")
        self.assertGreater(server.metric("sluice_kv_remote_breaker_trials_total"), 0)

    def test_redis_that_hangs_and_goes_on(self):
        expected = self.reference()
        redis = self.redis()
        server = self.serve(redis, "--kv-remote-timeout-ms=100")
        self.answers(server)
        self.settle(server)
        redis.pause()
        self.assert_same(expected, self.answers(server, [text + " " for text in prompts()]) and
                         self.answers(server))
        harness.wait_until(lambda: server.metric(STATE) != 0, "the breaker opens")
        self.assertGreater(server.metric(ERRORS, kind="timeout"), 0)
        redis.go_on()
        harness.wait_until(lambda: server.metric(STATE) == 0, "the breaker closes")
        self.assert_same(expected, self.answers(server))
        self.assert_no_errors(server)
        self.assertEqual(server.stop(), 0)

    def test_a_full_redis_that_evicts_nothing(self):
        expected = self.reference()
        redis = self.redis("--maxmemory", "6mb", "--maxmemory-policy", "noeviction")
        server = self.serve(redis)
        for _ in range(2):
            self.assert_same(expected, self.answers(server))
        self.assert_quiet(server)
        self.assertGreater(server.metric(ERRORS, kind="full"), 0)
        self.assertEqual(server.metric(STATE), 0)
        self.assert_no_errors(server)
        self.assert_log(server, "maxmemory-policy")
        again = self.serve(redis)  # it can still be read
        actual = self.answers(again)
        self.assert_same(expected, actual)
        self.assertGreater(self.remote(actual), 0)

    def test_a_redis_that_evicts_all_the_time(self):
        expected = self.reference()
        redis = self.redis("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru")
        servers = [self.serve(redis) for _ in range(2)]
        for _ in range(2):
            for server in servers:
                self.assert_same(expected, self.answers(server))
        for server in servers:
            self.assertEqual(server.metric(CORRUPT), 0)
            self.assertEqual(server.metric(STATE), 0)
            self.assert_no_errors(server)

    def test_redis_that_is_not_there_at_the_start(self):
        redis = self.redis()
        redis.kill()
        server = self.serve(redis)
        self.assertEqual(server.metric(STATE), 2)
        server.generate(prompts()[0], max_tokens=2)
        redis.start()
        harness.wait_until(lambda: server.metric(STATE) == 0, "the breaker closes")
        server.generate(prompts()[1], max_tokens=2, ignore_eos=True)
        harness.wait_until(lambda: server.metric(BLOCKS, result="written") > 0, "blocks are written")


@unittest.skipUnless(certificates.available(), "openssl is not installed")
class TlsTest(RemoteTestCase):
    def test_servers_share_through_tls_and_show_their_certificates(self):
        authority = certificates.Authority(self.temp_dir())
        redis = self.redis(tls=authority)  # demands a certificate of its clients
        certificate, key = authority.issue("sluice")
        flags = (f"--kv-remote-url={redis.tls_url}", f"--kv-remote-ca-file={authority.certificate}",
                 f"--kv-remote-cert-file={certificate}", f"--kv-remote-key-file={key}",
                 "--kv-remote-timeout-ms=2000")
        first = self.start_server(*POOLS, *flags)
        expected = self.answers(first)
        self.settle(first)
        self.assertEqual(first.stop(), 0)
        second = self.start_server(*POOLS, *flags)
        actual = self.answers(second)
        self.assert_same(expected, actual)
        self.assertGreater(self.remote(actual), 0)
        self.assertEqual(second.metric(CORRUPT), 0)

    def test_what_does_not_fit_is_told_at_the_start(self):
        authority = certificates.Authority(self.temp_dir())
        redis = self.redis(tls=authority)
        url, ca = f"--kv-remote-url={redis.tls_url}", f"--kv-remote-ca-file={authority.certificate}"
        slow = "--kv-remote-timeout-ms=5000"
        self.assertIn("is not trusted", self.refused(url, slow))
        self.assertIn("--kv-remote-cert-file", self.refused(url, ca, slow))
        self.assertIn("/nowhere", self.refused(url, "--kv-remote-ca-file=/nowhere", slow))
        self.assertIn("rediss://", self.refused(f"--kv-remote-url={redis.url}", ca))
        self.assertIn("--kv-remote-key-file", self.refused(url, ca, "--kv-remote-cert-file=c"))


class DamageTest(RemoteTestCase):
    def test_damaged_values_are_found_and_computed_again(self):
        redis = self.redis()
        first = self.serve(redis)
        expected = self.answers(first)
        self.settle(first)
        self.assertEqual(first.stop(), 0)
        for seed in (1, 2, 3):
            chance = random.Random(seed)
            keys = redis.keys()
            self.assertGreater(len(keys), 30)
            for key in keys:
                value = bytearray(redis.call("GET", key))
                at = chance.randrange(len(value))
                what = chance.randrange(8)
                if what == 0:
                    value = value[:at]
                elif what == 1:
                    value = bytearray(redis.call("GET", chance.choice([k for k in keys if k != key])))
                elif what < 6:
                    value[at] ^= 1 << chance.randrange(8)
                redis.call("SET", key, bytes(value))
            server = self.serve(redis)
            actual = self.answers(server)
            self.assert_same(expected, actual)
            self.assertGreater(server.metric(CORRUPT), 0, f"seed {seed}")
            self.assertEqual(server.metric(STATE), 0)
            self.assert_no_errors(server)
            self.settle(server)  # what was damaged has been written again
            self.assertEqual(server.stop(), 0)


class FlagsTest(RemoteTestCase):
    def test_passwords_come_from_a_file(self):
        redis = self.redis(password="open sesame")
        path = os.path.join(self.temp_dir(), "password")
        with open(path, "w", encoding="utf-8") as file:
            file.write("open sesame\n")
        url = f"--kv-remote-url={redis.url}"
        server = self.start_server(*POOLS, url, f"--kv-remote-password-file={path}")
        self.answers(server, prompts()[:2])
        self.settle(server)
        self.assertGreater(server.metric(BLOCKS, result="written"), 0)
        self.assertEqual(server.stop(), 0)
        with open(path, "w", encoding="utf-8") as file:
            file.write("wrong\n")
        said = self.refused(url, f"--kv-remote-password-file={path}")
        self.assertIn("--kv-remote-password-file", said)
        self.assertNotIn("wrong\n", said)
        self.assertIn("--kv-remote-password-file", self.refused(url))
        self.assertIn("/nowhere", self.refused(url, "--kv-remote-password-file=/nowhere"))

    def test_flags_that_make_no_sense_are_refused(self):
        redis = self.redis()
        url = f"--kv-remote-url={redis.url}"
        self.assertIn("--kv-remote-url", self.refused("--kv-remote-url=h:6379"))
        self.assertIn("file of its own", self.refused("--kv-remote-url=redis://a:b@h"))
        self.assertIn("--kv-remote-url", self.refused("--kv-remote-gib=1"))
        self.assertIn("host pool", self.refused(url, "--host-kv-blocks=0"))
        self.assertIn("prefix", self.refused(url, "--no-enable-prefix-caching"))
        self.assertIn("one block takes", self.refused(url, "--kv-remote-gib=1KiB"))


if __name__ == "__main__":
    harness.main()
