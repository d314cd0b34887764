#!/usr/bin/env python3
"""Offloading changes no answer: 64 prompts over 8 shared documents give the same greedy tokens
whether their KV cache fits, moves between device and host, or moves over a slow link."""

import unittest

import harness

DOCUMENT_CHARACTERS = 1300
OUTPUT_TOKENS = 24
QUESTIONS = (
    "\n\nWhat happened first was", "\n\nThe next morning", "\n\n\"Tell me,\" said she,",
    "\n\nAnd the people answered", "\n\nIt was a question of", "\n\nNothing could be more",
    "\n\nIn that year", "\n\nAt last he said")

# About 16 blocks of 32 tokens a prompt: eight run side by side in the large pool only.
LARGE = ("--device-kv-blocks=1500", "--host-kv-blocks=0")
SMALL = ("--device-kv-blocks=48", "--host-kv-blocks=96")
ALWAYS_LOAD = "--policy=fcfs"  # slack computes instead where the link is slower than that


def prompts():
    """Eight documents with eight questions each, in an order in which documents take turns."""
    texts = list(harness.demo_texts().values())
    documents = []
    for start in range(0, 4 * DOCUMENT_CHARACTERS, DOCUMENT_CHARACTERS):
        documents += [text[start:start + DOCUMENT_CHARACTERS] for text in texts
                      if len(text) >= start + DOCUMENT_CHARACTERS]
    assert len(documents) >= 8, "the demo prompts are too short"
    return [document + question for question in QUESTIONS for document in documents[:8]]


class OffloadEquivalenceTest(harness.TestCase):
    def answers(self, *arguments):
        """Output ids of all prompts, and the metrics afterwards."""
        server = self.start_server(*arguments)
        records = server.generate_all(prompts(), concurrency=8, max_tokens=OUTPUT_TOKENS,
                                      ignore_eos=True)
        self.assert_quiet(server)
        metrics = server.metrics()
        self.assertEqual(server.stop(), 0)
        for record in records:
            self.assertEqual(len(record["output_ids"]), OUTPUT_TOKENS)
        return [record["output_ids"] for record in records], metrics

    def assert_bytes_moved(self, metrics):
        moved = "sluice_kv_transfer_bytes_total"
        self.assertGreater(metrics.value(moved, src="device", dst="host"), 0)
        self.assertGreater(metrics.value(moved, src="host", dst="device"), 0)
        self.assertGreater(metrics.value("sluice_prompt_tokens_total", source="host"), 0)

    def assert_same(self, expected, actual):
        different = [i for i, (a, b) in enumerate(zip(expected, actual)) if a != b]
        detail = "".join(f"\nprompt {i}: {expected[i]}\n      now: {actual[i]}"
                         for i in different[:3])
        self.assertFalse(different, f"{len(different)} of {len(expected)} answers differ{detail}")

    def check(self, *dtype):
        expected, resident = self.answers(*LARGE, *dtype)
        self.assertEqual(resident.value("sluice_kv_transfer_bytes_total"), 0)
        self.assertGreater(resident.value("sluice_prompt_tokens_total", source="device"), 0)
        computed = resident.value("sluice_prompt_tokens_total", source="computed")

        actual, offloaded = self.answers(*SMALL, *dtype, ALWAYS_LOAD)
        self.assert_same(expected, actual)
        self.assert_bytes_moved(offloaded)
        self.assertGreater(offloaded.value("sluice_kv_block_evictions_total", tier="device"), 0)
        # The host pool is too small as well: some of it was computed again.
        self.assertGreater(offloaded.value("sluice_prompt_tokens_total", source="computed"), computed)

        actual, _ = self.answers(*SMALL, *dtype, "--link-gbps=0.2")  # loads, splits, recomputes
        self.assert_same(expected, actual)

        actual, paced = self.answers(*SMALL, *dtype, "--link-gbps=0.05", ALWAYS_LOAD)
        self.assert_same(expected, actual)
        self.assert_bytes_moved(paced)
        self.assertEqual(paced.value("sluice_config_info", link_emulated="true"), 1)
        for src, dst in (("host", "device"), ("device", "host")):
            sent = paced.value("sluice_kv_transfer_bytes_total", src=src, dst=dst)
            busy = paced.value("sluice_kv_transfer_busy_seconds_total", src=src, dst=dst)
            self.assertLess(sent / busy, 0.05e9 * 1.05, f"{src} to {dst} is faster than its link")

    def test_checkpoint_dtype(self):
        self.check()

    def test_f32(self):
        self.check("--dtype=f32")

    def test_without_prefix_cache(self):
        expected, _ = self.answers(*LARGE)
        actual, metrics = self.answers(*LARGE, "--no-enable-prefix-caching")
        self.assert_same(expected, actual)
        self.assertEqual(metrics.value("sluice_prompt_tokens_total", source="device"), 0)


class PreemptionTest(harness.TestCase):
    """A high-priority request takes the blocks of a running one, whose answer stays the same."""

    # Needs 22 of the small pool's 23 blocks in the end: two such requests take everything from each
    # other.
    LONG = dict(max_tokens=300, ignore_eos=True)

    def start_server(self, *arguments, **values):
        return super().start_server(*arguments, model=harness.slow_model(), **values)

    def check(self, *arguments):
        prompt, other = (document[:400] for document in prompts()[:2])
        relaxed = self.start_server("--device-kv-blocks=100", "--host-kv-blocks=0")
        expected = relaxed.generate(prompt, **self.LONG)
        self.assertEqual(relaxed.stop(), 0)

        server = self.start_server("--device-kv-blocks=23", *arguments)
        low = server.start_client("generate", prompt=prompt, temperature=0, json=True, **self.LONG)
        harness.wait_until(lambda: server.metric("sluice_generated_tokens_total") > 10, "tokens")
        urgent = server.generate(other, priority=10, **self.LONG)
        self.assertEqual(len(urgent["output_ids"]), self.LONG["max_tokens"])
        out, err = low.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(low.returncode, 0, err)
        record = harness.last_json(out)
        self.assertGreater(record["timing"]["preemptions"], 0)
        self.assertEqual(record["output_ids"], expected["output_ids"])
        self.assert_quiet(server)
        return record

    def test_swapped_to_the_host(self):
        # Else it may be attended to where it lies, and nothing would be loaded.
        record = self.check("--host-kv-blocks=200", "--attend-in-place=off")
        self.assertGreater(record["usage"]["loaded_bytes"], 0)

    def test_swapped_to_the_host_and_used_there_or_loaded(self):
        self.check("--host-kv-blocks=200")

    def test_recomputed(self):
        record = self.check("--host-kv-blocks=0")
        self.assertGreater(record["usage"]["recomputed_tokens"], 0)


if __name__ == "__main__":
    harness.main()
