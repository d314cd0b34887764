"""What the end-to-end tests of the emulated GPU's server share: a small random model, and its answers."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "e2e"))

import harness  # pylint: disable=wrong-import-position

OUTPUT_TOKENS = 6
DOCUMENT_CHARACTERS = 76
QUESTIONS = (" First,", " Then the", " Why did")

# Blocks of 16 tokens, 6 a request: four run side by side in the large pool only.
LARGE = ("--device-kv-blocks=120", "--host-kv-blocks=0")
SMALL = ("--device-kv-blocks=14", "--host-kv-blocks=60")
# Under costs like these blocks stay where they are.
SLOW_LINK = os.path.join(harness.ROOT, "deploy", "profiles", "hardware", "cpu-default.json")


def prompts():
    """Four documents with three questions each, in an order in which documents take turns."""
    text = list(harness.demo_texts().values())[0]
    documents = [text[start:start + DOCUMENT_CHARACTERS]
                 for start in range(0, 4 * DOCUMENT_CHARACTERS, DOCUMENT_CHARACTERS)]
    return [document + question for question in QUESTIONS for document in documents]


class EmulatedServerTestCase(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = harness.make_checkpoint(
            harness.tempfile.mkdtemp(prefix="sluice_e2e_"), hidden=64, intermediate=128, layers=2,
            heads=2, kv_heads=1, head_dim=64, vocab=256, max_positions=512, dtype="bf16")

    @classmethod
    def tearDownClass(cls):
        harness.shutil.rmtree(cls.model, ignore_errors=True)

    def start_server(self, *arguments, **values):
        values = {"model": self.model} | values
        return super().start_server("--backend=cuda", "--block-size=16", *arguments, **values)

    def answers(self, *arguments):
        """Output ids of all prompts, the metrics afterwards, and how many tokens of KV were attended
        to in host memory."""
        server = self.start_server(*arguments)
        records = server.generate_all(prompts(), concurrency=4, max_tokens=OUTPUT_TOKENS,
                                      ignore_eos=True)
        self.assert_quiet(server)
        metrics = server.metrics()
        self.assertEqual(server.stop(), 0)
        for record in records:
            self.assertEqual(len(record["output_ids"]), OUTPUT_TOKENS)
        in_place = sum(record["usage"]["attended_in_place_tokens"] for record in records)
        return [record["output_ids"] for record in records], metrics, in_place
