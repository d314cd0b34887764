"""Structure checks other than includes. Each yields (path, line, message) per finding."""

import posixpath
import re

from function_size import function_sizes
from source_tree import CPP

MAX_FILE_LINES = 600
LONG_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_TEST_FUNCTION_LINES = 100

PRODUCT = ("scheduler/", "backend/", "service/")
# Folders below tests/ that hold tools rather than tests, and so explain themselves.
TOOL_FOLDERS = ("tests/bench", "tests/e2e", "tests/property", "tests/support", "tests/tidy")

_PURE_TOKENS = re.compile(
    r"absl::Now\b|absl::Mutex\b|\brandom_device\b|\bstd::this_thread\b|\bstd::chrono\b"
    r"|\bstd::(?:recursive_|shared_|timed_)?mutex\b|\bstd::j?thread\b|\bstd::atomic\b"
    r"|\bstd::condition_variable\b|\bstd::async\b|\bs?rand\s*\(|\bclock_gettime\b")
_PRODUCT_TOKENS = re.compile(
    r"\b(?:secure_)?getenv\b|\bthrow\b|\.detach\s*\(\)|\busing namespace std\b")
_SLEEPS = re.compile(r"\b(?:sleep_for|sleep_until|usleep|nanosleep|SleepFor|sleep)\s*\(")
_DISABLED = re.compile(r"\bDISABLED_\w+")
_PROMISES = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|HA" r"CK)\b")
_ABSOLUTE = re.compile(r"""(?:^|[\s"'`=(:,<])/(?:work|tmp|home|root|mnt|Users)/""")
_HOME = re.compile(r"""(?:^|[\s"'`=(:,<])/(?:work|home|root|mnt|Users)/""")


def _grep(tree, paths, pattern, message, code=True):
    for path in paths:
        text = tree.code(path) if code and path.endswith(CPP) else tree.read(path)
        for number, line in enumerate((text or "").split("\n"), 1):
            match = pattern.search(line)
            if match:
                yield path, number, message.format(match.group(0).strip())


def check_pure_core(tree):
    paths = [p for p in tree.with_suffix(*CPP) if p.startswith("scheduler/")]
    return _grep(tree, paths, _PURE_TOKENS, "{} in the pure core: time, chance and threads stay out")


def check_product_tokens(tree):
    paths = [p for p in tree.with_suffix(*CPP) if p.startswith(PRODUCT)]
    return _grep(tree, paths, _PRODUCT_TOKENS, "{} is not used in this project")


def check_sleeps(tree):
    paths = [p for p in tree.with_suffix(".py", *CPP)
             if p.startswith("tests/") and not p.startswith(("tests/e2e/", "tests/tidy/"))]
    return _grep(tree, paths, _SLEEPS, "{} in a test: wait for the event instead")


def check_disabled_tests(tree):
    paths = [p for p in tree.with_suffix(*CPP) if p.startswith("tests/")]
    return _grep(tree, paths, _DISABLED, "{}: a test that does not run")


def check_promises(tree):
    return _grep(tree, tree.code_files(), _PROMISES, "{}: do it, or file an issue", code=False)


def check_absolute_paths(tree):
    message = "{} names a folder of one machine"
    for path, number, text in _grep(tree, tree.code_files(), _ABSOLUTE, message, code=False):
        line = tree.read(path).split("\n")[number - 1]
        if not re.match(r"\s*//", line):  # a comment may show a command
            yield path, number, text
    yield from _grep(tree, tree.with_suffix(".md", ".json"), _HOME, message)


def check_file_size(tree):
    for path in tree.code_files():
        lines = (tree.read(path) or "").count("\n")
        if lines > MAX_FILE_LINES:
            yield path, MAX_FILE_LINES, f"{lines} lines; the limit is {MAX_FILE_LINES}: split it"


def long_files(tree):
    """Files above the soft limit: worth a look, not an error."""
    for path in tree.code_files():
        lines = (tree.read(path) or "").count("\n")
        if LONG_FILE_LINES < lines <= MAX_FILE_LINES:
            yield path, LONG_FILE_LINES, f"{lines} lines; more than {LONG_FILE_LINES} is long"


def check_function_size(tree):
    for path in tree.with_suffix(*CPP):
        limit = MAX_TEST_FUNCTION_LINES if path.startswith("tests/") else MAX_FUNCTION_LINES
        for line, size, name in function_sizes(tree.code(path)):
            if size > limit:
                yield path, line, f"{name}: {size} lines; the limit is {limit}: split it"


def check_pragma_once(tree):
    for path in tree.with_suffix(".h"):
        # Highway's -inl.h files are included once per instruction set, and guard themselves.
        guard = "HWY_TARGET_TOGGLE" if path.endswith("-inl.h") else "^#pragma once$"
        if not re.search(guard, tree.read(path), re.MULTILINE):
            yield path, 1, "no #pragma once"


def check_sources_are_built(tree):
    words = {}
    for path in tree.paths:
        if posixpath.basename(path) == "CMakeLists.txt" or path.endswith(".cmake"):
            text = re.sub(r"#[^\n]*", "", tree.read(path))
            words.setdefault(posixpath.dirname(path), set()).update(re.split(r"[\s()\"]+", text))
    for path in tree.with_suffix(".cc"):
        folder = posixpath.dirname(path)
        while posixpath.relpath(path, folder or ".") not in words.get(folder, ()):
            if not folder:
                yield path, 1, "in no CMakeLists.txt: it is never built"
                break
            folder = posixpath.dirname(folder)


def check_readmes(tree):
    existing = set(tree.paths)
    folders = {posixpath.dirname(p) for p in tree.with_suffix(*CPP) if p.startswith(PRODUCT)}
    folders |= {f for f in TOOL_FOLDERS if any(p.startswith(f + "/") and p.endswith(CPP + (".py",))
                                               for p in tree.paths)}
    folders |= {p.split("/")[0] for p in tree.with_suffix(".proto", ".sh", *CPP) if "/" in p}
    for folder in sorted(folders):
        if f"{folder}/README.md" not in existing:
            yield f"{folder}/README.md", 1, "missing: each source folder says what lives in it"
