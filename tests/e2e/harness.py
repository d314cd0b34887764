"""Starts real servers and clients for the end-to-end tests, and cleans up after them.

    class MyTest(harness.TestCase):
        def test_x(self):
            server = self.start_server("--device-kv-blocks=64")
            record = server.generate("Once upon a time", max_tokens=8)
            self.assertEqual(server.stop(), 0)

    if __name__ == "__main__":
        harness.main()

Run by hand: python3 tests/e2e/NAME_test.py --sluice build/release/sluice [unittest arguments].
"""

import argparse
import atexit
import concurrent.futures
import ctypes
import functools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

import exposition

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DEMO_MODEL = os.path.join(ROOT, "deploy", "demo", "model")
DEMO_PROMPTS = os.path.join(ROOT, "deploy", "demo", "prompts")

# Set by main().
SLUICE = ""
MAKE_CHECKPOINT = ""
MALFORMED_CLIENT = ""
# Sanitizers slow everything down: timeouts are multiplied by this.
PATIENCE = 1.0


def _die_with_parent():
    """Runs in the child: no server outlives a test that is killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def wait_until(condition, what, timeout=20.0):
    """Polls until `condition()` is true; raises AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * PATIENCE:.0f} s for: {what}")
        time.sleep(0.02)


def run_sluice(*arguments, timeout=60.0, text_in=None):
    """Runs `sluice arguments` to its end and returns the subprocess.CompletedProcess."""
    return subprocess.run([SLUICE, *map(str, arguments)], input=text_in, capture_output=True,
                          text=True, errors="replace", timeout=timeout * PATIENCE, check=False)


def flags(**values):
    """{max_tokens: 8, ignore_eos: True} as ["--max-tokens=8", "--ignore-eos"]."""
    result = []
    for name, value in values.items():
        name = "--" + name.replace("_", "-")
        result.append(name if value is True else f"{name}={value}")
    return result


def last_json(text):
    """The JSON object on the last line of `text`."""
    return json.loads(text.strip().split("\n")[-1])


class Server:
    """A running `sluice serve` on free ports. Ready when the constructor returns. model=None: no
    --model, for --backend=sim. `prefix`: a command that ends by exec of the one behind it."""

    _READY = re.compile(r"serving .* on 127\.0\.0\.1:(\d+), metrics on http://127\.0\.0\.1:(\d+)/")

    def __init__(self, *arguments, model=DEMO_MODEL, start_timeout=60.0, prefix=()):
        self.lines = []
        self._new_lines = queue.Queue()
        command = [*prefix, SLUICE, "serve", *(["--model", model] if model else []), "--host=127.0.0.1",
                   "--port=0", "--metrics-port=0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            preexec_fn=_die_with_parent)  # pylint: disable=subprocess-popen-preexec-fn
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port, self.metrics_port = self._wait_for_ready_line(start_timeout * PATIENCE)

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._new_lines.put(self.lines[-1])
        self._new_lines.put(None)

    def _wait_for_ready_line(self, timeout):
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._new_lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                self.kill()
                raise AssertionError("the server did not become ready; it said:\n" + self.log())
            ready = self._READY.search(line)
            if ready:
                return int(ready.group(1)), int(ready.group(2))

    def log(self):
        return "\n".join(self.lines[-60:])

    def alive(self):
        return self.process.poll() is None

    # ---- Clients ----

    def client(self, command, *arguments, timeout=60.0, **values):
        """Runs a client command against this server to its end."""
        return run_sluice(command, f"--endpoint={self.endpoint}", *arguments, *flags(**values),
                          timeout=timeout)

    def start_client(self, command, *arguments, **values):
        """Starts a client command and returns its subprocess.Popen."""
        return subprocess.Popen(
            [SLUICE, command, f"--endpoint={self.endpoint}", *map(str, arguments), *flags(**values)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")

    def generate(self, prompt, timeout=60.0, **values):
        """One greedy generation; returns the final record. Raises AssertionError if it fails."""
        values = {"temperature": 0, "json": True} | values
        done = self.client("generate", f"--prompt={prompt}", timeout=timeout, **values)
        if done.returncode != 0:
            raise AssertionError(f"generate failed ({done.returncode}): {done.stderr}\n{self.log()}")
        return last_json(done.stdout)

    def generate_all(self, prompts, concurrency=8, **values):
        """generate() for each prompt, `concurrency` at a time; records in the order of `prompts`."""
        with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
            return list(pool.map(lambda prompt: self.generate(prompt, **values), prompts))

    # ---- Metrics ----

    def metrics_text(self):
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=20 * PATIENCE) as response:
            return response.read().decode()

    def metrics(self):
        return exposition.parse(self.metrics_text())

    def metric(self, name, **labels):
        return self.metrics().value(name, **labels)

    # ---- The end ----

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, timeout=60.0):
        """SIGTERM, then the exit code."""
        if self.alive():
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=60.0):
        code = self.process.wait(timeout * PATIENCE)
        self._reader.join(10)
        return code

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        self.process.stdout.close()


