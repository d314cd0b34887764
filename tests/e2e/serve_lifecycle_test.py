#!/usr/bin/env python3
"""A server starts, answers, drains and stops; and says clearly why when it cannot."""

import os
import signal
import socket
import unittest

import harness

PROMPT = "In the beginning"


class LifecycleTest(harness.TestCase):
    def test_generate_reports_every_field(self):
        server = self.start_server()
        record = server.generate(PROMPT, max_tokens=12, ignore_eos=True)
        self.assertEqual(len(record["output_ids"]), 12)
        self.assertTrue(record["text"])
        self.assertEqual(record["finish_reason"], "length")
        usage, timing = record["usage"], record["timing"]
        self.assertEqual(usage["output_tokens"], 12)
        self.assertGreater(usage["prompt_tokens"], 0)
        cached = sum(usage[f"cached_{tier}_tokens"] for tier in ("device", "host", "disk", "remote"))
        self.assertEqual(cached + usage["computed_tokens"], usage["prompt_tokens"])
        self.assertLessEqual(0, timing["queue_s"])
        self.assertLess(0, timing["ttft_s"])
        self.assertLessEqual(timing["ttft_s"], timing["total_s"])
        self.assertGreaterEqual(timing["load_exposed_s"], 0)
        self.assertIn(timing["plan"], ("resident", "load", "recompute"))
        self.assertEqual(timing["link_emulated"], False)

    def test_same_prompt_same_tokens_as_text_and_as_ids(self):
        server = self.start_server()
        first = server.generate(PROMPT, max_tokens=8, ignore_eos=True)
        again = server.generate(PROMPT, max_tokens=8, ignore_eos=True)
        self.assertEqual(first["output_ids"], again["output_ids"])
        done = server.client("generate", prompt_ids="5,6,7", max_tokens=4, temperature=0, json=True,
                             ignore_eos=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(harness.last_json(done.stdout)["output_ids"]), 4)

    def test_same_seed_same_sample(self):
        server = self.start_server()
        values = dict(max_tokens=16, ignore_eos=True, temperature=1.0, seed=7)
        first, second = server.generate(PROMPT, **values), server.generate(PROMPT, **values)
        self.assertEqual(first["output_ids"], second["output_ids"])
        self.assertEqual(first["seed"], 7)

    def test_stop_text_ends_the_output_before_it(self):
        server = self.start_server()
        whole = server.generate(PROMPT, max_tokens=40, ignore_eos=True)["text"]
        stop = next(word for word in whole.split()[2:] if word.isalpha())
        record = server.generate(PROMPT, max_tokens=40, ignore_eos=True, stop=stop)
        self.assertEqual(record["finish_reason"], "stop")
        self.assertEqual(record["text"], whole[:whole.index(stop)])

    def test_sigterm_lets_a_running_request_finish_and_exits_0(self):
        server = self.start_server(model=harness.slow_model())
        client = server.start_client("generate", prompt=PROMPT, max_tokens=400, ignore_eos=True,
                                     temperature=0, json=True)
        harness.wait_until(lambda: server.metric("sluice_generated_tokens_total") > 5, "tokens")
        server.signal(signal.SIGTERM)
        out, err = client.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(client.returncode, 0, err)
        self.assertEqual(len(harness.last_json(out)["output_ids"]), 400)
        self.assertEqual(server.wait(), 0)

    def test_sigterm_refuses_new_requests(self):
        server = self.start_server(model=harness.slow_model())
        client = server.start_client("generate", prompt=PROMPT, max_tokens=800, ignore_eos=True,
                                     temperature=0, json=True)
        harness.wait_until(lambda: server.metric("sluice_generated_tokens_total") > 5, "tokens")
        server.signal(signal.SIGTERM)
        harness.wait_until(lambda: any("drain" in line.lower() for line in server.lines),
                           "a log line about draining")
        late = server.client("generate", prompt=PROMPT, max_tokens=1, connect_timeout=2)
        self.assertEqual(late.returncode, 1)
        self.assertIn("UNAVAILABLE", late.stderr)
        self.assertIsNone(client.poll(), "the running request ended too early for this test")
        self.assertEqual(client.wait(60 * harness.PATIENCE), 0)
        client.communicate()
        self.assertEqual(server.wait(), 0)

    def test_a_second_server_on_the_port_says_so(self):
        server = self.start_server()
        second = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, f"--port={server.port}",
                                    "--metrics-port=0")
        self.assertEqual(second.returncode, 1)
        self.assertIn(str(server.port), second.stderr)
        self.assertEqual(len(server.generate(PROMPT, max_tokens=1)["output_ids"]), 1)

    def test_a_taken_metrics_port_says_so(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0",
                                      f"--metrics-port={port}")
        self.assertEqual(done.returncode, 1)
        self.assertIn(str(port), done.stderr)

    def test_no_server_says_so(self):
        done = harness.run_sluice("generate", "--endpoint=127.0.0.1:1", "--connect-timeout=0.2",
                                  "--prompt=x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("127.0.0.1:1", done.stderr)


class CommandLineTest(harness.TestCase):
    def assert_usage_error(self, arguments, *expected):
        with self.subTest(arguments=arguments):
            done = harness.run_sluice(*arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            for text in expected:
                self.assertIn(text, done.stderr)

    def test_bad_command_lines_exit_2_and_name_the_flag(self):
        model = ("serve", "--model", harness.DEMO_MODEL)
        for arguments, expected in [
                (("serve",), "--model"),
                (("surve",), "serve"),
                ((*model, "--port=70000"), "--port"),
                ((*model, "--port=abc"), "--port"),
                ((*model, "--block-size=33"), "--block-size"),
                ((*model, "--dtype=f8"), "--dtype"),
                ((*model, "--link-gbps=-1"), "--link-gbps"),
                ((*model, "--host-kv-gib=much"), "--host-kv-gib"),
                ((*model, "--device-kv-gib=1", "--device-kv-blocks=2"), "--device-kv-blocks"),
                (("generate",), "--prompt"),
                (("generate", "--prompt=x", "--prompt-ids=1"), "--prompt"),
                (("generate", "--prompt=x", "--endpoint=nowhere"), "--endpoint"),
                (("generate", "--prompt=x", "--max-tokens=0"), "--max-tokens")]:
            self.assert_usage_error(arguments, expected)

    def test_an_unknown_flag_gets_a_suggestion(self):
        self.assert_usage_error(("serve", "--model", harness.DEMO_MODEL, "--devise-kv-blocks=4"),
                                "--devise-kv-blocks", "--device-kv-blocks")

    def test_the_config_file_is_checked_and_flags_win(self):
        path = os.path.join(self.temp_dir(), "sluice.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write("max-num-seq: 4\n")
        self.assert_usage_error(("serve", "--model", harness.DEMO_MODEL, "--config", path),
                                "max-num-seq", "max-num-seqs", path)
        with open(path, "w", encoding="utf-8") as file:
            file.write("device-kv-blocks: 40\nblock-size: 16\n")
        server = self.start_server("--config", path, "--device-kv-blocks=50")
        self.assertEqual(server.metric("sluice_config_info", block_size="16", device_blocks="50"), 1)

    def test_help_names_commands_flags_and_exits_0(self):
        done = harness.run_sluice("--help")
        self.assertEqual(done.returncode, 0)
        for command in ("serve", "generate", "chat", "bench", "demo"):
            self.assertIn(command, done.stdout)
        done = harness.run_sluice("serve", "--help")
        self.assertEqual(done.returncode, 0)
        for flag in ("--model", "--host", "--port", "--metrics-port", "--dtype", "--max-model-len",
                     "--block-size", "--device-kv-gib", "--device-kv-blocks", "--host-kv-gib",
                     "--link-gbps", "--threads"):
            self.assertIn(flag, done.stdout)


if __name__ == "__main__":
    harness.main()
