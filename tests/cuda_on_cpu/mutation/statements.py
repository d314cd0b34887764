"""Finds the calls that order things, and the source without each of them."""

import dataclasses
import re

VOID = "static_cast<void>(0)"
CUDA = "cudaSuccess"
STATUS = "::absl::OkStatus()"

# What is deleted: a call, and the expression that stands in for it. Synchronisation that is ours
# by name counts as well, so that the place that needs it is tried and not only the one that does it.
CALLS = {
    r"__syncthreads\w*": VOID,
    r"__syncwarp": VOID,
    r"__threadfence\w*": VOID,
    r"cp_async_wait\w*": VOID,
    r"cp_async_commit": VOID,
    r"barrier_sync": VOID,
    r"barrier_arrive": VOID,
    r"mbarrier_\w+": VOID,
    r"MeetPartner": VOID,
    r"cudaStreamWaitEvent": CUDA,
    r"cudaEventRecord(?:WithFlags)?": CUDA,
    r"cudaStreamSynchronize": CUDA,
    r"cudaEventSynchronize": CUDA,
    r"cudaDeviceSynchronize": CUDA,
    r"Synchronize": STATUS,
    r"WaitForFence": STATUS,
    r"WaitForLayer": STATUS,
    r"MakeWait": STATUS,
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    source: str  # relative to the repository
    line: int
    statement: str
    text: str  # the whole file without it


def closing(text, opening):
    """The index behind the parenthesis that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    return len(text)


def blank_comments(text):
    """The same length, with spaces where comments were."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text,
                  flags=re.DOTALL)


def is_call(code, start):
    """False for the name of a function that is declared or defined here."""
    before = code[:start].rstrip()
    return not before or before[-1] in ";{}(,=!&|?:" or before.endswith(("return", "else", ")"))


def find(source, text, calls=None):
    """One mutant per call: each in its place becomes its stand-in. `calls` as CALLS."""
    code = blank_comments(text)
    calls = CALLS if calls is None else calls
    pattern = re.compile(
        r"(?<![\w.>:])(?:\w+(?:\(\)|\[\w+\])?(?:\.|->|::))*(?:"
        + "|".join(f"(?P<n{i}>{name})" for i, name in enumerate(calls)) + r")(?:<[^;()]*>)?\(")
    stand_ins = list(calls.values())
    for match in pattern.finditer(code):
        if not is_call(code, match.start()):
            continue
        end = closing(code, match.end() - 1)
        which = next(i for i in range(len(stand_ins)) if match.group(f"n{i}"))
        yield Mutant(source, code.count("\n", 0, match.start()) + 1,
                     " ".join(text[match.start():end].split()),
                     text[:match.start()] + stand_ins[which] + text[end:])
