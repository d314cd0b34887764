#!/usr/bin/env python3
"""A whole server on the emulated GPU with two steps in flight: the same answers as with one, stops,
cancelled clients and a lost device while the next step runs.

Run by hand: python3 tests/cuda_on_cpu/server/ahead_test.py --sluice .../sluice_cuda_emulated
    --make-checkpoint .../make_random_checkpoint
"""

import signal

import emulated_server
from emulated_server import harness

PROMPTS = ("First came the rain, and", "Nobody knew that", "It was a dark night, and the")


class AheadTest(emulated_server.EmulatedServerTestCase):
    def start_server(self, *arguments, **values):
        return super().start_server("--device-kv-blocks=60", "--host-kv-blocks=0", *arguments,
                                    **values)

    def test_two_steps_in_flight_change_no_answer(self):
        answers = []
        for depth in (1, 2):
            server = self.start_server(f"--max-steps-in-flight={depth}")
            greedy = [server.generate(prompt, max_tokens=16, ignore_eos=True)["output_ids"]
                      for prompt in PROMPTS]
            drawn = [server.generate(prompt, max_tokens=16, ignore_eos=True, temperature=1.3,
                                     seed=seed)["output_ids"]
                     for seed, prompt in enumerate(PROMPTS)]
            penalized = server.generate(PROMPTS[0], max_tokens=12, ignore_eos=True,
                                        presence_penalty=0.9)["output_ids"]
            stop = greedy[0][5]
            stopped = server.generate(PROMPTS[0], max_tokens=16, ignore_eos=True,
                                      stop_token_ids=stop)["output_ids"]
            self.assertEqual(stopped, greedy[0][:greedy[0].index(stop) + 1])
            answers.append([greedy, drawn, penalized, stopped])
            self.assert_quiet(server)
            ahead = server.metric("sluice_steps_ahead_total")
            if depth == 1:
                self.assertEqual(ahead, 0)
            else:
                self.assertGreater(ahead, server.metric("sluice_steps_total") / 2)
            self.assertEqual(server.stop(), 0)
        self.assertEqual(answers[0], answers[1])

    def test_vanished_client_while_the_next_step_runs(self):
        server = self.start_server()
        client = server.start_client("generate", prompt=PROMPTS[0], max_tokens=300,
                                     ignore_eos=True)
        harness.wait_until(lambda: server.metric("sluice_steps_ahead_total") > 2, "steps ahead")
        client.send_signal(signal.SIGKILL)
        client.communicate()
        self.assert_quiet(server)
        again = server.generate(PROMPTS[1], max_tokens=2, ignore_eos=True)
        self.assertEqual(len(again["output_ids"]), 2)
        self.assertEqual(server.stop(), 0)

    def test_stop_while_steps_are_in_flight(self):
        server = self.start_server()
        client = server.start_client("generate", prompt=PROMPTS[0], max_tokens=60,
                                     ignore_eos=True)
        harness.wait_until(lambda: server.metric("sluice_steps_ahead_total") > 2, "steps ahead")
        self.assertEqual(server.stop(), 0)  # drains
        client.communicate()
        self.assertEqual(client.returncode, 0)


if __name__ == "__main__":
    harness.main()
