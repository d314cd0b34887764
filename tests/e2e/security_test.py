#!/usr/bin/env python3
"""Strangers and tenants that want more than their share, over gRPC and HTTP: they get the right codes, and the
server stays healthy. No secret is in logs, arguments, metrics, traces or recordings."""

import os
import shutil
import socket
import ssl
import unittest

import certificates
import harness
import openai_client
import raw_grpc
from openai_client import Connection
from secured import ACME, ADMIN, CHAT, COMPLETIONS, TOKENS, ZETA, SecurityTest, bearer, long_request


@unittest.skipUnless(certificates.available(), "openssl is not installed")
class CertificateTest(SecurityTest):
    def setUp(self):
        super().setUp()
        self.ours = certificates.Authority(self.temp_dir())
        self.others = certificates.Authority(self.temp_dir(), "others")
        self.files = [os.path.join(self.temp_dir(), name) for name in ("server.pem", "server.key")]
        self.put(self.ours)

    def put(self, authority):
        for source, target in zip(authority.issue("server"), self.files):
            shutil.copy(source, target + ".new")
            os.replace(target + ".new", target)

    def start_tls(self, *arguments):
        return self.start_server(f"--tls-cert={self.files[0]}", f"--tls-key={self.files[1]}", *arguments)

    def start_mutual(self, *arguments):
        return self.start_tls(f"--tls-client-ca={self.ours.certificate}", *arguments)

    def context(self, shown=None, trusted=None):
        context = ssl.create_default_context(cafile=(trusted or self.ours).certificate)
        if shown:
            context.load_cert_chain(*shown)
        return context

    def grpc_client(self, server, shown=None, trusted=None):
        """(exit code, what was said) of a generation over TLS."""
        security = {"tls_ca": (trusted or self.ours).certificate, "tls_server_name": "localhost"}
        if shown:
            security |= {"tls_cert": shown[0], "tls_key": shown[1]}
        done = server.client("generate", "--prompt=Once", max_tokens=3, **security)
        return done.returncode, done.stderr

    def http_status(self, server, shown=None, trusted=None):
        """The status of a request over TLS; 0 if the connection broke."""
        try:
            with Connection(server.http_port, self.context(shown, trusted)) as connection:
                return connection.get("/v1/models").status
        except (ssl.SSLError, ConnectionError):
            return 0

    def test_who_shows_no_certificate_or_a_strangers_gets_nothing(self):
        server = self.start_mutual()
        friend, stranger = self.ours.issue("friend"), self.others.issue("stranger")
        for shown in (None, stranger):
            code, said = self.grpc_client(server, shown)
            self.assertEqual(code, 1)
            self.assertRegex(said, "nothing answers|UNAVAILABLE")
            self.assertEqual(self.http_status(server, shown), 0)
        self.assertEqual(self.grpc_client(server, friend), (0, ""))
        self.assertEqual(self.http_status(server, friend), 200)
        self.assert_healthy(server, tls=self.context(friend))
        self.assertEqual(server.stop(), 0)

    def test_without_tls_nobody_is_answered(self):
        server = self.start_tls()
        code, said = server.client("generate", "--prompt=x", max_tokens=1).returncode, server.log()
        self.assertEqual(code, 1, said)
        with Connection(server.http_port) as plain:
            plain.send_request("GET", "/v1/models")
            self.assertEqual(plain.read_head()[0], 0)
        self.assertEqual(self.http_status(server, trusted=self.others), 0)  # the client refuses
        self.assert_healthy(server, tls=self.context())

    def test_many_requests_and_a_stream_on_one_connection(self):
        server = self.start_tls()
        with Connection(server.http_port, self.context()) as connection:
            for i in range(10):
                answer = connection.post(COMPLETIONS, {"prompt": f"{i}", "max_tokens": 20, "stream": i % 2 == 1})
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(answer.headers["connection"], "keep-alive")
            too_large = connection.post(COMPLETIONS, b"x" * (5 << 20))
            self.assertEqual(too_large.status, 413)

    def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(self):
        server = self.start_tls()
        with open(self.files[1], "w", encoding="utf-8") as file:
            file.write("no key")
        harness.wait_until(lambda: self.http_status(server) == 200 and "the certificate from before" in server.log(),
                           "a broken key to be noticed", 40)
        self.put(self.others)
        harness.wait_until(lambda: self.http_status(server, trusted=self.others) == 200, "the new one over HTTP", 40)
        harness.wait_until(lambda: self.grpc_client(server, trusted=self.others)[0] == 0, "and over gRPC", 40)
        self.assertEqual(self.http_status(server), 0)

    def test_files_that_do_not_fit_are_named_at_the_start(self):
        other = self.others.issue("server")[1]
        failed = harness.run_sluice("serve", "--model", harness.DEMO_MODEL, "--port=0", "--metrics-port=0",
                                    "--http-port=auto", f"--tls-cert={self.files[0]}", f"--tls-key={other}")
        self.assertEqual(failed.returncode, 1)
        self.assertIn(f"{other} is not the key of the certificate in {self.files[0]}", failed.stderr)
        self.assertNotIn("choose another", failed.stderr)

    def test_a_handshake_that_does_not_go_on_is_cut_off(self):
        server = self.start_tls("--client-timeout=1")
        silent = [socket.create_connection(("127.0.0.1", port), timeout=30 * harness.PATIENCE)
                  for port in (server.http_port, server.port) for _ in range(20)]
        for connection in silent[::2]:
            connection.sendall(b"\x16\x03\x01\x02")  # how a handshake begins
        for connection in silent:
            try:
                self.assertEqual(connection.recv(1), b"")
            except ConnectionError:
                pass
            connection.close()
        self.assert_healthy(server, tls=self.context())


