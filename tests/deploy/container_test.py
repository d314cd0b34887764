"""What can be said about deploy/container without building it (check.sh there builds and runs it).

By hand: python3 tests/deploy/container_test.py --sluice build/release/sluice
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SLUICE = ""
# What a sanitizer or the C library itself brings.
_NOT_OURS = re.compile(r"^(libc|libm|libstdc\+\+|libgcc_s|lib[atu]b?san|ld-linux.*)\.so|^lib(asan|tsan|ubsan)\.so")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def packages(group):
    done = subprocess.run([os.path.join(ROOT, "deploy/setup/packages.sh"), "--list", group],
                          capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def needed_libraries():
    text = subprocess.run(["readelf", "-d", SLUICE], capture_output=True, text=True, check=True).stdout
    return [name for name in re.findall(r"NEEDED.*\[(.*)\]", text) if not _NOT_OURS.match(name)]


def package_of(library):
    """The Debian package with `library`, or None."""
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    path = re.search(rf"^\s*{re.escape(library)} .*=> (\S+)$", cache, re.M)
    if path is None:
        return None
    for candidate in (path.group(1), os.path.realpath(path.group(1))):
        for spelling in (candidate, candidate.removeprefix("/usr"), "/usr" + candidate):
            done = subprocess.run(["dpkg", "-S", spelling], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout.split(":")[0]
    return None


class ContainerTest(unittest.TestCase):
    @unittest.skipIf(shutil.which("dpkg") is None or shutil.which("readelf") is None,
                     "not a Debian system with binutils")
    def test_the_runtime_packages_are_those_of_the_libraries_that_the_binary_needs(self):
        needed = {library: package_of(library) for library in needed_libraries()}
        self.assertGreater(len(needed), 5)
        missing = {library: package for library, package in needed.items() if package not in packages("runtime")}
        self.assertEqual(missing, {}, "deploy/setup/packages.sh: the group runtime lacks these")

    def test_one_version_everywhere(self):
        version = re.search(r"project\(sluice VERSION (\S+)", read("CMakeLists.txt")).group(1)
        self.assertIn(f"ARG VERSION={version}\n", read("deploy/container/Dockerfile"))
        for path in ("base", "components/gpu", "overlays/cpu-demo"):
            text = read("deploy/kubernetes", path, "kustomization.yaml")
            self.assertRegex(text, rf"newTag: {re.escape(version)}-\w+\n", path)
        self.assertIn(f'app.kubernetes.io/version: "{version}"',
                      read("deploy/kubernetes/base/kustomization.yaml"))

    def test_every_stage_has_a_base_that_is_pinned_or_ours(self):
        text = read("deploy/container/Dockerfile")
        stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.M)
        self.assertEqual(len(stages), len(re.findall(r"^FROM ", text, re.M)))
        known = {f"${{{name}}}" for name, value in re.findall(r"^ARG (\w+)=(\S+)$", text, re.M)
                 if re.search(r":(?!latest)\S", value)}
        for base, name in stages:
            self.assertIn(base, known, f"stage {name}")
            known.add(name)
        self.assertEqual(stages[-1], ("cpu", "default"))

    def test_it_runs_as_a_number_that_is_not_root(self):
        text = read("deploy/container/Dockerfile")
        self.assertEqual(re.findall(r"^USER (.*)$", text, re.M), ["65532:65532"])
        self.assertIn("runAsUser: 65532", read("deploy/kubernetes/base/deployment.yaml"))

    def test_the_context_has_what_is_copied_and_no_history(self):
        rules = read(".dockerignore").split("\n")
        self.assertEqual([rule for rule in rules if rule and rule[0] != "#"][0], "*")
        for folder in ("backend", "proto", "scheduler", "service", "deploy", "CMakeLists.txt"):
            self.assertIn("!" + folder, rules)
        self.assertFalse([rule for rule in rules if rule.startswith(("!.git", "!build"))])

    def test_the_health_check_is_a_command_that_exists(self):
        words = re.search(r"CMD \[(\"/usr/local/bin/sluice\".*)\]", read("deploy/container/Dockerfile")).group(1)
        _, command, *flags = [word.strip().strip('"') for word in words.split(",")]
        done = subprocess.run([SLUICE, command, "--help"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        for flag in flags:
            self.assertIn(flag.partition("=")[0], done.stdout)

    @unittest.skipIf(shutil.which("shellcheck") is None, "shellcheck is not installed")
    def test_shell_scripts_are_clean(self):
        scripts = ["deploy/container/check.sh", "deploy/tools/power_advice.sh", "deploy/setup/packages.sh"]
        done = subprocess.run(["shellcheck", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)


def main():
    global SLUICE  # pylint: disable=global-statement
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    options, rest = parser.parse_known_args()
    SLUICE = os.path.abspath(options.sluice)
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
