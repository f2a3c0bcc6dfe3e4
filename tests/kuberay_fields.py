"""The fields of KubeRay's ray.io/v1: names, types and choices; a manifest with others is refused.

Written by hand from KubeRay's API reference (docs/reference/api.md of ray-project/kuberay at 0057210, and for tokens,
labels and SidecarMode the release notes of v1.5), and read beside the Go types from which its CRD is generated
(apis/ray/v1/raycluster_types.go at 026f143, rayjob_types.go at 0057210): not the CRD, and what that checks beyond
names, types, choices and what must be there is not checked here.
`kubectl apply --dry-run=server` does, against the CRD of the cluster itself. Pods are left to Kubernetes' own schema.
"""

from __future__ import annotations

from typing import Any

POD = "a pod template"
STRINGS = {str: str}
QUANTITY = (str, int)

AUTOSCALER = {
    "resources": {"requests": {str: QUANTITY}, "limits": {str: QUANTITY}},
    "image": str,
    "imagePullPolicy": {"Always", "Never", "IfNotPresent"},
    "idleTimeoutSeconds": int,
    "upscalingMode": {"Default", "Aggressive", "Conservative"},
    "version": {"v1", "v2"},
}
HEAD = {
    "template": POD,
    "rayStartParams": STRINGS,
    "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"},
    "enableIngress": bool,
    "resources": STRINGS,
    "labels": STRINGS,
}
WORKERS = {
    "template": POD,
    "rayStartParams": STRINGS,
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "idleTimeoutSeconds": int,
    "numOfHosts": int,
    "suspend": bool,
    "resources": STRINGS,
    "labels": STRINGS,
}
CLUSTER_SPEC = {
    "rayVersion": str,
    "authOptions": {"mode": {"token", "disabled"}, "secretName": str, "enableK8sTokenAuth": bool},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": AUTOSCALER,
    "headServiceAnnotations": STRINGS,
    "headGroupSpec": HEAD,
    "workerGroupSpecs": [WORKERS],
    "suspend": bool,
    "managedBy": {"ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"},
}
JOB_SPEC = {
    "entrypoint": str,
    "runtimeEnvYAML": str,
    "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
    "submitterPodTemplate": POD,
    "submitterConfig": {"backoffLimit": int},
    "rayClusterSpec": CLUSTER_SPEC,
    "clusterSelector": STRINGS,
    "metadata": STRINGS,
    "backoffLimit": int,
    "activeDeadlineSeconds": int,
    "ttlSecondsAfterFinished": int,
    "shutdownAfterJobFinishes": bool,
    "suspend": bool,
    "jobId": str,
    "entrypointNumCpus": (int, float),
    "entrypointNumGpus": (int, float),
    "entrypointResources": str,
}
SPECS = {"RayCluster": CLUSTER_SPEC, "RayJob": JOB_SPEC}
REQUIRED = {
    "headGroupSpec": ["rayStartParams", "template"],
    "workerGroupSpecs": ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    "rayClusterSpec": ["headGroupSpec"],
}


PODS = ("template", "submitterPodTemplate")


def mistakes(value: Any, allowed: Any, place: str) -> list[str]:
    """What is wrong with a manifest's part, as "place: reason"."""
    if allowed is POD:
        return [] if isinstance(value, dict) else [f"{place}: not a pod template"]
    if isinstance(allowed, set):
        return [] if value in allowed else [f"{place}: {value!r} is none of {sorted(allowed)}"]
    if isinstance(allowed, list):
        return [wrong for item in value for wrong in mistakes(item, allowed[0], place)]
    if isinstance(allowed, dict):
        if not isinstance(value, dict):
            return [f"{place}: {value!r} is no mapping"]
        if str in allowed:
            return [wrong for name, item in value.items() for wrong in mistakes(item, allowed[str], f"{place}.{name}")]
        missing = [f"{place}: no {name}" for name in REQUIRED.get(place.split(".")[-1], []) if name not in value]
        unknown = [f"{place}: no field {name}" for name in value if name not in allowed]
        known = [(name, item) for name, item in value.items() if name in allowed]
        return (
            missing
            + unknown
            + [bad for name, item in known for bad in mistakes(item, allowed[name], f"{place}.{name}")]
        )
    kinds = allowed if isinstance(allowed, tuple) else (allowed,)
    is_kind = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    return [] if is_kind else [f"{place}: {value!r} is no {' or '.join(kind.__name__ for kind in kinds)}"]


def pod_templates(value: Any) -> list[dict[str, Any]]:
    """Every pod template within a RayCluster's or RayJob's spec."""
    if isinstance(value, list):
        return [pod for item in value for pod in pod_templates(item)]
    if not isinstance(value, dict):
        return []
    own = [item for name, item in value.items() if name in PODS]
    return own + [pod for name, item in value.items() if name not in PODS for pod in pod_templates(item)]
