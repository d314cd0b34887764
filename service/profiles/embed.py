"""Writes built_in.cc: the JSON files of deploy/profiles as string literals.

    python3 embed.py OUTPUT ROOT FILE...        FILE: paths below ROOT
"""

import pathlib
import sys


def literal(text):
    if ')json"' in text:
        raise ValueError('contains )json"')
    return f'R"json({text})json"'


def main():
    output, root, *files = sys.argv[1:]
    lines = ['#include "service/profiles/built_in.h"', "", "namespace sluice {", "namespace {", "",
             "constexpr BuiltInFile kFiles[] = {"]
    for name in sorted(files):
        path = pathlib.Path(root, name)
        lines.append(f'    {{"{name}", {literal(path.read_text(encoding="utf-8"))}}},')
    lines += ["};", "", "}  // namespace", "",
              "std::span<const BuiltInFile> BuiltInProfiles() { return kFiles; }", "",
              "}  // namespace sluice", ""]
    pathlib.Path(output).write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