def make_checkpoint(folder, **values):
    """Writes a random model whose tokens are bytes to `folder`, and returns it."""
    subprocess.run([MAKE_CHECKPOINT, f"--out={folder}", *flags(**values)], check=True,
                   capture_output=True, timeout=60 * PATIENCE)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(byte_tokenizer(), file)
    return folder


@functools.cache
def slow_model():
    """A random model of 22 million parameters. The demo model finishes 3,000 tokens in half a second on
    a fast machine; here, a test has seconds to do something while a request runs."""
    folder = tempfile.mkdtemp(prefix="sluice_e2e_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_checkpoint(folder, hidden=512, intermediate=1536, layers=6, heads=8, kv_heads=2,
                           vocab=4096, max_positions=16384)


def slow_calibration(folder):
    """Writes a calibration file to `folder` in which computing takes for ever, and returns its path: what
    is cached anywhere is read from there, however slow that is measured to be."""
    profile = os.path.join(ROOT, "deploy", "profiles", "hardware", "cpu-default.json")
    with open(profile, encoding="utf-8") as file:
        machine = json.load(file)
    slow = "1 MFLOP/s"
    machine["compute"] = {"f32": {"peak_dense": slow, "peak_sparse": "none", "sustained": slow,
                                  "source": "a test"}}
    machine["attention"]["sustained"] = slow
    path = os.path.join(folder, "machine.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(machine, file)
    return path


class TestCase(unittest.TestCase):
    """Servers and folders go away with the test; the server's log is shown if it failed."""

    def setUp(self):
        self._servers = []

    def start_server(self, *arguments, **values):
        server = Server(*arguments, **values)
        self._servers.append(server)
        self.addCleanup(self._end, server)
        return server

    def temp_dir(self):
        folder = tempfile.mkdtemp(prefix="sluice_e2e_")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def make_checkpoint(self, **values):
        """A random model directory whose tokens are bytes; see make_random_checkpoint --help."""
        return make_checkpoint(os.path.join(self.temp_dir(), "model"), **values)

    def _end(self, server):
        crashed = not server.alive() and server.process.returncode != 0
        result = self._outcome.result  # has no public counterpart
        failed = any(getattr(test, "test_case", test) is self
                     for test, _ in result.failures + result.errors)
        server.kill()
        if crashed or failed:
            print(f"--- log of server {server.endpoint} (exit {server.process.returncode}) ---\n"
                  f"{server.log()}\n---", file=sys.stderr)

    def assert_quiet(self, server, timeout=20.0):
        """Waits until `server` holds nothing for any request: the counterpart of an idle GetLoad."""

        def quiet():
            found = server.metrics()
            return (found.value("sluice_requests_running") == 0
                    and found.value("sluice_requests_waiting") == 0
                    and found.value("sluice_kv_tier_pinned_bytes", tier="device") == 0)

        wait_until(quiet, "no request and no referenced block", timeout)


def byte_tokenizer():
    """A tokenizer.json in which every byte is a token: byte-level BPE without merges."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    alphabet |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "post_processor": None, "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {alphabet[byte]: byte for byte in range(256)},
                  "merges": []}}


def demo_texts():
    """Long public-domain texts, by file name."""
    texts = {}
    for name in sorted(os.listdir(DEMO_PROMPTS)):
        if name.endswith(".txt"):
            with open(os.path.join(DEMO_PROMPTS, name), encoding="utf-8") as file:
                texts[name] = file.read()
    return texts


def _watchdog(seconds):
    """Ends the process, with the servers it started, if the tests hang."""

    def end():
        print(f"e2e: no end after {seconds:.0f} s; giving up", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def main():
    global SLUICE, MAKE_CHECKPOINT, MALFORMED_CLIENT, PATIENCE
    build = os.path.join(ROOT, "build", "release")
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", default=os.path.join(build, "sluice"))
    parser.add_argument("--make-checkpoint", default=os.path.join(
        build, "tests", "support", "make_random_checkpoint"))
    parser.add_argument("--malformed-client", default=os.path.join(
        build, "tests", "e2e", "malformed", "malformed_client"))
    parser.add_argument("--patience", type=float, default=1.0)
    parser.add_argument("--give-up-after", type=float, default=600.0)
    options, rest = parser.parse_known_args()
    SLUICE = os.path.abspath(options.sluice)
    MAKE_CHECKPOINT = os.path.abspath(options.make_checkpoint)
    MALFORMED_CLIENT = os.path.abspath(options.malformed_client)
    PATIENCE = options.patience
    _watchdog(options.give_up_after)
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
