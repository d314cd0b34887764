"""Rendered Kubernetes documents, and what the checks ask about them."""

import re

_QUANTITY = re.compile(r"^([0-9.]+)([A-Za-z]*)$")
_FACTORS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
            "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
CLUSTER_WIDE = ("Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")


def quantity(text):
    """"4Gi" as a number of bytes, "500m" as 0.5; raises ValueError for what is neither."""
    match = _QUANTITY.match(str(text))
    if not match or match.group(2) not in _FACTORS:
        raise ValueError(f"{text!r} is not a quantity")
    return float(match.group(1)) * _FACTORS[match.group(2)]


def name_of(document):
    meta = document["metadata"]
    return f"{document['kind']} {meta.get('namespace', '-')}/{meta['name']}"


def get(document, *path, default=None):
    """document[path[0]][path[1]]..., or `default` where something on the way is missing."""
    for key in path:
        if isinstance(document, list) and isinstance(key, int) and key < len(document):
            document = document[key]
        elif isinstance(document, dict) and key in document:
            document = document[key]
        else:
            return default
    return document


def of_kind(documents, *kinds):
    return [d for d in documents if d["kind"] in kinds]


def same_namespace(a, b):
    return a["metadata"].get("namespace") == b["metadata"].get("namespace")


def pod_template(workload):
    return workload["spec"]["template"]


def pod_labels(workload):
    return get(pod_template(workload), "metadata", "labels", default={})


def containers(workload):
    spec = pod_template(workload)["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def engine_container(workload):
    """The container that runs `sluice serve`, or None."""
    for container in containers(workload):
        if container.get("args", [None])[0] == "serve":
            return container
    return None


def matches(selector, labels):
    """Whether a label selector (matchLabels and matchExpressions) chooses `labels`."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        has = term["key"] in labels
        value = labels.get(term["key"])
        good = {"Exists": has, "DoesNotExist": not has,
                "In": has and value in term.get("values", []),
                "NotIn": not has or value not in term.get("values", [])}[term["operator"]]
        if not good:
            return False
    return True


def chosen(documents, selector, like):
    """Workloads in the namespace of `like` whose pods `selector` chooses."""
    return [w for w in of_kind(documents, *WORKLOADS)
            if same_namespace(w, like) and matches(selector, pod_labels(w))]


def ports(workload):
    """{name: number} of all containers of a pod."""
    return {p.get("name", str(p["containerPort"])): p["containerPort"]
            for c in containers(workload) for p in c.get("ports", [])}


def flag_values(container):
    """{"--port": "50051"} of the arguments; a flag without "=" maps to None."""
    result = {}
    for argument in container.get("args", []):
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            result[name] = value if equals else None
    return result


def announced_flags(workload):
    """Flags that the manifests use before every build has them: the needs.sluice.io annotations."""
    notes = get(workload, "metadata", "annotations", default={})
    return {flag.partition("=")[0] if "=" not in flag else flag
            for key, value in notes.items() if key.startswith("needs.sluice.io/")
            for flag in value.split(",")}


def probes(container):
    return {kind: container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe")
            if kind in container}
