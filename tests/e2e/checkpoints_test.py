#!/usr/bin/env python3
"""Checkpoints that are not in the repository load and answer: every architecture, odd shapes, shards."""

import os
import unittest

import harness

SHAPES = {
    "head_dim 8": dict(hidden=32, heads=4, kv_heads=1, head_dim=8),
    "head_dim 16, prime sizes": dict(hidden=48, intermediate=101, heads=3, kv_heads=3, head_dim=16,
                                     vocab=257),
    "qwen3": dict(architecture="Qwen3ForCausalLM", heads=4, kv_heads=2, head_dim=32),
    "qwen2, bf16": dict(architecture="Qwen2ForCausalLM", dtype="bf16"),
    "mistral, three shards": dict(architecture="MistralForCausalLM", shards=3),
    "f16": dict(dtype="f16"),
    "llama3 rope": dict(rope="llama3", rope_factor=8.0, rope_original_positions=256),
}


class CheckpointsTest(harness.TestCase):
    def test_without_a_tokenizer_token_ids_work_and_text_is_refused(self):
        model = self.make_checkpoint()
        os.remove(os.path.join(model, "tokenizer.json"))
        server = self.start_server("--device-kv-gib=64MiB", "--host-kv-gib=0", model=model)
        done = server.client("generate", prompt_ids="1,2,3", max_tokens=4, json=True, temperature=0,
                             ignore_eos=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(harness.last_json(done.stdout)["output_ids"]), 4)
        refused = server.client("generate", prompt="some text", max_tokens=4)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("tokenizer.json", refused.stderr)

    def test_random_models_answer_token_ids(self):
        for name, shape in SHAPES.items():
            with self.subTest(name):
                server = self.start_server("--device-kv-gib=64MiB", "--host-kv-gib=0",
                                           model=self.make_checkpoint(**shape))
                done = server.client("generate", prompt_ids="1,2,3,4,5", max_tokens=6, json=True,
                                     temperature=0, ignore_eos=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                record = harness.last_json(done.stdout)
                self.assertEqual(len(record["output_ids"]), 6)
                self.assertEqual(record["usage"]["prompt_tokens"], 5)
                self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    harness.main()
