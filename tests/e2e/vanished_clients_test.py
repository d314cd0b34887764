#!/usr/bin/env python3
"""Clients that are killed, time out, give up or stop reading leave nothing behind, and others do not
notice."""

import signal
import unittest

import harness

# Half a minute of the slow model's time.
LONG = dict(max_tokens=8000, ignore_eos=True, temperature=0, json=True)
PROMPT = "It is a truth universally acknowledged"


class VanishedClientsTest(harness.TestCase):
    def start_server(self, *arguments, **values):
        return super().start_server(*arguments, model=harness.slow_model(), **values)

    def start_clients(self, server, count, **values):
        clients = [server.start_client("generate", prompt=f"{i} {PROMPT}", **(LONG | values))
                   for i in range(count)]
        for client in clients:
            self.addCleanup(self.end_client, client)
        return clients

    @staticmethod
    def end_client(client):
        if client.poll() is None:
            client.kill()
        client.communicate()

    def assert_healthy(self, server):
        self.assert_quiet(server)
        record = server.generate(PROMPT, max_tokens=5, ignore_eos=True)
        self.assertEqual(len(record["output_ids"]), 5)
        self.assertEqual(server.stop(), 0)

    def test_killed_while_running(self):
        server = self.start_server()
        clients = self.start_clients(server, 6)
        harness.wait_until(lambda: server.metric("sluice_requests_running") == 6, "six running")
        for client in clients:
            client.send_signal(signal.SIGKILL)
        self.assert_healthy(server)

    def test_killed_while_waiting(self):
        server = self.start_server("--max-num-seqs=1")
        clients = self.start_clients(server, 4)
        harness.wait_until(lambda: server.metric("sluice_requests_waiting") == 3, "three waiting")
        for client in clients:
            client.send_signal(signal.SIGKILL)
        self.assert_healthy(server)

    def test_interrupted(self):
        server = self.start_server()
        client, = self.start_clients(server, 1)
        harness.wait_until(lambda: server.metric("sluice_requests_running") == 1, "one running")
        client.send_signal(signal.SIGINT)
        self.assertEqual(client.wait(20 * harness.PATIENCE), 130)
        self.assert_healthy(server)

    def test_rpc_deadline(self):
        server = self.start_server()
        for timeout in (0.05, 0.2, 0.5):
            client, = self.start_clients(server, 1, timeout=timeout)
            self.assertEqual(client.wait(20 * harness.PATIENCE), 1)
            self.assertIn("DEADLINE_EXCEEDED", client.communicate()[1])
        self.assert_healthy(server)

    def test_first_token_deadline_while_waiting(self):
        server = self.start_server("--max-num-seqs=1")
        self.start_clients(server, 1)
        harness.wait_until(lambda: server.metric("sluice_requests_running") == 1, "one running")
        late = server.client("generate", prompt=PROMPT, max_tokens=5, ttft_deadline_ms=100)
        self.assertEqual(late.returncode, 1)
        self.assertIn("DEADLINE_EXCEEDED", late.stderr)
        self.assertEqual(server.metric("sluice_requests_running"), 1)

    def test_with_copies_under_way(self):
        server = self.start_server("--device-kv-blocks=130", "--host-kv-blocks=256",
                                   "--link-gbps=0.002", "--policy=fcfs")
        text = next(iter(harness.demo_texts().values()))
        for start in range(0, 1500, 300):
            server.generate(text[start:start + 2000], max_tokens=8, ignore_eos=True)
        clients = [server.start_client("generate", prompt=text[start:start + 2000],
                                       **(LONG | {"max_tokens": 1500}))
                   for start in range(0, 1500, 300)]
        for client in clients:
            self.addCleanup(self.end_client, client)
        harness.wait_until(lambda: server.metric("sluice_requests_running") > 0, "running requests")
        for client in clients:
            client.send_signal(signal.SIGKILL)
        self.assert_healthy(server)

    def test_one_that_stops_reading_does_not_hold_up_others(self):
        server = self.start_server()
        stopped, = self.start_clients(server, 1, n=16)
        harness.wait_until(lambda: server.metric("sluice_requests_running") == 16, "16 samples")
        stopped.send_signal(signal.SIGSTOP)
        record = server.generate(PROMPT, max_tokens=64, ignore_eos=True)
        self.assertEqual(len(record["output_ids"]), 64)
        stopped.send_signal(signal.SIGKILL)
        self.assert_healthy(server)

    def test_a_full_queue_refuses_at_once(self):
        server = self.start_server("--max-num-seqs=1", "--max-queue=2")
        self.start_clients(server, 1)
        harness.wait_until(lambda: server.metric("sluice_requests_running") == 1, "one running")
        self.start_clients(server, 2)
        harness.wait_until(lambda: server.metric("sluice_requests_waiting") == 2, "a full queue")
        refused = server.client("generate", prompt=PROMPT, max_tokens=5)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("RESOURCE_EXHAUSTED", refused.stderr)
        self.assertIn("retry", refused.stderr)
        self.assertGreaterEqual(
            server.metric("sluice_requests_total", outcome="rejected"), 1)


if __name__ == "__main__":
    harness.main()
