"""Finds the functions of a C++ file and their length, by matching braces.

A heuristic, not a parser: good enough for this project's style, and in doubt it sees no function.
"""

import re

_PREPROCESSOR = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_TYPE = re.compile(r"\b(?:class|struct|union|enum|namespace|extern)\b")
_NAME = re.compile(r"([~\w:]+|operator\s*[^\s(]+)\s*$")


def _without_parentheses(text):
    depth, kept = 0, []
    for char in text:
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif depth == 0:
            kept.append(char)
    return "".join(kept)


def _without_template_headers(text):
    while True:
        match = re.search(r"\btemplate\s*<", text)
        if not match:
            return text
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"<": 1, ">": -1}.get(text[end], 0)
            end += 1
        text = text[:match.start()] + text[end:]


def _kind(before):
    """What the brace after `before` opens: "scope", "function" or "other"."""
    bare = _without_template_headers(_without_parentheses(before))
    if _TYPE.search(bare):
        return "other" if re.search(r"\benum\b", bare) else "scope"
    if "(" not in before or re.search(r"(?<![=!<>])=(?!=)\s*[^;]*$", bare):
        return "other"
    return "function"


def _name(before):
    match = _NAME.search(before[:before.index("(")])
    name = match.group(1) if match else "function"
    if re.fullmatch(r"[A-Z][A-Z_]+", name):  # TEST(Suite, Case)
        name = re.sub(r"\s+", " ", before[before.index(name):before.index(")") + 1])
    return name


def function_sizes(code):
    """Yields (first line, number of lines, name) per function of `code`, whose comments and literals
    have been blanked."""
    code = _PREPROCESSOR.sub(lambda m: "\n" * m.group(0).count("\n"), code)
    stack = []  # per open brace: (kind, line, name)
    before, line, parentheses = "", 1, 0
    for char in code:
        line += char == "\n"
        inside = bool(stack) and stack[-1][0] != "scope"
        if char in "()":
            parentheses += 1 if char == "(" else -1
        if char == "{":
            kind = "other" if inside or parentheses else _kind(before)
            stack.append((kind, line, _name(before) if kind == "function" else ""))
            before = ""
        elif char == "}" and stack:
            kind, first, name = stack.pop()
            if kind == "function":
                yield first, line - first + 1, name
            before = ""
        elif char == ";" and not parentheses:
            before = ""
        elif not inside:
            before += char
