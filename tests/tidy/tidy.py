#!/usr/bin/env python3
"""Checks the structure of the source tree. Prints findings as path:line: message; exits 1 if any.

    tests/tidy/tidy.py [--root FOLDER]
"""

import argparse
import os
import sys

import checks
import include_table
from source_tree import SourceTree

CHECKS = {
    "includes": include_table.check_includes,
    "drivers": include_table.check_drivers,
    "pure-core": checks.check_pure_core,
    "product-tokens": checks.check_product_tokens,
    "sleeps": checks.check_sleeps,
    "disabled-tests": checks.check_disabled_tests,
    "promises": checks.check_promises,
    "absolute-paths": checks.check_absolute_paths,
    "file-size": checks.check_file_size,
    "function-size": checks.check_function_size,
    "pragma-once": checks.check_pragma_once,
    "built": checks.check_sources_are_built,
    "readmes": checks.check_readmes,
}


def findings(tree, name):
    return [f"{path}:{line}: {message} [{name}]" for path, line, message in CHECKS[name](tree)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.path.join(os.path.dirname(__file__), "..", ".."))
    tree = SourceTree(parser.parse_args().root)
    found = [finding for name in CHECKS for finding in findings(tree, name)]
    for path, line, message in checks.long_files(tree):
        print(f"{path}:{line}: note: {message}")
    print("\n".join(found) if found else f"tidy: {len(tree.paths)} files, nothing to report")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
