#!/usr/bin/env python3
"""The OpenAI-compatible API of a real server: answers, streams, limits, and clients that misbehave."""

import json
import shutil
import socket
import subprocess
import unittest

import harness
import openai_client
from openai_client import Connection, post

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def chat(content, **more):
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 20} | more


def long_request(**more):
    """Half a minute of the slow model's time."""
    return {"prompt": "It is a truth universally acknowledged", "max_tokens": 8000,
            "ignore_eos": True, "temperature": 0} | more


class HttpTest(harness.TestCase):
    def start_http_server(self, *arguments, **values):
        server = self.start_server("--http-port=auto", *arguments, **values)
        return server, openai_client.http_port(server)

    def test_chat_whole_and_streamed(self):
        server, port = self.start_http_server()
        whole = post(port, CHAT, chat("Who are you?", temperature=0))
        self.assertEqual(whole.status, 200)
        answer = whole.json()
        text = answer["choices"][0]["message"]["content"]
        self.assertIn(answer["choices"][0]["finish_reason"], ("stop", "length"))
        usage = answer["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])

        streamed = post(port, CHAT, chat("Who are you?", temperature=0, stream=True,
                                         stream_options={"include_usage": True}))
        self.assertEqual(streamed.headers["content-type"], "text/event-stream; charset=utf-8")
        events = streamed.events()
        self.assertEqual(events[-1], "[DONE]")
        chunks = [json.loads(event) for event in events[:-1]]
        self.assertEqual(chunks[0]["choices"][0]["delta"]["role"], "assistant")
        self.assertEqual("".join(chunk["choices"][0]["delta"].get("content", "")
                                 for chunk in chunks[:-1]), text)
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], usage["completion_tokens"])
        self.assertEqual(server.stop(), 0)

    def test_a_completion_is_what_grpc_generates(self):
        server, port = self.start_http_server()
        record = server.generate("Once upon a time", max_tokens=12)
        answer = post(port, COMPLETIONS, {"model": "model", "prompt": "Once upon a time",
                                          "max_tokens": 12, "temperature": 0}).json()
        self.assertEqual(answer["choices"][0]["text"], record["text"])
        self.assertEqual(answer["usage"]["completion_tokens"], len(record["output_ids"]))

    def test_curl(self):
        if not shutil.which("curl"):
            self.skipTest("curl is not installed")
        _, port = self.start_http_server()
        done = subprocess.run(
            ["curl", "-sS", "-N", f"http://127.0.0.1:{port}{CHAT}", "-H",
             "Content-Type: application/json", "-d",
             '{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "stream": true}'],
            capture_output=True, text=True, timeout=60 * harness.PATIENCE, check=True)
        self.assertTrue(done.stdout.startswith("data: {"), done.stdout)
        self.assertTrue(done.stdout.endswith("data: [DONE]\n\n"), done.stdout)

    def test_one_connection_serves_many_requests(self):
        _, port = self.start_http_server()
        with Connection(port) as connection:
            for i in range(20):
                response = connection.post(COMPLETIONS, {"prompt": f"{i}", "max_tokens": 3,
                                                         "stream": i % 2 == 0})
                self.assertEqual(response.status, 200)
                self.assertEqual(response.headers["connection"], "keep-alive")
            self.assertEqual(connection.get("/health").json(), {"status": "ok"})
            self.assertEqual(connection.get("/v1/models").json()["data"][0]["id"], "model")
            self.assertEqual(connection.get("/nothing").status, 404)

    def test_wrong_requests(self):
        server, port = self.start_http_server()
        cases = [
            (b"{not json", 400, "the body is not JSON"),
            (b"[" * 1000, 400, "nested more than 64 deep"),
            (b'{"messages": "hi"}', 400, "messages: "),
            (chat("x", temperature="hot"), 400, "temperature: is a string, not a number"),
            (chat("x", temperature=-1), 400, "temperature: -1 is not in [0, 100]"),
            (chat("x", tools=[{"type": "function"}]), 400, "tools: is not supported"),
            (chat("x", response_format={"type": "json_object"}), 400, "response_format: "),
            (chat("x", model="gpt-4"), 404, "does not exist"),
            (chat("x " * 20000), 400, "max_model_len"),
        ]
        for body, status, message in cases:
            response = post(port, CHAT, body)
            self.assertEqual(response.status, status, response.body)
            self.assertIn(message, response.error()["message"])
            self.assertEqual(response.error()["type"], "invalid_request_error")
        with Connection(port) as connection:
            connection.send_request("POST", CHAT, Content_Length=1 << 40)
            self.assertEqual(connection.read_response().status, 413)
        self.assertEqual(post(port, CHAT, b"a=b", Content_Type="text/plain").status, 415)
        self.assertEqual(post(port, CHAT, chat("x")).status, 200)
        self.assert_quiet(server)

    def test_a_client_that_leaves_frees_everything(self):
        server, port = self.start_http_server(model=harness.slow_model())
        for stream in (True, False):
            connections = [Connection(port) for _ in range(4)]
            for connection in connections:
                connection.send_request("POST", COMPLETIONS, long_request(stream=stream))
            harness.wait_until(lambda: server.metric("sluice_requests_running") == 4, "four running")
            for connection in connections:
                connection.close()
            self.assert_quiet(server)
        self.assertEqual(server.stop(), 0)

    def test_a_client_that_stops_reading_does_not_hold_up_others(self):
        server, port = self.start_http_server(model=harness.slow_model())
        with Connection(port) as deaf:
            deaf.send_request("POST", COMPLETIONS, long_request(stream=True, n=8))
            harness.wait_until(lambda: server.metric("sluice_requests_running") == 8, "eight running")
            answer = post(port, COMPLETIONS, long_request(max_tokens=20)).json()
            self.assertEqual(answer["usage"]["completion_tokens"], 20)
        self.assert_quiet(server)

    def test_a_full_queue_is_429(self):
        server, port = self.start_http_server("--max-num-seqs=1", "--max-queue=1",
                                              model=harness.slow_model())
        with Connection(port) as running, Connection(port) as waiting:
            running.send_request("POST", COMPLETIONS, long_request())
            harness.wait_until(lambda: server.metric("sluice_requests_running") == 1, "one running")
            waiting.send_request("POST", COMPLETIONS, long_request())
            harness.wait_until(lambda: server.metric("sluice_requests_waiting") == 1, "a full queue")
            for stream in (True, False):
                refused = post(port, COMPLETIONS, long_request(stream=stream))
                self.assertEqual(refused.status, 429)
                self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
                self.assertEqual(refused.error()["type"], "rate_limit_error")
        self.assert_quiet(server)

    def test_slow_senders_take_no_part_of_the_server(self):
        server, port = self.start_http_server()
        slow = [Connection(port) for _ in range(200)]
        for connection in slow:
            connection.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-")
        self.assertEqual(post(port, CHAT, chat("x")).status, 200)
        # Some bytes now and then do not help: the deadline is for the whole header.
        harness.wait_until(lambda: self.all_closed(slow), "200 slow connections cut off", 30)
        self.assertEqual(post(port, CHAT, chat("x")).status, 200)
        self.assertEqual(server.stop(), 0)

    @staticmethod
    def all_closed(connections):
        for connection in list(connections):
            try:
                connection.send(b"x")
            except OSError:
                connection.close()
                connections.remove(connection)
        return not connections

    def test_a_stream_ends_well_when_the_server_is_told_to_stop(self):
        server, port = self.start_http_server(model=harness.slow_model())
        with Connection(port) as connection:
            connection.send_request("POST", COMPLETIONS, long_request(max_tokens=100, stream=True))
            harness.wait_until(lambda: server.metric("sluice_requests_running") == 1, "one running")
            server.signal(harness.signal.SIGTERM)
            events = connection.read_response().events()
            self.assertEqual(events[-1], "[DONE]")
        self.assertEqual(server.wait(), 0)

    def test_ports(self):
        off = self.start_server("--http-port=0")
        self.assertIsNone(openai_client.http_port(off))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            failed = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0",
                                        "--metrics-port=0", f"--http-port={port}")
            self.assertEqual(failed.returncode, 1)
            self.assertIn(f"port {port}: Address already in use", failed.stderr)
            self.assertIn("choose another --http-port", failed.stderr)
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", 8000))
                taken.listen()
            except OSError:
                pass  # taken by somebody else, which is as good
            server = self.start_server()
            self.assertIsNone(openai_client.http_port(server))
            self.assertIn("the OpenAI-compatible API is off", server.log())
            self.assertEqual(len(server.generate("x", max_tokens=3)["output_ids"]), 3)


if __name__ == "__main__":
    harness.main()
