"""Installs a package of the npm registry below the build folder, once; or ends the test as skipped."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

SKIPPED = 77  # what CTest is told to take for skipped


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(SKIPPED)


def install(package, version):
    """The folder of node_modules. --packages FOLDER keeps it; without, it is a temporary one."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--packages", default="")
    options, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    for program in ("node", "npm"):
        if not shutil.which(program):
            skip(f"{program} is not installed (Debian packages nodejs and npm)")
    folder = os.path.abspath(options.packages or tempfile.mkdtemp(prefix="sluice_npm_"))
    os.makedirs(folder, exist_ok=True)
    stamp, wanted = os.path.join(folder, "installed"), f"{package}@{version}"
    modules = os.path.join(folder, "node_modules")
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read() == wanted:
                return modules
    with open(os.path.join(folder, "package.json"), "w", encoding="utf-8") as file:
        json.dump({"private": True}, file)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--fetch-retries=1",
               "--fetch-timeout=60000", "--prefix", folder, wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=folder)
    except subprocess.TimeoutExpired:
        skip("the npm registry does not answer")
    if done.returncode != 0:
        skip(f"npm cannot install {wanted}: {done.stderr.strip()[-300:]}")
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(wanted)
    return modules
