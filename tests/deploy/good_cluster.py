"""A small cluster without mistakes, for the tests of the checks to spoil."""


def good_cluster():
    space = {"namespace": "s"}
    labels = {"app": "e"}
    return [
        {"kind": "Namespace", "metadata": {"name": "s", "labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pool": "yes"}}},
        {"kind": "Deployment", "metadata": {"name": "engine", **space}, "spec": {
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": _pod()}}},
        {"kind": "Service", "metadata": {"name": "engine", **space}, "spec": {
            "selector": dict(labels), "ports": [{"name": "grpc", "port": 50051, "targetPort": "grpc"}]}},
        {"kind": "PodDisruptionBudget", "metadata": {"name": "engine", **space}, "spec": {
            "maxUnavailable": 1, "selector": {"matchLabels": dict(labels)}}},
        {"kind": "NetworkPolicy", "metadata": {"name": "engine", **space}, "spec": {
            "podSelector": {"matchLabels": dict(labels)}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"client": "yes"}}}],
                         "ports": [{"port": "grpc"}]}]}},
        {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "engine", **space}, "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "engine"}, "minReplicas": 2, "maxReplicas": 8,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": "sluice_requests_waiting"}}}]}},
        {"kind": "PrometheusRule", "metadata": {"name": "rules", **space}, "spec": {"groups": [{"name": "g", "rules": [
            {"record": "model:sluice_waiting:sum", "expr": "sum(sluice_requests_waiting)"},
            {"alert": "A", "expr": "model:sluice_waiting:sum > 1", "annotations": {"runbook_url": "u"}}]}]}},
        {"kind": "ConfigMap", "metadata": {"name": "boards", "labels": {"grafana_dashboard": "1"}, **space},
         "data": {"a.json": '{"panels": []}'}},
        {"kind": "Role", "metadata": {"name": "watcher", **space}, "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
        {"kind": "Gateway", "metadata": {"name": "g", **space}, "spec": {"listeners": [{
            "allowedRoutes": {"namespaces": {"selector": {"matchLabels": {"pool": "yes"}}}}}]}},
        {"kind": "HTTPRoute", "metadata": {"name": "r", **space}, "spec": {
            "parentRefs": [{"name": "g"}],
            "rules": [{"backendRefs": [{"name": "engine", "port": 50051}]}]}},
    ]


def _pod():
    resources = {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "1Gi"}
    return {
        "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 75,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "sluice", "image": "r:5000/sluice:0.4.0",
            "args": ["serve", "--host=0.0.0.0", "--port=50051", "--metrics-port=9090", "--model=/models/m",
                     "--threads=2", "--shutdown-timeout=45"],
            "ports": [{"name": "grpc", "containerPort": 50051}, {"name": "metrics", "containerPort": 9090}],
            "startupProbe": {"grpc": {"port": 50051}, "failureThreshold": 180},
            "livenessProbe": {"grpc": {"port": 50051, "service": ""}, "periodSeconds": 10, "failureThreshold": 6},
            "readinessProbe": {"grpc": {"port": 50051, "service": "sluice.v1.Inference"}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 15}}},
            "resources": {"requests": dict(resources), "limits": dict(resources)},
            "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"},
                             {"name": "model", "mountPath": "/models/m", "readOnly": True}]}],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
                    {"name": "model", "persistentVolumeClaim": {"claimName": "m"}}]}
