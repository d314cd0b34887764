"""Reads the dashboards of this folder and asks a Prometheus server what their panels ask."""

import dataclasses
import glob
import json
import math
import os
import re
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclasses.dataclass(frozen=True)
class Query:
    dashboard: str  # its title
    panel: dict     # as in the file
    expression: str
    legend: str

    @property
    def title(self):
        return self.panel["title"]

    @property
    def unit(self):
        return self.panel["fieldConfig"]["defaults"]["unit"]


@dataclasses.dataclass(frozen=True)
class Series:
    name: str
    points: list  # (seconds since 1970, value); no NaN, no infinity


def load_dashboards(folder=os.path.join(HERE, "dashboards")):
    """The dashboards, by file name."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(path, encoding="utf-8") as file:
            found[os.path.basename(path)] = json.load(file)
    return found


def queries(dashboard):
    """Every query of a dashboard, in order."""
    return [Query(dashboard["title"], panel, target["expr"], target["legendFormat"])
            for panel in dashboard["panels"] for target in panel["targets"]]


def expand(expression, rate_interval, model=".*"):
    """Puts values in the place of Grafana's variables. Raises ValueError if one is left."""
    text = expression.replace("$__rate_interval", rate_interval).replace("$model", model)
    if "$" in text:
        raise ValueError(f"variable without a value in: {text}")
    return text


def _get(url, path, **values):
    request = f"{url}{path}?{urllib.parse.urlencode(values)}"
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    if answer["status"] != "success":
        raise ValueError(f"{request}: {answer}")
    return answer["data"]


def _name(legend, labels):
    if not legend:
        return ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match.group(1), ""), legend).strip()


def query_range(url, expression, start, end, step, legend=""):
    """The series that `expression` has between `start` and `end` (seconds since 1970). A series of
    nothing but NaN (0/0: nothing happened) has no points, but is there."""
    data = _get(url, "/api/v1/query_range", query=expression, start=start, end=end, step=step)
    result = []
    for series in data["result"]:
        points = [(float(when), float(value)) for when, value in series["values"]]
        result.append(Series(_name(legend, series["metric"]),
                             [point for point in points if math.isfinite(point[1])]))
    return result
