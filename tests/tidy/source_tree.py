"""The files of a source tree, and C++ text with comments and literals blanked out."""

import os
import re
import subprocess

SKIPPED_FOLDERS = {".git", ".cache", "build", "__pycache__", "node_modules"}
CPP = (".cc", ".h")
CODE = CPP + (".py", ".proto", ".sh", ".cmake", ".js", ".yaml", ".yml")


class SourceTree:
    """Text files of a project, by path relative to its root. `files` overrides the search."""

    def __init__(self, root, files=None):
        self.root = os.path.abspath(root)
        self.paths = sorted(files if files is not None else _find_files(self.root))
        self._texts = {}
        self._code = {}

    def read(self, path):
        """The text of a file, or None if it is not UTF-8 text."""
        if path not in self._texts:
            try:
                with open(os.path.join(self.root, path), encoding="utf-8") as file:
                    self._texts[path] = file.read()
            except UnicodeDecodeError:
                self._texts[path] = None
        return self._texts[path]

    def code(self, path):
        """The text of a C++ file with comments and literals blanked, line numbers unchanged."""
        if path not in self._code:
            self._code[path] = blank_comments_and_literals(self.read(path) or "")
        return self._code[path]

    def with_suffix(self, *suffixes):
        return [path for path in self.paths if path.endswith(suffixes)]

    def code_files(self):
        names = ("CMakeLists.txt", "Makefile", ".ci/run")
        return [path for path in self.paths if path.endswith(CODE + names)]


def _find_files(root):
    """Tracked and new files as git sees them; without git, everything outside build folders."""
    try:
        listed = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True, check=True).stdout.decode()
        top = subprocess.run(["git", "-C", root, "rev-parse", "--show-prefix"],
                             capture_output=True, check=True).stdout.decode().strip()
        if listed and not top:
            return [p for p in set(listed.split("\0"))
                    if p and os.path.isfile(os.path.join(root, p))]
    except (OSError, subprocess.CalledProcessError):
        pass
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return found


_TOKEN = re.compile(
    r"""//(?:\\\n|[^\n])*            # line comment
      | /\*.*?\*/                    # block comment
      | R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)"   # raw string
      | "(?:\\.|[^"\\\n])*"          # string
      | (?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'          # character (not a digit separator)
    """,
    re.DOTALL | re.VERBOSE)
_INCLUDE = re.compile(r'^\s*#\s*include\s*(<[^>]+>|"[^"]+")', re.MULTILINE)


def blank_comments_and_literals(text):
    """Replaces comments by blanks and literals by empty ones; newlines stay."""

    def blank(match):
        token = match.group(0)
        kept = '""' if token[0] in '"R' else ("0" if token[0] == "'" else " ")
        return kept + "\n" * token.count("\n")

    return _TOKEN.sub(blank, text)


def includes(text):
    """Yields (line number, header, is it a <system> include) of each #include."""
    without_block_comments = re.sub(
        r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.DOTALL)
    for match in _INCLUDE.finditer(without_block_comments):
        line = without_block_comments.count("\n", 0, match.start(1)) + 1
        yield line, match.group(1)[1:-1], match.group(1)[0] == "<"
