"""cluster.yaml and deploy/aws.yaml: what Ray and AWS say of them, offline, and what they promise."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster.yaml").read_text()
AWS_TEXT = (ROOT / "deploy" / "aws.yaml").read_text()


@pytest.fixture
def cluster() -> dict[str, Any]:
    """As it is after the two names are filled in."""
    return yaml.safe_load(TEXT.replace("REGION", "eu-central-1").replace("BUCKET", "my-bucket"))


@pytest.fixture(scope="session")
def run_instances() -> Any:
    """The shape of RunInstances' input in AWS's own model of EC2, as botocore carries it."""
    return botocore.session.Session().get_service_model("ec2").operation_model("RunInstances").input_shape


def checked_by_ray(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does before it talks to AWS."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def launched(node_config: dict[str, Any]) -> dict[str, Any]:
    """The request that Ray makes of a node type's `node_config`."""
    return {"MinCount": 1, "MaxCount": 1, "SubnetId": "subnet-1", "SecurityGroupIds": ["sg-1"], **node_config}


def policies() -> list[dict[str, Any]]:
    """Every statement of every policy of deploy/aws.yaml."""
    resources = yaml.safe_load(AWS_TEXT)["Resources"].values()
    documents = [resource["Properties"].get("PolicyDocument") for resource in resources]
    return [statement for document in documents if document for statement in document["Statement"]]


def test_ray_accepts_it_and_fills_in_the_rest(cluster: dict[str, Any]):
    prepared = checked_by_ray(cluster)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert not any("ray-wheels" in command for command in prepared["setup_commands"])


def test_ray_refuses_a_field_that_it_does_not_know(cluster: dict[str, Any]):
    with pytest.raises(jsonschema.ValidationError):
        checked_by_ray(cluster | {"idle_timeout": 5})


def test_aws_knows_every_field_of_every_node(cluster: dict[str, Any], run_instances: Any):
    for name, node_type in cluster["available_node_types"].items():
        report = ParamValidator().validate(launched(node_type["node_config"]), run_instances)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"


def test_aws_does_not_know_a_misspelt_field(cluster: dict[str, Any], run_instances: Any):
    node_config = copy.deepcopy(cluster["available_node_types"]["head"]["node_config"])
    node_config["MetadataOptions"]["HttpToken"] = "required"
    assert ParamValidator().validate(launched(node_config), run_instances).has_errors()


def test_region_and_bucket_are_all_there_is_to_fill_in():
    commands = TEXT.replace("RAY_HEAD_IP", "").replace("RAY_AUTH_MODE", "").replace("VIDPIPE_BUCKET", "")
    commands = re.sub(r"#.*", "", commands).replace("AWS_REGION=", "").replace("AWS-StartSSHSession", "")
    assert set(re.findall(r"\b[A-Z]{4,}\b", commands)) == {"REGION", "BUCKET"} | {"PATH", "HOME"}


def test_the_head_runs_no_tasks_and_workers_come_from_zero(cluster: dict[str, Any]):
    types = dict(cluster["available_node_types"])
    assert types.pop(cluster["head_node_type"])["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in cluster["head_start_ray_commands"][-1]
    assert {node_type["min_workers"] for node_type in types.values()} == {0}


def test_decoding_is_on_spot_and_every_kind_has_several_instance_types(cluster: dict[str, Any]):
    kinds: dict[tuple[bool, bool], set[str]] = {}
    for name, node_type in cluster["available_node_types"].items():
        if name != cluster["head_node_type"]:
            node_config = node_type["node_config"]
            is_spot = node_config.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
            kinds.setdefault(("GPU" in node_type["resources"], is_spot), set()).add(node_config["InstanceType"])
    assert (False, False) not in kinds
    assert set(kinds) == {(False, True), (True, False), (True, True)}
    assert all(len(instance_types) >= 2 for instance_types in kinds.values())


def test_every_node_has_imdsv2_an_encrypted_disk_and_a_role_of_its_own(cluster: dict[str, Any]):
    for name, node_type in cluster["available_node_types"].items():
        node_config = node_type["node_config"]
        assert node_config["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node_config["BlockDeviceMappings"])
        role = "vidpipe-head" if name == cluster["head_node_type"] else "vidpipe-worker"
        assert node_config["IamInstanceProfile"] == {"Name": role}
        assert node_config["LaunchTemplate"]["LaunchTemplateName"] == role  # else Ray makes a group with port 22 open


def test_tokens_are_on_everywhere_and_the_dashboard_is_on_loopback(cluster: dict[str, Any]):
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]
    assert cluster["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_nobody_but_the_nodes_gets_in():
    resources = yaml.safe_load(AWS_TEXT)["Resources"]
    assert "SecurityGroupIngress" not in resources["Nodes"]["Properties"]
    ways_in = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::EC2::SecurityGroupIngress"]
    assert [way["SourceSecurityGroupId"] for way in ways_in] == [{"Fn::GetAtt": ["Nodes", "GroupId"]}]
    assert "0.0.0.0" not in AWS_TEXT + TEXT
    assert "CidrIp" not in AWS_TEXT


def test_rights_are_written_out_and_those_on_everything_are_those_that_know_no_resource():
    assert "arn:aws:iam::aws:policy" not in AWS_TEXT
    for statement in policies():
        assert not any("*" in action for action in statement["Action"])
        if statement["Resource"] == ["*"]:
            assert statement["Sid"] in ("Agent", "Look")
    starting = [statement for statement in policies() if "ec2:RunInstances" in statement["Action"]]
    assert any(
        statement["Condition"] == {"Bool": {"ec2:Encrypted": "true"}}
        for statement in starting
        if "Condition" in statement
    )


def test_videos_are_read_only():
    writing = [s for s in policies() if {"s3:PutObject", "s3:DeleteObject"} & set(s["Action"])]
    assert [s["Resource"][0]["Fn::Sub"].rsplit("/", 2)[-2] for s in writing] == ["vidpipe"]


def test_the_versions_of_a_node_are_exact_and_those_that_the_project_asks_for():
    body = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    wanted = {need.name: need for need in map(Requirement, re.findall(r'"(.*)",', body[1]))}
    lines = (ROOT / "deploy" / "requirements.txt").read_text().splitlines()
    pinned = {need.name: need for need in map(Requirement, (line for line in lines if line and line[0] != "#"))}
    assert set(pinned) == set(wanted) | {"boto3"}
    for name, need in wanted.items():
        version = str(pinned[name].specifier).removeprefix("==")
        assert need.specifier.contains(version), f"{name} {version} is not {need.specifier}"
        assert pinned[name].extras == need.extras
