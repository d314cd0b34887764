#!/usr/bin/env python3
"""sluice cache warm, evict and stats against real servers: what is warmed is hit, what is evicted is
computed again, pins hold under pressure and end in time, and nobody touches another tenant's KV."""

import json
import os
import time
import unittest

import harness
from kv_restart_test import POOLS, prompts

OUTPUT_TOKENS = 8
PIN = 600


class CacheControlTestCase(harness.TestCase):
    def cache(self, server, action, *arguments, **values):
        done = server.client("cache", f"--action={action}", *arguments, **values)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def warm(self, server, prompt, **values):
        return json.loads(self.cache(server, "warm", f"--prompt={prompt}", json=True, **values))

    def evict(self, server, *arguments, **values):
        """{tier: its part of the answer}, and the whole answer."""
        answer = json.loads(self.cache(server, "evict", *arguments, json=True, **values))
        return {tier["tier"]: tier for tier in answer["tiers"]}, answer

    def stats(self, server):
        answer = json.loads(self.cache(server, "stats", json=True))
        return {tier["tier"]: tier for tier in answer["tiers"]}, answer

    def generate(self, server, prompt, **values):
        return server.generate(prompt, **({"max_tokens": OUTPUT_TOKENS, "ignore_eos": True} | values))

    def press(self, server, count=12):
        """Many other prompts: more than the device holds."""
        for prompt in prompts(count + 1)[1:]:
            self.generate(server, prompt)
        self.assert_quiet_but_pins(server)

    def assert_quiet_but_pins(self, server):
        def quiet():
            found = server.metrics()
            return (found.value("sluice_requests_running") == 0
                    and found.value("sluice_kv_transfer_inflight_bytes") == 0)

        harness.wait_until(quiet, "no request and no copy")


