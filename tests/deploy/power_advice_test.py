"""deploy/tools/power_advice.sh on made-up machines: right numbers, and nothing is ever changed."""

import os
import subprocess
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SCRIPT = os.path.join(ROOT, "deploy", "tools", "power_advice.sh")

# Answers the query, and notes every call, so that a test sees whether it was asked to change anything.
FAKE_NVIDIA_SMI = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
echo "0, NVIDIA H100 80GB HBM3, 121.50, 700.00, 200.00, 700.00, 1980"
echo "1, NVIDIA L4, 30.10, 72.00, 60.00, 72.00, 2040"
"""


class PowerAdviceTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.mkdir(os.path.join(self.folder, "bin"))
        os.mkdir(os.path.join(self.folder, "powercap"))

    def write(self, text, *path, mode=0o644):
        path = os.path.join(self.folder, *path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def run_script(self, *arguments):
        environment = {"PATH": os.path.join(self.folder, "bin") + ":/usr/bin:/bin",
                       "SLUICE_POWERCAP_ROOT": os.path.join(self.folder, "powercap")}
        return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)

    def add_gpus(self):
        self.write(FAKE_NVIDIA_SMI, "bin", "nvidia-smi", mode=0o755)

    def add_cpu(self):
        self.write("package-0\n", "powercap", "intel-rapl:0", "name")
        self.write("240000000\n", "powercap", "intel-rapl:0", "constraint_0_power_limit_uw")
        self.write("200000000\n", "powercap", "intel-rapl:0", "constraint_0_max_power_uw")

    def test_a_machine_with_neither_gets_no_advice(self):
        done = self.run_script()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("nothing to advise", done.stdout)

    def test_caps_are_percent_of_the_default_and_within_what_the_device_allows(self):
        self.add_gpus()
        done = self.run_script("--cap", "50")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("nvidia-smi -i 0 -pl 350\n", done.stdout)
        self.assertIn("nvidia-smi -i 1 -pl 60\n", done.stdout)  # half of 72 W is below the least
        undo = done.stdout.split("# To undo:")[1]
        self.assertIn("nvidia-smi -i 0 -pl 700\n", undo)
        self.assertIn("nvidia-smi -i 1 -pl 72\n", undo)

    def test_clocks_are_left_alone_unless_asked_for(self):
        self.add_gpus()
        self.assertNotIn("-lgc", self.run_script().stdout)
        done = self.run_script("--clock", "80")
        self.assertIn("nvidia-smi -i 0 -lgc 0,1584 ", done.stdout)
        self.assertIn("nvidia-smi -i 0 -rgc\n", done.stdout.split("# To undo:")[1])

    def test_cpu_packages_are_capped_through_powercap(self):
        self.add_cpu()
        done = self.run_script("--cap", "75")
        self.assertRegex(done.stdout, r"echo 150000000 > \S+/intel-rapl:0/constraint_0_power_limit_uw\n")
        self.assertRegex(done.stdout.split("# To undo:")[1], r"echo 240000000 > ")

    def test_nothing_is_changed(self):
        self.add_gpus()
        self.add_cpu()
        self.run_script("--cap", "50", "--clock", "50")
        with open(os.path.join(self.folder, "bin", "calls"), encoding="utf-8") as file:
            calls = file.read().splitlines()
        self.assertEqual(len(calls), 1)
        self.assertIn("--query-gpu", calls[0])
        limit = os.path.join(self.folder, "powercap", "intel-rapl:0", "constraint_0_power_limit_uw")
        with open(limit, encoding="utf-8") as file:
            self.assertEqual(file.read(), "240000000\n")

    def test_wrong_numbers_are_refused(self):
        for arguments in (["--cap", "0"], ["--cap", "101"], ["--clock", "x"], ["--cap"], ["--apply"]):
            done = self.run_script(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn("power_advice.sh: ", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