@unittest.skipUnless(raw_grpc.available(), "needs curl with HTTP/2")
class TokenTest(SecurityTest):
    WRONG = ("", "Bearer", "Bearer ", f"Bearer {ACME}x", f"Bearer {ACME[:-1]}", f"Basic {ACME}", ACME,
             "Bearer " + "x" * 4000)

    def test_a_wrong_token_is_told_apart_from_none_by_nothing(self):
        server = self.start_guarded()
        methods = [raw_grpc.GENERATE, raw_grpc.NATIVE_GENERATE, "sluice.v1.Inference/Explain",
                   "sluice.v1.Control/GetLoad", "sluice.v1.Control/Drain",
                   "xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
                   *(f"vllm.grpc.engine.VllmEngine/{name}" for name in (
                       "Embed", "Abort", "GetModelInfo", "GetServerInfo", "GetLoads", "GetTokenizer",
                       "SubscribeKvEvents"))]
        for method in methods:
            for wrong in ("", f"Bearer {ACME}x"):
                reply = raw_grpc.call(server.port, method, b"", [f"authorization: {wrong}"] if wrong else [])
                self.assertEqual(reply.code, raw_grpc.UNAUTHENTICATED, method)
                self.assertNotIn(ACME, reply.message)
        for wrong in self.WRONG:
            reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([5]),
                                  [f"authorization: {wrong}"] if wrong else [])
            self.assertEqual(reply.code, raw_grpc.UNAUTHENTICATED, wrong)
            for path, body in ((CHAT, {"messages": []}), (COMPLETIONS, {"prompt": "x"}), (CHAT, b"not json")):
                headers = {"Authorization": wrong} if wrong else {}
                refused = self.post(server, path, body, **headers)
                self.assertEqual(refused.status, 401, wrong)
                self.assertEqual(refused.headers["www-authenticate"], "Bearer")
        with Connection(server.http_port) as connection:
            self.assertEqual(connection.get("/v1/models").status, 401)
        with Connection(server.http_port) as connection:
            self.assertEqual(connection.get("/health").status, 200)
        self.assertEqual(raw_grpc.call(server.port, "grpc.health.v1.Health/Check").code, raw_grpc.OK)
        self.assert_healthy(server, ACME)
        self.assertEqual(server.stop(), 0)

    def test_nobody_acts_for_another_and_only_admins_administer(self):
        server = self.start_guarded()
        body = {"prompt": "x", "max_tokens": 1}
        self.assertEqual(self.post(server, COMPLETIONS, body, ACME, x_sluice_tenant="zeta").status, 403)
        self.assertEqual(self.post(server, COMPLETIONS, body, ADMIN, x_sluice_tenant="zeta").status, 200)
        for method in ("vllm.grpc.engine.VllmEngine/Abort", "vllm.grpc.engine.VllmEngine/SubscribeKvEvents",
                       "sluice.v1.Control/Drain", "sluice.v1.Control/Trace"):
            reply = raw_grpc.call(server.port, method, b"", [bearer(ACME)])
            self.assertEqual(reply.code, raw_grpc.PERMISSION_DENIED, method)
            self.assertIn("admin", reply.message)
        self.assert_healthy(server, ZETA)

    def test_a_withdrawn_token_is_refused_without_a_restart(self):
        path = self.write("tokens", TOKENS)
        server = self.start_server(f"--auth-token-file={path}")
        self.assertEqual(self.post(server, COMPLETIONS, {"prompt": "x", "max_tokens": 1}, ACME).status, 200)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{ZETA} zeta\n")
        harness.wait_until(
            lambda: self.post(server, COMPLETIONS, {"prompt": "x", "max_tokens": 1}, ACME).status == 401,
            "the token to be withdrawn")
        reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([5]), [bearer(ACME)])
        self.assertEqual(reply.code, raw_grpc.UNAUTHENTICATED)
        self.assert_healthy(server, ZETA)

    def test_no_secret_in_logs_arguments_environment_metrics_traces_or_recordings(self):
        folder = self.temp_dir()
        trace, record = os.path.join(folder, "trace.json"), os.path.join(folder, "record.jsonl")
        server = self.start_guarded("--log-level=debug", f"--trace-file={trace}", f"--record={record}")
        token_file = self.write("token", ACME + "\n")
        client = server.start_client("generate", prompt="Once upon a secret time", token_file=token_file,
                                     max_tokens=400, ignore_eos=True)
        seen = []
        for pid in (server.process.pid, client.pid):
            for name in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    seen.append(file.read().decode(errors="replace"))
        out, errors = client.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(client.returncode, 0, errors)
        self.post(server, COMPLETIONS, {"prompt": "Once upon a secret time", "max_tokens": 2}, ACME)
        for wrong in (ACME + "x", ZETA + ZETA):
            self.assertEqual(self.post(server, COMPLETIONS, {"prompt": "x"}, wrong).status, 401)
            raw_grpc.call(server.port, raw_grpc.GENERATE, b"", [bearer(wrong)])
        seen += [server.metrics_text(), out, errors]
        self.assertEqual(server.stop(), 0)
        for path in (trace, record):
            with open(path, encoding="utf-8") as file:
                seen.append(file.read())
            self.assertGreater(len(seen[-1]), 100, path)
        seen.append("\n".join(server.lines))
        for text in seen:
            for secret in (ACME, ZETA, ADMIN):
                self.assertNotIn(secret, text)
        for text in seen[4:5] + seen[6:]:  # all but what the client was asked and answered
            self.assertNotIn("secret time", text)


