"""deploy/kuberay: what Kubernetes' schema and KubeRay's fields say of the manifests, offline, and what they promise."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kuberay_fields import SPECS, mistakes, pod_templates

FOLDER = Path(__file__).parents[2] / "deploy" / "kuberay"
KUBERNETES = "1.33"


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


CLUSTER = manifests("cluster.yaml")[0]
JOB = manifests("job.yaml")[0]
NIGHT = manifests("night.yaml")[0]


def check_pod(template: dict[str, Any]) -> None:
    """Kubernetes' own schema of pods; a field that it does not know is an error."""
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("manifest", [*manifests("access.yaml"), NIGHT], ids=lambda manifest: manifest["kind"])
def test_kubernetes_knows_every_field(manifest: dict[str, Any]):
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("manifest", [CLUSTER, JOB], ids=lambda manifest: manifest["kind"])
def test_kuberay_knows_every_field_and_kubernetes_every_pod(manifest: dict[str, Any]):
    assert manifest["apiVersion"] == "ray.io/v1"
    assert mistakes(manifest["spec"], SPECS[manifest["kind"]], "spec") == []
    templates = pod_templates(manifest["spec"])
    assert len(templates) >= 3
    for template in templates:
        check_pod(template)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["authOptions", "mode"], "tokens"),
        (["workerGroupSpecs", 0, "minReplica"], 0),
        (["workerGroupSpecs", 0, "maxReplicas"], "32"),
        (["headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["enableInTreeAutoscaling"], "true"),
    ],
)
def test_a_wrong_field_is_refused(path: list[Any], value: Any):
    spec = copy.deepcopy(CLUSTER["spec"])
    place = spec
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert len(mistakes(spec, SPECS["RayCluster"], "spec")) == 1


def test_a_wrong_field_of_a_pod_is_refused():
    template = copy.deepcopy(CLUSTER["spec"]["headGroupSpec"]["template"])
    template["spec"]["containers"][0]["ressources"] = {}
    with pytest.raises(kubernetes_validate.utils.ValidationError):
        check_pod(template)


def test_a_night_runs_on_the_same_cluster_as_trials():
    assert JOB["spec"]["rayClusterSpec"] == CLUSTER["spec"]


def test_the_image_the_manifests_and_the_nodes_have_one_version_of_ray():
    pinned = re.search(r"^ray\[.*\]==(\S+)$", (FOLDER.parent / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert CLUSTER["spec"]["rayVersion"] == pinned
    assert f"FROM rayproject/ray:{pinned}-" in (FOLDER.parent / "Dockerfile").read_text()


def test_tokens_are_on_the_head_runs_no_tasks_and_workers_come_from_zero():
    spec = CLUSTER["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {group["minReplicas"] for group in spec["workerGroupSpecs"]} == {0}


def test_no_pod_is_root_or_may_become_it_and_none_but_the_heads_talks_to_kubernetes():
    for template in [*pod_templates(JOB["spec"]), NIGHT["spec"]["jobTemplate"]["spec"]["template"]]:
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not any(c["securityContext"]["allowPrivilegeEscalation"] for c in pod["containers"])
        if pod.get("serviceAccountName") not in ("vidpipe-head", "vidpipe-night"):
            assert pod["automountServiceAccountToken"] is False


def test_the_network_lets_in_the_clusters_own_pods_and_the_operator():
    policy = next(manifest for manifest in manifests("access.yaml") if manifest["kind"] == "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    chosen = policy["podSelector"]["matchLabels"].items()
    for template in pod_templates(JOB["spec"]):
        assert chosen <= template["metadata"]["labels"].items()
    assert len(policy["ingress"]) == 1
    assert len(policy["ingress"][0]["from"]) == 2


def test_two_nights_never_run_at_once():
    assert NIGHT["spec"]["concurrencyPolicy"] == "Forbid"
    assert JOB["spec"]["activeDeadlineSeconds"] < 24 * 3600
    assert JOB["spec"]["shutdownAfterJobFinishes"]