class WarmTest(CacheControlTestCase):
    def test_what_is_warmed_is_hit_on_the_device(self):
        server = self.start_server(*POOLS)
        prompt = prompts()[0]
        expected = self.generate(server, prompt)
        whole = expected["usage"]["prompt_tokens"] // 32 * 32
        self.press(server, count=3)
        self.evict(server, f"--prompt={prompt}", "--from=device")
        answer = self.warm(server, prompt)
        self.assertEqual(answer["ready_tokens"], whole)
        self.assertEqual(answer["computed_tokens"], 0)
        again = self.generate(server, prompt)
        self.assertEqual(again["output_ids"], expected["output_ids"])
        self.assertGreaterEqual(again["usage"]["cached_device_tokens"], whole - 32)
        self.assertEqual(again["usage"]["cached_host_tokens"], 0)

    def test_what_is_cached_nowhere_is_told_or_computed(self):
        reference = self.start_server(*POOLS)
        prompt = prompts()[0]
        expected = self.generate(reference, prompt)
        tokens = expected["usage"]["prompt_tokens"]
        self.assertEqual(reference.stop(), 0)

        server = self.start_server(*POOLS)
        cold = self.warm(server, prompt)
        self.assertEqual(cold["missing_tokens"], tokens)
        self.assertEqual(cold["ready_tokens"], 0)
        hot = self.warm(server, prompt, compute=True, pin=PIN)
        self.assertEqual(hot["computed_tokens"], tokens)
        self.assertEqual(hot["ready_tokens"], tokens // 32 * 32)
        self.assertEqual(hot["pinned_tokens"], tokens // 32 * 32)
        self.assertGreater(hot["pinned_s"], PIN - 60)
        record = self.generate(server, prompt)
        self.assertEqual(record["output_ids"], expected["output_ids"])
        self.assertGreaterEqual(record["usage"]["cached_device_tokens"], tokens // 32 * 32 - 32)

    def test_a_pin_survives_pressure_and_the_same_prompt_without_one_does_not(self):
        for pin in (0, PIN):
            with self.subTest(pin=pin):
                server = self.start_server("--device-kv-blocks=64", "--host-kv-blocks=16")
                prompt = prompts()[0]
                self.generate(server, prompt)
                pinned = self.warm(server, prompt, pin=pin)["pinned_tokens"]
                self.press(server)
                tiers, _ = self.stats(server)
                self.assertEqual(tiers["device"]["pinned_blocks"], str(pinned // 32))
                self.assertGreater(int(tiers["device"]["evicted_blocks"]), 0)
                found = self.generate(server, prompt)["usage"]["cached_device_tokens"]
                if pin:
                    self.assertGreaterEqual(found, pinned - 32)
                    self.assertGreater(found, 0)
                else:
                    self.assertEqual(found, 0)
                self.assertEqual(server.stop(), 0)

    def test_a_pin_ends_in_time(self):
        server = self.start_server(*POOLS)
        prompt = prompts()[0]
        self.generate(server, prompt)
        self.assertGreater(self.warm(server, prompt, pin=1)["pinned_tokens"], 0)
        harness.wait_until(lambda: self.stats(server)[0]["device"]["pinned_blocks"] == "0",
                           "the end of the pin")
        self.assert_quiet(server)  # without any request meanwhile

    def test_pins_yield_to_a_request_that_needs_their_room(self):
        server = self.start_server("--device-kv-blocks=24", "--host-kv-blocks=48")
        prompt = prompts()[0][:400]
        self.generate(server, prompt)
        self.assertGreater(self.warm(server, prompt, pin=PIN)["pinned_tokens"], 0)
        start = time.monotonic()
        record = self.generate(server, "y" * 40, max_tokens=700)  # nearly the whole device
        self.assertEqual(len(record["output_ids"]), 700)
        self.assertLess(time.monotonic() - start, 60 * harness.PATIENCE)
        _, answer = self.stats(server)
        self.assertGreater(int(answer["pins_yielded"]), 0)

    def test_too_many_pins_are_refused(self):
        server = self.start_server("--device-kv-blocks=24", "--host-kv-blocks=48")
        ids = ",".join(str(i) for i in range(1, 481))  # 15 blocks
        done = server.client("cache", "--action=warm", f"--prompt-ids={ids}", "--compute",
                             f"--pin={PIN}")
        self.assertEqual(done.returncode, 1)
        self.assertIn("RESOURCE_EXHAUSTED", done.stderr)
        self.assertIn("12 may be", done.stderr)


class EvictTest(CacheControlTestCase):
    def test_an_evicted_prompt_is_computed_again(self):
        server = self.start_server(*POOLS)
        prompt = prompts()[0]
        expected = self.generate(server, prompt)
        self.assert_quiet_but_pins(server)
        tiers, _ = self.evict(server, f"--prompt={prompt}")
        whole = expected["usage"]["prompt_tokens"] // 32
        self.assertGreaterEqual(int(tiers["device"]["dropped_blocks"]), whole)
        self.assertGreaterEqual(int(tiers["host"]["dropped_blocks"]), whole)
        again = self.generate(server, prompt)
        self.assertEqual(again["usage"]["computed_tokens"], expected["usage"]["prompt_tokens"])
        self.assertEqual(again["output_ids"], expected["output_ids"])

    def test_everything_leaves_every_tier_and_does_not_come_back_after_a_restart(self):
        directory = self.temp_dir()
        arguments = (*POOLS, f"--kv-disk-dir={directory}", "--kv-disk-gib=64MiB")
        server = self.start_server(*arguments)
        for prompt in prompts()[:4]:
            self.generate(server, prompt)
        harness.wait_until(lambda: int(self.stats(server)[0]["disk"]["blocks"].get("cached", 0)) > 20,
                           "blocks on the disk")
        self.assert_quiet_but_pins(server)
        tiers, _ = self.evict(server, everything=True)
        self.assertGreater(int(tiers["disk"]["dropped_blocks"]), 20)
        after, _ = self.stats(server)
        for tier in ("device", "host", "disk"):
            self.assertEqual(after[tier]["used_bytes"], "0", tier)
        self.assertEqual(server.stop(), 0)
        again = self.start_server(*arguments)
        record = self.generate(again, prompts()[0])
        self.assertEqual(record["usage"]["computed_tokens"], record["usage"]["prompt_tokens"])

    def test_a_domain_is_that_of_its_salt(self):
        server = self.start_server(*POOLS)
        prompt = prompts()[0]
        self.generate(server, prompt, cache_salt="one")
        self.generate(server, prompt, cache_salt="two")
        self.evict(server, domain=True, cache_salt="one")
        one = self.generate(server, prompt, cache_salt="one")["usage"]
        two = self.generate(server, prompt, cache_salt="two")["usage"]
        self.assertEqual(one["computed_tokens"], one["prompt_tokens"])
        self.assertGreater(two["cached_device_tokens"], 0)


class AccessTest(CacheControlTestCase):
    def setUp(self):
        super().setUp()
        folder = self.temp_dir()
        tokens = {"ann": "a" * 32, "bob": "b" * 32, "root": "r" * 32}
        self.files = {}
        for name, token in tokens.items():
            self.files[name] = os.path.join(folder, name)
            with open(self.files[name], "w", encoding="utf-8") as file:
                file.write(token)
        table = os.path.join(folder, "tokens")
        with open(table, "w", encoding="utf-8") as file:
            file.write(f"{tokens['ann']} ann\n{tokens['bob']} bob\n{tokens['root']} root admin\n")
        os.chmod(table, 0o600)
        self.server = self.start_server(*POOLS, f"--auth-token-file={table}")

    def call(self, who, action, *arguments):
        return self.server.client("cache", f"--action={action}", f"--token-file={self.files[who]}",
                                  "--json", *arguments)

    def test_tenants_touch_only_their_own(self):
        prompt = prompts()[0]
        ann = self.generate(self.server, prompt, token_file=self.files["ann"])["usage"]
        warmed = self.call("bob", "warm", f"--prompt={prompt}")
        self.assertEqual(json.loads(warmed.stdout)["missing_tokens"], ann["prompt_tokens"])
        for arguments in ((f"--prompt={prompt}",), ("--domain",)):
            evicted = json.loads(self.call("bob", "evict", *arguments).stdout)
            self.assertEqual({tier["dropped_blocks"] for tier in evicted["tiers"]}, {"0"})
        again = self.generate(self.server, prompt, token_file=self.files["ann"])["usage"]
        self.assertGreater(again["cached_device_tokens"], 0)

        refused = self.call("bob", "evict", "--domain", "--tenant=ann")
        self.assertIn("PERMISSION_DENIED", refused.stderr)
        for action, arguments in (("evict", ("--everything",)), ("stats", ())):
            refused = self.call("bob", action, *arguments)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("admin", refused.stderr)
        self.assertEqual(self.call("root", "stats").returncode, 0)
        evicted = json.loads(self.call("root", "evict", "--everything").stdout)
        self.assertNotEqual(evicted["tiers"][0]["dropped_blocks"], "0")


class UsageTest(CacheControlTestCase):
    def test_wrong_usage_exits_2(self):
        for arguments, expected in ((("warm",), "--prompt"),
                                    (("evict",), "--everything"),
                                    (("evict", "--domain", "--everything"), "exactly one"),
                                    (("warm", "--prompt=x", "--tier=disk"), "--tier"),
                                    (("warm", "--prompt=x", "--pin=-1"), "--pin")):
            done = harness.run_sluice("cache", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(expected, done.stderr)


if __name__ == "__main__":
    harness.main()
