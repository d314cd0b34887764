"""What must hold in every rendering of deploy/kubernetes: one function a rule, each yields sentences.

    errors = [e for check in CHECKS for e in check(documents, facts)]

A rule is semantic: something Kubernetes accepts and that then does not work, or not safely. Types and field
names are checked elsewhere (deploy/kubernetes/README.md, "Typed check").
"""

import re

from manifests import (CLUSTER_WIDE, WORKLOADS, announced_flags, chosen, containers, engine_container,
                       flag_values, get, matches, name_of, of_kind, pod_labels, pod_template, ports,
                       probes, quantity, same_namespace)

# Seconds between the last answer and SIGKILL.
RESERVE = 10


class Facts:
    """What the checks know about the program.

    serve_flags, health_flags: names from --help. metrics: names that the program exports.
    refusal(arguments): what `sluice serve` says about a command line that it refuses, else "".
    """

    def __init__(self, serve_flags, health_flags, metrics, refusal):
        self.serve_flags = serve_flags
        self.health_flags = health_flags
        self.metrics = metrics
        self.refusal = refusal


def _engines(documents):
    for workload in of_kind(documents, *WORKLOADS):
        container = engine_container(workload)
        if container is not None:
            yield workload, container


def selectors_match(documents, _):
    for workload in of_kind(documents, *WORKLOADS):
        if not matches(workload["spec"]["selector"], pod_labels(workload)):
            yield f"{name_of(workload)}: its selector does not match its own pods"
    for document in of_kind(documents, "Service"):
        selector = get(document, "spec", "selector")
        if selector and not chosen(documents, {"matchLabels": selector}, document):
            yield f"{name_of(document)}: selects no pod"
    paths = {"PodDisruptionBudget": ("spec", "selector"), "NetworkPolicy": ("spec", "podSelector"),
             "PodMonitor": ("spec", "selector"), "InferencePool": ("spec", "selector")}
    for document in of_kind(documents, *paths):
        if not chosen(documents, get(document, *paths[document["kind"]]), document):
            yield f"{name_of(document)}: selects no pod"
    for workload in of_kind(documents, *WORKLOADS):
        for spread in get(pod_template(workload), "spec", "topologySpreadConstraints", default=[]):
            if not matches(spread["labelSelector"], pod_labels(workload)):
                yield f"{name_of(workload)}: topologySpreadConstraints count other pods"


def ports_exist(documents, _):
    for service in of_kind(documents, "Service"):
        for workload in chosen(documents, {"matchLabels": service["spec"].get("selector", {})}, service):
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in ports(workload) and target not in ports(workload).values():
                    yield f"{name_of(service)}: no port {target} in {name_of(workload)}"
    for monitor in of_kind(documents, "PodMonitor"):
        for workload in chosen(documents, monitor["spec"]["selector"], monitor):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in ports(workload):
                    yield f"{name_of(monitor)}: no port {endpoint['port']} in {name_of(workload)}"
    for policy in of_kind(documents, "NetworkPolicy"):
        for workload in chosen(documents, policy["spec"]["podSelector"], policy):
            for rule in policy["spec"].get("ingress", []):
                for port in rule.get("ports", []):
                    if isinstance(port["port"], str) and port["port"] not in ports(workload):
                        yield f"{name_of(policy)}: no port {port['port']} in {name_of(workload)}"
    for pool in of_kind(documents, "InferencePool"):
        for workload in chosen(documents, pool["spec"]["selector"], pool):
            for target in pool["spec"]["targetPorts"]:
                if target["number"] not in ports(workload).values():
                    yield f"{name_of(pool)}: no port {target['number']} in {name_of(workload)}"


def arguments_name_the_ports(documents, _):
    for workload, container in _engines(documents):
        flags = flag_values(container)
        for flag, port in (("--port", "grpc"), ("--metrics-port", "metrics"), ("--http-port", "http")):
            if flag in flags and str(ports(workload).get(port)) != flags[flag]:
                yield f"{name_of(workload)}: {flag}={flags[flag]}, but port {port} is {ports(workload).get(port)}"
        if flags.get("--host") != "0.0.0.0":
            yield f"{name_of(workload)}: without --host=0.0.0.0 it listens on loopback only"


