"""Servers with tokens and limits, for the tests of what strangers and greedy clients get."""

import os

import harness
import openai_client
import raw_grpc
from openai_client import Connection

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

ACME, ZETA, ADMIN = "acme-token-for-tests-1", "zeta-token-for-tests-2", "admin-token-for-tests-3"
TOKENS = f"# who is who\n{ACME} acme\n{ZETA} zeta\n{ADMIN} ops admin\n"


def bearer(token):
    return f"authorization: Bearer {token}"


def long_request(**more):
    """Half a minute of the slow model's time."""
    return {"prompt": "It is a truth universally acknowledged", "max_tokens": 8000,
            "ignore_eos": True, "temperature": 0} | more


class SecurityTest(harness.TestCase):
    def write(self, name, text):
        path = os.path.join(self.temp_dir(), name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start_server(self, *arguments, **values):
        """A server with HTTP on a free port, which is `server.http_port`."""
        server = super().start_server("--http-port=auto", *arguments, **values)
        server.http_port = openai_client.http_port(server)
        return server

    def start_guarded(self, *arguments, **values):
        return self.start_server(f"--auth-token-file={self.write('tokens', TOKENS)}", *arguments, **values)

    def assert_healthy(self, server, token=None, tls=None):
        """Answers over HTTP and, without TLS, over gRPC."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with Connection(server.http_port, tls) as connection:
            answer = connection.post(COMPLETIONS, {"prompt": "x", "max_tokens": 3, "ignore_eos": True}, **headers)
        self.assertEqual(answer.status, 200, answer.body)
        if tls is None and raw_grpc.available():
            reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([5, 6]),
                                  [bearer(token)] if token else [])
            self.assertEqual(reply.code, raw_grpc.OK, reply.message)
        self.assert_quiet(server)

    def post(self, server, path, body, token=None, **headers):
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return openai_client.post(server.http_port, path, body, **headers)