@unittest.skipUnless(raw_grpc.available(), "needs curl with HTTP/2")
class LimitTest(SecurityTest):
    def test_what_is_too_large_is_refused_and_nothing_else_suffers(self):
        server = self.start_server("--max-message-mib=1")
        huge = [300] * (700 << 10)
        for method, message in ((raw_grpc.GENERATE, raw_grpc.vllm_generate(huge)),
                                (raw_grpc.NATIVE_GENERATE, b"x" * (2 << 20))):
            reply = raw_grpc.call(server.port, method, message)
            self.assertEqual(reply.code, raw_grpc.RESOURCE_EXHAUSTED, reply.message)
        reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([300] * 20000))
        self.assertEqual(reply.code, raw_grpc.INVALID_ARGUMENT)
        self.assertIn("max_model_len", reply.message)
        self.assertEqual(self.post(server, COMPLETIONS, b"{" + b" " * (2 << 20)).status, 413)
        self.assertEqual(self.post(server, COMPLETIONS, {"prompt": [300] * 20000}).status, 400)
        with Connection(server.http_port) as connection:
            connection.send_request("GET", "/v1/models", X_Large="x" * (20 << 10))
            self.assertEqual(connection.read_head()[0], 431)
        self.assert_healthy(server)
        self.assertEqual(server.stop(), 0)

    def check_limit(self, server, tenant, other):
        """`tenant` is over its limit, over both protocols; `other` is not."""
        refused = self.post(server, COMPLETIONS, {"prompt": "x", "max_tokens": 1}, tenant)
        self.assertEqual(refused.status, 429, refused.body)
        self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
        self.assertIn("tenant", refused.error()["message"])
        reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([5]), [bearer(tenant)])
        self.assertEqual(reply.code, raw_grpc.RESOURCE_EXHAUSTED)
        self.assertIn("grpc-status-details-bin", reply.headers)  # RetryInfo
        self.assertEqual(self.post(server, COMPLETIONS, {"prompt": "x", "max_tokens": 1}, other).status, 200)
        reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([5]), [bearer(other)])
        self.assertEqual(reply.code, raw_grpc.OK, reply.message)

    def test_too_many_at_once(self):
        server = self.start_guarded("--tenant-max-concurrent=2", model=harness.slow_model())
        with Connection(server.http_port) as one, Connection(server.http_port) as two:
            for connection in (one, two):
                connection.send_request("POST", COMPLETIONS, long_request(), Authorization=f"Bearer {ACME}")
            harness.wait_until(lambda: server.metric("sluice_requests_running") == 2, "two running")
            self.check_limit(server, ACME, ZETA)
        self.assert_quiet(server)
        self.assert_healthy(server, ACME)

    def test_too_large_a_share_of_the_queue(self):
        server = self.start_guarded("--tenant-queue-share=0.1", "--max-queue=10", "--max-num-seqs=1",
                                    model=harness.slow_model())
        with Connection(server.http_port) as running, Connection(server.http_port) as waiting:
            running.send_request("POST", COMPLETIONS, long_request(), Authorization=f"Bearer {ADMIN}")
            harness.wait_until(lambda: server.metric("sluice_requests_running") == 1, "one running")
            waiting.send_request("POST", COMPLETIONS, long_request(), Authorization=f"Bearer {ACME}")
            harness.wait_until(lambda: server.metric("sluice_requests_waiting") == 1, "one waiting")
            refused = self.post(server, COMPLETIONS, {"prompt": "x", "max_tokens": 1}, ACME)
            self.assertEqual(refused.status, 429)
            reply = raw_grpc.call(server.port, raw_grpc.GENERATE, raw_grpc.vllm_generate([5]), [bearer(ACME)])
            self.assertEqual(reply.code, raw_grpc.RESOURCE_EXHAUSTED)
            with Connection(server.http_port) as other:
                other.send_request("POST", COMPLETIONS, long_request(), Authorization=f"Bearer {ZETA}")
                harness.wait_until(lambda: server.metric("sluice_requests_waiting") == 2, "another tenant waiting")
        self.assert_healthy(server, ACME)

    def test_too_many_tokens_a_minute(self):
        server = self.start_guarded("--tenant-tokens-per-minute=100")
        body = {"prompt": [300] * 60, "max_tokens": 200, "ignore_eos": True}
        self.assertEqual(self.post(server, COMPLETIONS, body, ACME).status, 200)
        self.check_limit(server, ACME, ZETA)
        self.assert_healthy(server, ZETA)


if __name__ == "__main__":
    harness.main()
