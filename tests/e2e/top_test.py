#!/usr/bin/env python3
"""sluice top: a plain picture where there is no terminal, a live one where there is (through tmux)."""

import re
import shutil
import subprocess
import tempfile
import time
import unittest

import harness
import pictures

SERVER = ("--device-kv-blocks=64", "--host-kv-blocks=256", "--link-gbps=0.05", "--policy=fcfs")


class TopTest(harness.TestCase):
    def start_load(self, server, seconds):
        client = subprocess.Popen(
            [harness.SLUICE, "bench", f"--endpoint={server.endpoint}", f"--duration={seconds}", "--concurrency=4",
             "--prompt-tokens=560", "--shared-prefix-tokens=512", "--num-prefixes=8", "--output-tokens=32"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def end():
            client.kill()
            client.wait()

        self.addCleanup(end)
        harness.wait_until(lambda: server.metric("sluice_requests_total", outcome="length") > 4, "some load")

    def test_one_picture_of_an_idle_server(self):
        server = self.start_server(*SERVER)
        done = harness.run_sluice("top", f"--target={server.endpoint}", "--once")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.rstrip("\n").split("\n")
        self.assertLessEqual(len(lines), 24)
        self.assertTrue(all(len(line) <= 80 and line.isascii() for line in lines), done.stdout)
        self.assertNotIn("\x1b", done.stdout)
        self.assertIn("bottleneck: idle: no requests", done.stdout)
        self.assertRegex(done.stdout, r"device +\[\.+\] +0 %")

    def test_one_picture_under_load(self):
        server = self.start_server(*SERVER)
        self.start_load(server, 15)
        done = harness.run_sluice("top", f"--target={server.endpoint}", "--once")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"bottleneck: (?!idle)")
        self.assertRegex(done.stdout, r"running [1-4] \(")
        self.assertRegex(done.stdout, r"first token +p50 \d")
        self.assertRegex(done.stdout, r"between tokens +p50 \d")
        self.assertRegex(done.stdout, r"host -> device \[#*\.*\] +\d+ %")
        self.assertRegex(done.stdout, r"KV host +\[#")
        self.assertRegex(done.stdout, r"\ndefault +\d+ +\d+")

    def test_without_a_server_it_says_so(self):
        done = harness.run_sluice("top", "--target=127.0.0.1:1", "--once", "--connect-timeout=0.2")
        self.assertEqual(done.returncode, 1)
        self.assertIn("127.0.0.1:1", done.stderr)


@unittest.skipUnless(shutil.which("tmux"), "tmux is not installed (deploy/setup/packages.sh metrics)")
class TerminalTest(TopTest):
    """On a terminal of 80 by 24."""

    # Those of the base class run there.
    test_one_picture_of_an_idle_server = None
    test_one_picture_under_load = None
    test_without_a_server_it_says_so = None

    def tmux(self, *arguments):
        return subprocess.run(["tmux", "-S", self.socket, *arguments], capture_output=True, text=True,
                              timeout=30, check=True).stdout

    def start_top(self, server):
        self.socket = f"{tempfile.mkdtemp(prefix='sluice_tmux_')}/socket"
        self.addCleanup(shutil.rmtree, self.socket.rsplit("/", 1)[0], ignore_errors=True)
        self.addCleanup(lambda: subprocess.run(["tmux", "-S", self.socket, "kill-server"], check=False,
                                               capture_output=True))
        command = f"trap : INT; {harness.SLUICE} top --target={server.endpoint} --interval=0.3; echo ended $?; sleep 60"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def screen_under_load(self):
        """With colours, when all parts have something to show."""
        time.sleep(5)
        return pictures.terminal(self.tmux("capture-pane", "-e", "-p"))

    def wait_for(self, pattern):
        harness.wait_until(lambda: re.search(pattern, self.screen()), f"{pattern} on the terminal")
        return self.screen()

    def test_the_picture_lives_and_q_ends_it(self):
        server = self.start_server(*SERVER)
        self.start_top(server)
        self.wait_for("bottleneck: idle")
        self.start_load(server, 15)
        screen = self.wait_for(r"running [1-4] \(")
        lines = screen.rstrip("\n").split("\n")
        self.assertLessEqual(len(lines), 24)
        self.assertIn("sluice top", lines[0])
        self.assertIn("bottleneck: ", lines[1])
        pictures.keep("top.svg", self.screen_under_load)
        first = re.search(r"up (\d\d:\d\d:\d\d)", screen).group(1)
        self.wait_for(rf"up (?!{first})\d\d:")  # it goes on
        self.tmux("send-keys", "q")
        self.wait_for("ended 0")
        self.assertNotIn("bottleneck", self.screen())  # what was there before is back

    def test_the_servers_end_is_said(self):
        server = self.start_server(*SERVER)
        self.start_top(server)
        self.wait_for("bottleneck: idle")
        server.kill()
        self.assertIn("sluice: ", self.wait_for("ended 1"))

    def test_ctrl_c_leaves_the_terminal_as_it_was(self):
        server = self.start_server(*SERVER)
        self.start_top(server)
        self.wait_for("bottleneck: idle")
        time.sleep(0.2)
        self.tmux("send-keys", "C-c")
        self.wait_for("ended 0")


if __name__ == "__main__":
    harness.main()
