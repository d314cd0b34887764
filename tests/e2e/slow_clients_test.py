#!/usr/bin/env python3
"""Clients that send slowly, read slowly, say nothing, or open more connections than there is room for, over
gRPC and HTTP: they are cut off, and the server stays healthy."""

import json
import os
import resource
import signal
import socket
import sys
import time

import harness
from openai_client import Connection
from secured import COMPLETIONS, SecurityTest, long_request


class SlowClientTest(SecurityTest):
    def fast_long_model(self):
        """A model that writes thousands of tokens a second, for a long time."""
        return self.make_checkpoint(hidden=64, intermediate=128, layers=1, heads=2, kv_heads=1, vocab=512,
                                    max_positions=65536)

    @staticmethod
    def open_files(server):
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    def assert_all_closed(self, connections):
        """Drips a byte now and then, until the server has had enough."""

        def closed():
            for connection in list(connections):
                try:
                    connection.send(b"x")
                except OSError:
                    connection.close()
                    connections.remove(connection)
            time.sleep(0.1)
            return not connections

        harness.wait_until(closed, f"{len(connections)} slow connections to be cut off", 30)

    def test_slow_headers_and_slow_bodies(self):
        server = self.start_server("--client-timeout=2", "--max-connections=100")
        slow = [Connection(server.http_port) for _ in range(60)]
        for connection in slow[:30]:
            connection.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-")
        for connection in slow[30:]:
            connection.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                            b"Content-Length: 1000\r\n\r\n{")
        self.assert_healthy(server)
        self.assert_all_closed(slow)
        self.assert_healthy(server)
        self.assertEqual(server.stop(), 0)

    def test_more_connections_than_allowed_are_told_so_and_room_comes_back(self):
        server = self.start_server("--max-connections=20")
        held = [Connection(server.http_port) for _ in range(20)]
        self.assertEqual(held[-1].get("/health").status, 200)
        with Connection(server.http_port) as refused:
            answer = refused.read_response()
            self.assertEqual(answer.status, 503)
            self.assertIn("too many connections", answer.error()["message"])
        for connection in held:
            connection.close()
        harness.wait_until(lambda: self.post(server, COMPLETIONS, {"prompt": "x", "max_tokens": 1}).status == 200,
                           "room for a connection")
        self.assert_healthy(server)

    def test_a_slow_reader_over_http_is_cut_off(self):
        server = self.start_server("--client-timeout=2", model=self.fast_long_model())
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", server.http_port))
            body = json.dumps(long_request(max_tokens=60000, stream=True)).encode()
            deaf.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         b"Content-Length: %d\r\n\r\n" % len(body) + body)
            harness.wait_until(lambda: server.metric("sluice_requests_running") == 1, "one running")
            started = time.monotonic()
            harness.wait_until(lambda: server.metric("sluice_requests_total", outcome="abort") == 1,
                               "the deaf one's request to be cancelled", 60)
            print(f"cut off after {time.monotonic() - started:.1f} s", file=sys.stderr)
        self.assert_healthy(server)
        self.assertEqual(server.stop(), 0)

    def test_a_slow_reader_over_grpc_is_cut_off(self):
        server = self.start_server(model=self.fast_long_model())
        # More than the largest window that gRPC opens: 16 MiB.
        deaf = server.start_client("generate", prompt="Once", max_tokens=60000, ignore_eos=True, n=4, logprobs=20)
        self.addCleanup(deaf.communicate)
        self.addCleanup(deaf.kill)
        harness.wait_until(lambda: server.metric("sluice_requests_running") == 4, "four samples running")
        deaf.send_signal(signal.SIGSTOP)
        harness.wait_until(lambda: server.metric("sluice_requests_total", outcome="abort") == 4,
                           "the deaf one's request to be cancelled", 60)
        self.assert_healthy(server)
        self.assertEqual(server.stop(), 0)

    def test_grpc_connections_that_say_nothing_or_half_a_word(self):
        server = self.start_server("--client-timeout=1")
        words = (b"", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100,
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        slow = []
        for word in words:
            for _ in range(10):
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=30 * harness.PATIENCE)
                connection.sendall(word)
                slow.append(connection)
        self.assert_healthy(server)
        for connection in slow:
            said = b""
            try:
                while piece := connection.recv(4096):
                    said += piece
            except ConnectionError:
                pass
            self.assertNotIn(b" 200", said)  # a gateway would take it for an HTTP server
            connection.close()
        self.assert_healthy(server)

    def test_more_grpc_connections_than_allowed_are_closed_and_room_comes_back(self):
        server = self.start_server("--max-connections=20")
        before = self.open_files(server)
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=30 * harness.PATIENCE)
                for _ in range(20)]
        harness.wait_until(lambda: self.open_files(server) >= before + 20, "all to be accepted")
        with socket.create_connection(("127.0.0.1", server.port), timeout=5 * harness.PATIENCE) as refused:
            self.assertEqual(refused.recv(1), b"")
        for connection in held:
            connection.close()
        self.assert_healthy(server)

    def test_no_file_descriptors_left_and_back_again(self):
        server = self.start_server()
        pid = server.process.pid
        free = 30
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = self.open_files(server)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + free, before[1]))
        for port in (server.port, server.http_port):
            flood = [socket.create_connection(("127.0.0.1", port), timeout=10 * harness.PATIENCE)
                     for _ in range(2 * free)]
            harness.wait_until(lambda: self.open_files(server) >= used + free - 2, "all to be taken")
            for connection in flood:
                connection.close()
            harness.wait_until(lambda: self.open_files(server) <= used + 4, "them to come back")
            self.assert_healthy(server)
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    harness.main()
