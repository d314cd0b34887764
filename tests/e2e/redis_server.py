"""A real redis-server for tests, on a unix socket in a folder of its own, and a client of a few lines."""

import os
import shutil
import signal
import socket
import subprocess
import time

import harness

BINARY = os.environ.get("SLUICE_REDIS_SERVER") or shutil.which("redis-server")


class RedisError(Exception):
    """What the server answers instead."""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """Empty when it starts, as it has no files; ready when start() returns."""

    def __init__(self, folder, *arguments, password=None, tls=None):
        """`tls`: certificates.Authority; it then listens with TLS, too, at .tls_url."""
        self.folder = folder
        self.path = os.path.join(folder, "socket")
        self.password = password
        self.arguments = [*arguments, *(["--requirepass", password] if password else [])]
        if tls is not None:
            certificate, key = tls.issue("redis")
            port = _free_port()
            self.tls_url = f"rediss://localhost:{port}"
            self.arguments += ["--tls-port", str(port), "--tls-cert-file", certificate,
                               "--tls-key-file", key, "--tls-ca-cert-file", tls.certificate,
                               "--bind", "127.0.0.1", "-::1"]
        self.process = None
        self.start()

    @property
    def url(self):
        return f"unix:{self.path}"

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.process = subprocess.Popen(
            [BINARY, "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no",
             "--dir", self.folder, "--loglevel", "warning", *self.arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=harness._die_with_parent)  # pylint: disable=subprocess-popen-preexec-fn

        def answers():
            try:
                return self.call("PING") == "PONG"
            except OSError:
                return False

        harness.wait_until(answers, "redis-server")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def call(self, *words):
        """One command and its reply: text, a number, bytes, a list, or None."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(20 * harness.PATIENCE)
            connection.connect(self.path)
            with connection.makefile("rb") as replies:
                if self.password:
                    self._send(connection, "AUTH", self.password)
                    self._receive(replies)
                self._send(connection, *words)
                return self._receive(replies)

    def keys(self):
        return sorted(self.call("KEYS", "sluice:kv:*"))

    @staticmethod
    def _send(connection, *words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        connection.sendall(b"".join(parts))

    def _receive(self, replies):
        line = replies.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            value = replies.read(int(rest) + 2)[:-2]
            return value
        if kind == b"*":
            return [self._receive(replies) for _ in range(int(rest))]
        raise ConnectionError(f"not the Redis protocol: {line!r}")


def wait(seconds):
    """Lets load run on for a while: what happens in that time is the test."""
    time.sleep(seconds)
