"""A parser of the Prometheus text format, strict about what it needs and silent about nothing."""

import math
import re

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Metrics:
    """Samples of one scrape: (name, labels) -> value; types and help texts by family."""

    def __init__(self):
        self.samples = {}
        self.types = {}
        self.helps = {}

    def series(self, name, **labels):
        """{labels: value} of every sample called `name` whose labels include `labels`."""
        wanted = set(labels.items())
        return {key[1]: value for key, value in self.samples.items()
                if key[0] == name and wanted <= key[1]}

    def value(self, name, **labels):
        """The sum of those samples. Raises KeyError if there is none."""
        found = self.series(name, **labels)
        if not found:
            raise KeyError(f"no sample {name} with {labels}")
        return sum(found.values())

    def label_values(self, name, label):
        return {dict(labels)[label] for labels in self.series(name)}


def _labels(text):
    found, end = {}, 0
    for match in _LABEL.finditer(text or ""):
        if match.start() != end:
            raise ValueError(f"bad labels: {text}")
        found[match.group(1)] = match.group(2)
        end = match.end()
    if end != len(text or ""):
        raise ValueError(f"bad labels: {text}")
    return frozenset(found.items())


def parse(text):
    """Returns the Metrics of a scrape. Raises ValueError for a line that is not in the format, a
    sample given twice, or a type given twice."""
    metrics = Metrics()
    for line in text.split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            if name in metrics.types:
                raise ValueError(f"second TYPE of {name}")
            metrics.types[name] = kind
        elif line.startswith("# HELP "):
            _, _, name, *words = line.split(" ", 3)
            metrics.helps[name] = words[0] if words else ""
        elif line and not line.startswith("#"):
            match = _SAMPLE.match(line)
            if not match:
                raise ValueError(f"not a sample: {line}")
            key = (match.group(1), _labels(match.group(2)))
            if key in metrics.samples:
                raise ValueError(f"given twice: {line}")
            metrics.samples[key] = math.inf if match.group(3) == "+Inf" else float(match.group(3))
    return metrics
