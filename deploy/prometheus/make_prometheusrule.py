#!/usr/bin/env python3
"""Writes prometheusrule.yaml: rules.yml and alerts.yml as the Prometheus operator wants them.

    make_prometheusrule.py [FILE]     default: prometheusrule.yaml beside this file

The file is committed, because kustomize runs no scripts; a test checks that it is what this script makes.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = """\
# Written by make_prometheusrule.py from rules.yml and alerts.yml: change those.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sluice
spec:
  groups:
"""


def groups(name):
    """The groups of a rule file, one level deeper."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        lines = file.read().split("groups:\n", 1)[1].splitlines()
    return "".join(f"  {line}\n" if line else "\n" for line in lines)


def make():
    return HEAD + groups("rules.yml") + groups("alerts.yml")


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "prometheusrule.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(make())


if __name__ == "__main__":
    main()