def probes_ask_what_is_there(documents, facts):
    for workload in of_kind(documents, *WORKLOADS):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            own = {p.get("name"): p["containerPort"] for p in container.get("ports", [])}
            found = probes(container)
            for kind in ("livenessProbe", "readinessProbe"):
                if kind not in found:
                    yield f"{name_of(workload)}: container {container['name']} has no {kind}"
            for kind, probe in found.items():
                where = f"{name_of(workload)}: {kind} of {container['name']}"
                port = get(probe, "grpc", "port", default=get(probe, "httpGet", "port", default=get(
                    probe, "tcpSocket", "port")))
                if port is not None and port not in own and port not in own.values():
                    yield f"{where}: asks port {port}, which is not there"
                if "grpc" in probe and not isinstance(port, int):
                    yield f"{where}: a gRPC probe wants the number of a port"
                for word in get(probe, "exec", "command", default=[])[2:]:
                    if word.partition("=")[0] not in facts.health_flags:
                        yield f"{where}: sluice health has no {word.partition('=')[0]}"


def probes_speak_the_protocol(documents, _):
    for workload, container in _engines(documents):
        tls = "--tls-cert" in flag_values(container)
        for kind, probe in probes(container).items():
            if tls and "grpc" in probe:
                yield f"{name_of(workload)}: {kind} is a gRPC probe, and the kubelet speaks no TLS"
        live = container.get("livenessProbe", {})
        if live.get("periodSeconds", 10) * live.get("failureThreshold", 3) < 30:
            yield f"{name_of(workload)}: livenessProbe kills a server that is busy for 30 s"
        if get(live, "grpc", "service", default="") != "":
            yield f"{name_of(workload)}: livenessProbe asks for readiness: a draining server would be killed"
        if "startupProbe" not in container:
            yield f"{name_of(workload)}: no startupProbe: a server that loads its model would be killed"


def flags_exist(documents, facts):
    for workload, container in _engines(documents):
        announced = announced_flags(workload)
        known = []
        for argument in container["args"][1:]:
            flag = argument.partition("=")[0]
            if flag in announced or argument in announced:
                continue
            if flag not in facts.serve_flags:
                yield f"{name_of(workload)}: sluice serve has no {flag}"
            else:
                known.append(argument)
        names = [argument.partition("=")[0] for argument in container["args"][1:]]
        for flag in sorted({n for n in names if names.count(n) > 1}):
            yield f"{name_of(workload)}: {flag} is given twice"
        if "--model" in names or "--backend=sim" in container["args"]:
            refusal = facts.refusal(known)
            if refusal:
                yield f"{name_of(workload)}: {refusal}"


def budgets_let_nodes_drain(documents, _):
    for budget in of_kind(documents, "PodDisruptionBudget"):
        for workload in chosen(documents, budget["spec"]["selector"], budget):
            replicas = workload["spec"].get("replicas", _least_replicas(documents, workload))
            least = budget["spec"].get("minAvailable")
            if least is not None and (str(least) == "100%" or str(least).isdigit() and int(least) >= replicas):
                yield f"{name_of(budget)}: minAvailable {least} of {replicas} replicas: no node can be drained"
            if str(budget["spec"].get("maxUnavailable", 1)) in ("0", "0%"):
                yield f"{name_of(budget)}: maxUnavailable 0: no node can be drained"
    for workload, _container in _engines(documents):
        covered = [b for b in of_kind(documents, "PodDisruptionBudget") if same_namespace(b, workload)
                   and matches(b["spec"]["selector"], pod_labels(workload))]
        if len(covered) != 1:
            yield f"{name_of(workload)}: {len(covered)} PodDisruptionBudgets; want one"


