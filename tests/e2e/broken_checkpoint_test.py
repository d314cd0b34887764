#!/usr/bin/env python3
"""Whatever is wrong with a model directory, `sluice serve` exits 1 with one clear line."""

import json
import os
import random
import shutil
import struct
import unittest

import harness


def read_safetensors(path):
    """(header as dict, data bytes) of a safetensors file."""
    with open(path, "rb") as file:
        blob = file.read()
    size = struct.unpack("<Q", blob[:8])[0]
    return json.loads(blob[8:8 + size]), blob[8 + size:]


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def a_tensor(header):
    return next(name for name in sorted(header) if name.endswith("q_proj.weight"))


def config_cases(config):
    """Name -> new config.json, as text."""

    def changed(**values):
        return json.dumps(config | values)

    def without(name):
        return json.dumps({key: value for key, value in config.items() if key != name})

    return {
        "empty": "",
        "cut": json.dumps(config)[:100],
        "not json": "model: llama",
        "an array": "[]",
        "no architectures": without("architectures"),
        "unknown architecture": changed(architectures=["FooForCausalLM"]),
        "no hidden_size": without("hidden_size"),
        "negative layers": changed(num_hidden_layers=-1),
        "zero heads": changed(num_attention_heads=0),
        "layers as text": changed(num_hidden_layers="six"),
        "huge hidden_size": changed(hidden_size=2**40),
        "hidden_size of another model": changed(hidden_size=config["hidden_size"] + 64),
        "heads not a multiple of kv heads": changed(num_key_value_heads=5),
        "odd head_dim": changed(head_dim=31),
        "vocabulary of another model": changed(vocab_size=config["vocab_size"] + 1),
        "more layers than weights": changed(num_hidden_layers=config["num_hidden_layers"] + 1),
        "unknown rope": changed(rope_scaling={"rope_type": "spiral", "factor": 2.0}),
        "unknown activation": changed(hidden_act="relu6"),
        "nan epsilon": json.dumps(config).replace(str(config["rms_norm_eps"]), "NaN"),
    }


def weight_cases(header, data):
    """Name -> new model.safetensors, as bytes."""
    name = a_tensor(header)

    def changed(**values):
        return safetensors(header | {name: header[name] | values}, data)

    def without(*gone):
        return safetensors({key: value for key, value in header.items() if key not in gone}, data)

    whole = safetensors(header, data)
    begin, end = header[name]["data_offsets"]
    shape = header[name]["shape"]
    cases = {
        "empty file": b"",
        "three bytes": whole[:3],
        "header only": whole[:-len(data)],
        "one byte short": whole[:-1],
        "header length 2^63": struct.pack("<Q", 2**63) + whole[8:],
        "header length past the end": struct.pack("<Q", len(whole)) + whole[8:],
        "header of zeros": struct.pack("<Q", 64) + bytes(64) + data,
        "header not json": safetensors(b"{not json", data),
        "header an array": safetensors(b"[1, 2]", data),
        "tensor not an object": safetensors(header | {name: 3}, data),
        "tensor missing": without(name),
        "embedding missing": without("model.embed_tokens.weight"),
        "unknown dtype": changed(dtype="F4"),
        "shape transposed in size": changed(shape=[shape[0] * 2, shape[1]]),
        "shape negative": changed(shape=[-shape[0], -shape[1]]),
        "shape overflowing": changed(shape=[2**62, 2**62]),
        "shape as text": changed(shape="6x192"),
        "one dimension": changed(shape=[shape[0] * shape[1]]),
        "offsets backwards": changed(data_offsets=[end, begin]),
        "offsets past the end": changed(data_offsets=[begin, len(data) + 64]),
        "offsets negative": changed(data_offsets=[-8, end]),
        "offsets of another size": changed(data_offsets=[begin, end - 2]),
        "offsets missing": safetensors(
            header | {name: {"dtype": header[name]["dtype"], "shape": shape}}, data),
    }
    generator = random.Random(1)
    for _ in range(8):
        size = generator.randrange(1, len(whole))
        cases[f"cut to {size} bytes (seed 1)"] = whole[:size]
    return cases


class BrokenCheckpointTest(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = self.temp_dir()

    def model_with(self, name, content):
        """A copy of the demo model in which `name` has `content` (None: is missing)."""
        model = os.path.join(self.folder, "model")
        shutil.rmtree(model, ignore_errors=True)
        os.mkdir(model)
        for entry in os.listdir(harness.DEMO_MODEL):
            os.symlink(os.path.join(harness.DEMO_MODEL, entry), os.path.join(model, entry))
        path = os.path.join(model, name)
        if os.path.lexists(path):
            os.remove(path)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
        return model

    def assert_refused(self, model, mention):
        done = harness.run_sluice("serve", "--model", model, "--port=0", "--metrics-port=0",
                                  "--log-level=error")
        said = [line for line in done.stderr.split("\n") if line.strip()]
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(len(said), 1, done.stderr)
        self.assertIn(mention, said[0])
        self.assertLess(len(said[0]), 1000)

    def test_config(self):
        with open(os.path.join(harness.DEMO_MODEL, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        for name, text in config_cases(config).items():
            with self.subTest(name):
                self.assert_refused(self.model_with("config.json", text), "")

    def test_weights(self):
        cases = weight_cases(*read_safetensors(
            os.path.join(harness.DEMO_MODEL, "model.safetensors")))
        for name, blob in cases.items():
            with self.subTest(name):
                self.assert_refused(self.model_with("model.safetensors", blob), "model.safetensors")

    def test_tokenizer(self):
        with open(os.path.join(harness.DEMO_MODEL, "tokenizer.json"), encoding="utf-8") as file:
            text = file.read()
        tokenizer = json.loads(text)
        for name, content in {
                "empty": "",
                "cut": text[:len(text) // 2],
                "not json": "hello",
                "an array": "[]",
                "no model": json.dumps(tokenizer | {"model": None}),
                "unknown model": json.dumps(tokenizer | {"model": {"type": "Unigram"}}),
                "vocabulary as list": json.dumps(
                    tokenizer | {"model": tokenizer["model"] | {"vocab": [1]}}),
                "merge of unknown tokens": json.dumps(
                    tokenizer | {"model": tokenizer["model"] | {"merges": ["\u00ff\u00ff \u00fe"]}}),
        }.items():
            with self.subTest(name):
                self.assert_refused(self.model_with("tokenizer.json", content), "tokenizer.json")

    def test_missing_files_and_folders(self):
        self.assert_refused(self.model_with("config.json", None), "config.json")
        self.assert_refused(self.model_with("model.safetensors", None), "safetensors")
        self.assert_refused(self.model_with("generation_config.json", "{"), "generation_config.json")
        self.assert_refused(os.path.join(self.folder, "nothing"), "nothing")
        self.assert_refused(os.path.join(harness.DEMO_MODEL, "config.json"), "config.json")

    def test_index_that_names_a_missing_shard(self):
        model = self.model_with("model.safetensors", None)
        with open(os.path.join(model, "model.safetensors.index.json"), "w",
                  encoding="utf-8") as file:
            json.dump({"weight_map": {"model.embed_tokens.weight": "model-00001.safetensors"}}, file)
        self.assert_refused(model, "model-00001.safetensors")


if __name__ == "__main__":
    harness.main()
