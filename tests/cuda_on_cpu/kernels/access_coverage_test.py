#!/usr/bin/env python3
"""Every kernel of backend/cuda/kernels has a test that asserts its sectors and bank conflicts.

A launch function counts as covered if a function of a test calls it (or a helper of that file or of
attention_world that does) and the same file counts accesses and expects no waste of them; a kernel
with dynamic shared memory needs an expectation for shared memory, too.
"""

import pathlib
import re
import sys
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
KERNELS = TESTS.parents[2] / "backend" / "cuda" / "kernels"


def launches():
    """name of a launch function -> whether its kernel uses dynamic shared memory"""
    found = {}
    for header in sorted(KERNELS.glob("*.h")):
        for name in re.findall(r"cudaError_t (Launch\w+)\(", header.read_text()):
            source = next(s for s in sorted(KERNELS.glob("*.cu"))
                          if re.search(rf"cudaError_t {name}\(", s.read_text()))
            text = source.read_text() + "".join(
                (KERNELS / included).read_text()
                for included in re.findall(r'"backend/cuda/kernels/(\w+\.cuh)"', source.read_text()))
            found[name] = "SLUICE_DYNAMIC_SMEM" in text
    return found


def covering():
    """(text, its expectations) of each test that counts accesses."""
    world = (TESTS / "attention_world.cc").read_text()
    for test in sorted(TESTS.glob("*_test.cc")):
        text = test.read_text()
        if "CountAccesses(true)" not in text and "CountAccesses(count" not in text:
            continue
        kinds = set(re.findall(r'Expect(?:No|Little)Waste\("([a-z ]+)"', text))
        yield (text + world if "attention_world.h" in text else text), kinds


class AccessCoverageTest(unittest.TestCase):
    def test_every_kernel_has_its_accesses_asserted(self):
        found = launches()
        self.assertGreater(len(found), 10)
        tests = list(covering())
        for name, shared in found.items():
            kinds = set().union(*(k for text, k in tests if re.search(rf"\b{name}\(", text)))
            self.assertIn("global read", kinds, f"{name}: no test asserts its reads")
            self.assertIn("global write", kinds, f"{name}: no test asserts its writes")
            if shared:
                self.assertIn("shared write", kinds, f"{name}: nor its shared memory")
                self.assertTrue({"ldmatrix", "shared read"} & kinds, f"{name}: nor its reads of it")


if __name__ == "__main__":
    sys.exit(unittest.main())