def _least_replicas(documents, workload):
    for scaler in of_kind(documents, "ScaledObject", "HorizontalPodAutoscaler"):
        if same_namespace(scaler, workload) and \
                scaler["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]:
            return scaler["spec"].get("minReplicaCount", scaler["spec"].get("minReplicas", 1))
    return 1


def scalers_own_the_replicas(documents, _):
    targets = []
    for scaler in of_kind(documents, "ScaledObject", "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        target = [w for w in of_kind(documents, *WORKLOADS) if same_namespace(w, scaler)
                  and w["metadata"]["name"] == spec["scaleTargetRef"]["name"]]
        if not target:
            yield f"{name_of(scaler)}: there is no {spec['scaleTargetRef']['name']} to scale"
            continue
        targets.append(name_of(target[0]))
        if "replicas" in target[0]["spec"]:
            yield f"{name_of(target[0])}: sets replicas, which {name_of(scaler)} sets too"
        least = spec.get("minReplicaCount", spec.get("minReplicas", 1))
        most = spec.get("maxReplicaCount", spec.get("maxReplicas"))
        if least > most:
            yield f"{name_of(scaler)}: least {least} > most {most}"
    for target in sorted({t for t in targets if targets.count(t) > 1}):
        yield f"{target}: has two autoscalers"


def grace_is_long_enough(documents, _):
    for workload in of_kind(documents, *WORKLOADS):
        spec = pod_template(workload)["spec"]
        grace = spec.get("terminationGracePeriodSeconds", 30)
        for container in spec["containers"]:
            sleep = get(container, "lifecycle", "preStop", "sleep", "seconds", default=0)
            engine = container is engine_container(workload)
            drain = float(flag_values(container).get("--shutdown-timeout", 45)) if engine else 0
            if sleep + drain + (RESERVE if engine else 0) > grace:
                yield (f"{name_of(workload)}: terminationGracePeriodSeconds {grace} < preStop {sleep} + "
                       f"shutdown {drain:g} + {RESERVE} to close")
            if engine and sleep == 0:
                yield f"{name_of(workload)}: no preStop: clients are still sent to a pod that refuses them"


def resources_are_guaranteed(documents, _):
    for workload in of_kind(documents, *WORKLOADS):
        for container in containers(workload):
            asked = get(container, "resources", "requests", default={})
            limit = get(container, "resources", "limits", default={})
            where = f"{name_of(workload)}: container {container['name']}"
            if "memory" not in limit or "cpu" not in asked:
                yield f"{where}: no memory limit or no CPU request"
                continue
            for resource in sorted(set(asked) | set(limit)):
                if asked.get(resource) != limit.get(resource):
                    yield f"{where}: {resource} requests {asked.get(resource)} != limits {limit.get(resource)}"
            if quantity(limit.get("cpu", 0)) % 1 != 0:
                yield f"{where}: {limit['cpu']} CPUs: only whole ones are pinned"


def memory_holds_the_pools(documents, _):
    for workload, container in _engines(documents):
        flags = flag_values(container)
        limit = quantity(container["resources"]["limits"]["memory"])
        host = _gib(flags.get("--host-kv-gib", "1"))
        device = 0 if "nvidia.com/gpu" in container["resources"]["limits"] else \
            _gib(flags.get("--device-kv-gib", "1"))
        if host + device > 0.9 * limit:
            yield (f"{name_of(workload)}: pools of {(host + device) / 2**30:g} GiB leave less than a tenth of "
                   f"{limit / 2**30:g} GiB of memory")
        if "--model" in flags and flags.get("--threads") != str(container["resources"]["limits"]["cpu"]):
            yield (f"{name_of(workload)}: --threads={flags.get('--threads')} with "
                   f"{container['resources']['limits']['cpu']} CPUs: the server would count those of the node")


def _gib(text):
    return quantity(text[:-1]) if text.endswith("iB") else float(text) * 2**30


def images_are_pinned(documents, _):
    for workload in of_kind(documents, *WORKLOADS):
        for container in containers(workload):
            image = container["image"]
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"{name_of(workload)}: image {image} has no tag of a version"


def pods_are_restricted(documents, _):
    for workload in of_kind(documents, *WORKLOADS):
        spec = pod_template(workload)["spec"]
        pod = spec.get("securityContext", {})
        wanted = {("runAsNonRoot",): True, ("seccompProfile", "type"): "RuntimeDefault"}
        for path, value in wanted.items():
            if get(pod, *path) != value:
                yield f"{name_of(workload)}: securityContext.{'.'.join(path)} is not {value}"
        if not pod.get("runAsUser"):
            yield f"{name_of(workload)}: no runAsUser other than 0"
        for container in containers(workload):
            own = container.get("securityContext", {})
            good = (own.get("allowPrivilegeEscalation") is False
                    and own.get("readOnlyRootFilesystem") is True
                    and get(own, "capabilities", "drop") == ["ALL"]
                    and not own.get("privileged") and not get(own, "capabilities", "add"))
            if not good:
                yield f"{name_of(workload)}: container {container['name']} is not restricted"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(key):
                yield f"{name_of(workload)}: {key}"


def volumes_fit(documents, _):
    for workload in of_kind(documents, *WORKLOADS):
        spec = pod_template(workload)["spec"]
        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        mounts = [m for c in containers(workload) for m in c.get("volumeMounts", [])]
        for mount in mounts:
            if mount["name"] not in volumes:
                yield f"{name_of(workload)}: mounts {mount['name']}, which is no volume"
        for name in sorted(set(volumes) - {m["name"] for m in mounts}):
            yield f"{name_of(workload)}: volume {name} is not mounted"
        sizes = 0.0
        for name, volume in volumes.items():
            if "hostPath" in volume:
                yield f"{name_of(workload)}: volume {name} is a hostPath"
            if "emptyDir" not in volume:
                continue
            if "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"{name_of(workload)}: emptyDir {name} has no sizeLimit"
            elif volume["emptyDir"].get("medium") != "Memory":
                sizes += quantity(volume["emptyDir"]["sizeLimit"])
        limit = get(spec, "containers", 0, "resources", "limits", "ephemeral-storage")
        if limit is not None and sizes > quantity(limit):
            yield f"{name_of(workload)}: emptyDirs may hold more than the limit of ephemeral-storage, {limit}"


def written_paths_are_writable(documents, _):
    for workload, container in _engines(documents):
        flags = flag_values(container)
        spec = pod_template(workload)["spec"]
        mounts = {m["mountPath"]: m for m in container.get("volumeMounts", [])}
        for flag in ("--kv-disk-dir", "--record"):
            if flag not in flags:
                continue
            mount = mounts.get(flags[flag])
            if mount is None or mount.get("readOnly"):
                yield f"{name_of(workload)}: {flag}={flags[flag]} is not a writable volume"
                continue
            volume = next(v for v in spec["volumes"] if v["name"] == mount["name"])
            size = get(volume, "emptyDir", "sizeLimit")
            if flag == "--kv-disk-dir" and size and _gib(flags["--kv-disk-gib"]) > quantity(size):
                yield f"{name_of(workload)}: --kv-disk-gib={flags['--kv-disk-gib']} in a volume of {size}"
        for flag in ("--model", "--tls-cert", "--auth-token-file"):
            path = flags.get(flag)
            if path and path != "/models/demo" and not any(
                    path == m or path.startswith(m + "/") for m in mounts):
                yield f"{name_of(workload)}: {flag}={path} is on no volume"


def networks_are_closed(documents, _):
    for workload in of_kind(documents, *WORKLOADS):
        policies = [p for p in of_kind(documents, "NetworkPolicy") if same_namespace(p, workload)
                    and matches(p["spec"]["podSelector"], pod_labels(workload))]
        kinds = {kind for policy in policies for kind in policy["spec"]["policyTypes"]}
        if "Egress" not in kinds:
            yield f"{name_of(workload)}: no NetworkPolicy limits where it may call"
        if engine_container(workload) is not None and "Ingress" not in kinds:
            yield f"{name_of(workload)}: no NetworkPolicy limits who may call it"
        for policy in policies:
            for rule in policy["spec"].get("ingress", []):
                if not rule.get("from"):
                    yield f"{name_of(policy)}: a rule that lets everybody in"


def accounts_are_small(documents, _):
    bound = {(s.get("namespace", b["metadata"].get("namespace")), s["name"])
             for b in of_kind(documents, "RoleBinding") for s in b["subjects"]}
    for document in of_kind(documents, "ClusterRole", "ClusterRoleBinding"):
        yield f"{name_of(document)}: rights over the whole cluster"
    for role in of_kind(documents, "Role"):
        for rule in role["rules"]:
            words = rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "*" in words or "secrets" in words:
                yield f"{name_of(role)}: a wildcard, or secrets"
    for workload in of_kind(documents, *WORKLOADS):
        spec = pod_template(workload)["spec"]
        account = (workload["metadata"].get("namespace"), spec.get("serviceAccountName"))
        if account not in bound and spec.get("automountServiceAccountToken") is not False:
            yield f"{name_of(workload)}: mounts a token that it has no use for"
    for document in of_kind(documents, "Secret"):
        yield f"{name_of(document)}: a secret among the manifests"
    for workload in of_kind(documents, *WORKLOADS):
        for container in containers(workload):
            for variable in container.get("env", []):
                if "value" in variable and re.search("(?i)token|secret|password|key", variable["name"]):
                    yield f"{name_of(workload)}: the secret {variable['name']} in clear"


def routes_lead_somewhere(documents, _):
    for route in of_kind(documents, "HTTPRoute", "GRPCRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                kind = backend.get("kind", "Service")
                found = [d for d in of_kind(documents, kind) if same_namespace(d, route)
                         and d["metadata"]["name"] == backend["name"]]
                if not found:
                    yield f"{name_of(route)}: there is no {kind} {backend['name']}"
                elif kind == "Service" and backend["port"] not in [p["port"] for p in found[0]["spec"]["ports"]]:
                    yield f"{name_of(route)}: {backend['name']} has no port {backend['port']}"
        gateways = of_kind(documents, "Gateway")
        for parent in route["spec"].get("parentRefs", []):
            at = (parent.get("namespace", route["metadata"].get("namespace")), parent["name"])
            if gateways and at not in [(g["metadata"].get("namespace"), g["metadata"]["name"]) for g in gateways]:
                yield f"{name_of(route)}: there is no Gateway {at[0]}/{at[1]}"
    for gateway in of_kind(documents, "Gateway"):
        for listener in gateway["spec"]["listeners"]:
            selector = get(listener, "allowedRoutes", "namespaces", "selector")
            for route in of_kind(documents, "HTTPRoute", "GRPCRoute"):
                space = [n for n in of_kind(documents, "Namespace")
                         if n["metadata"]["name"] == route["metadata"].get("namespace")]
                if selector and space and not matches(selector, space[0]["metadata"].get("labels", {})):
                    yield f"{name_of(gateway)}: does not admit routes of {space[0]['metadata']['name']}"


def queries_name_our_metrics(documents, facts):
    texts = [(d, t["metadata"].get("query", "")) for d in of_kind(documents, "ScaledObject")
             for t in d["spec"]["triggers"]]
    texts += [(d, get(m, "pods", "metric", "name", default="")) for d in of_kind(
        documents, "HorizontalPodAutoscaler") for m in d["spec"]["metrics"]]
    for document, text in texts:
        for metric in re.findall(r"\b(?:sluice_|vllm:)\w+", text):
            if metric not in facts.metrics:
                yield f"{name_of(document)}: the server exports no {metric}"
        space = document["metadata"].get("namespace")
        for named in re.findall(r'namespace="([^"]*)"', text):
            if space is not None and named != space:
                yield f"{name_of(document)}: asks about namespace {named}"


def rules_name_our_metrics(documents, facts):
    for document in of_kind(documents, "PrometheusRule"):
        rules = [rule for group in document["spec"]["groups"] for rule in group["rules"]]
        recorded = {rule["record"] for rule in rules if "record" in rule}
        for rule in rules:
            where = f"{name_of(document)}: {rule.get('record', rule.get('alert'))}"
            for name in re.findall(r"\b[a-z]+:sluice_\w+:\w+", rule["expr"]):
                if name not in recorded:
                    yield f"{where}: there is no rule {name}"
            for metric in re.findall(r"(?<![:\w])sluice_\w+", rule["expr"]):
                if metric not in facts.metrics and re.sub("_(bucket|sum|count)$", "", metric) not in facts.metrics:
                    yield f"{where}: the server exports no {metric}"
            if "alert" in rule and "runbook_url" not in rule.get("annotations", {}):
                yield f"{where}: no runbook_url"


def dashboards_are_found(documents, _):
    for document in of_kind(documents, "ConfigMap"):
        files = document.get("data", {})
        if not any(name.endswith(".json") and '"panels"' in text for name, text in files.items()):
            continue
        if get(document, "metadata", "labels", "grafana_dashboard") != "1":
            yield f"{name_of(document)}: holds dashboards, but not the label that Grafana's sidecar looks for"
        if sum(map(len, files.values())) > 900 << 10:
            yield f"{name_of(document)}: a ConfigMap holds 1 MiB at most"


def namespaces_are_set(documents, _):
    named = [d["metadata"]["name"] for d in of_kind(documents, "Namespace")]
    for document in documents:
        space = document["metadata"].get("namespace")
        if document["kind"] not in CLUSTER_WIDE and named and space not in named:
            yield f"{name_of(document)}: in no namespace of this rendering"
    for space in of_kind(documents, "Namespace"):
        if get(space, "metadata", "labels", "pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name_of(space)}: does not enforce the restricted standard"


CHECKS = (selectors_match, ports_exist, arguments_name_the_ports, probes_ask_what_is_there,
          probes_speak_the_protocol, flags_exist, budgets_let_nodes_drain, scalers_own_the_replicas,
          grace_is_long_enough, resources_are_guaranteed, memory_holds_the_pools, images_are_pinned,
          pods_are_restricted, volumes_fit, written_paths_are_writable, networks_are_closed,
          accounts_are_small, routes_lead_somewhere, queries_name_our_metrics, rules_name_our_metrics,
          dashboards_are_found, namespaces_are_set)
