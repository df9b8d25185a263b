"""NOTES.txt. Only Helm 4 prints it without a cluster (`helm install --dry-run=client`); Helm 3 asks one first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chart_render import CHART, CREDENTIALS, NAMESPACE, at, helm, merged


def notes(values: dict[str, Any]) -> str:
    done = helm(
        "helm4", "install", "rel", str(CHART), "--namespace", NAMESPACE, "--dry-run=client",
        values=json.dumps(merged(CREDENTIALS, values)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\nNOTES:\n")[1]


def test_say_what_was_installed_and_how_to_look_at_it() -> None:
    text = notes({"agentk8sglue": {"queues": {"gpu": {}, "cpu": {}}, "createQueues": True, "maxPods": 2000000}})
    for wanted in (
        "https://api.clear.ml",
        "Secret rel-clearml-agent-ac",
        "cpu, gpu (made on the server if they do not exist)",
        "2000000 task pods at one time",
        "kubectl -n tasks logs deploy/rel-clearml-agent-controller",
        "helm test rel -n tasks",
        "clearml-k8s check --config /etc/clearml-k8s/config.yaml",
    ):
        assert wanted in text
    assert "WARNING" not in text
    assert "fake-secret-key" not in text


def test_resources_that_nodes_have_to_offer_are_named() -> None:
    queues = {
        "a": {"templateOverrides": {"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}}}},
        "b": {"templateOverrides": {"resources": {"limits": {"amd.com/gpu": 1}}}},
        "c": {},
    }
    base = {"resources": {"limits": {"rdma/hca": 1, "cpu": 2}}}
    text = notes({"agentk8sglue": {"queues": queues, "basePodTemplate": base}})
    asked = "amd.com/gpu (queue b), nvidia.com/gpu (queue a), rdma/hca (queue c)"
    assert f"Task pods ask for {asked}: they wait until a node has it" in text
    assert "names each queue" not in text
    text = notes({"agentk8sglue": {"queues": {"b": queues["b"]}, "serviceAccountClusterAccess": True}})
    assert "The check above names each queue that asks for what no node has." in text


def test_shares_of_gpus_are_no_resources_of_nodes() -> None:
    limits = {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"}
    text = notes({"agentk8sglue": {"queues": {"a": {"templateOverrides": {"resources": {"limits": limits}}}}}})
    assert "Task pods ask for nvidia.com/gpu (queue a): they" in text


def test_defaults() -> None:
    text = notes({})
    assert "Task pods ask for" not in text
    assert "Queues       default\n" in text
    assert "no limit on task pods" in text
    assert "clearml.conf" not in text


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (at("agentk8sglue.clearmlcheckCertificate", False), "agentk8sglue.clearmlcheckCertificate is false"),
        (
            at("agentk8sglue.apiServerUrlReference", "http://clearml:8008"),
            "agentk8sglue.apiServerUrlReference is not https",
        ),
        (
            at(
                "agentk8sglue.extraEnvs",
                [{"name": "CLEARML_K8S_GLUE_KIND", "value": "job"}, {"name": "HTTP_PROXY", "value": "p"}],
            ),
            "agentk8sglue.extraEnvs sets CLEARML_K8S_GLUE_KIND, which has no meaning here: tasks are always Jobs.",
        ),
        (
            at("agentk8sglue.extraEnvs", [{"name": "K8S_GLUE_NEW", "value": "1"}]),
            "agentk8sglue.extraEnvs sets K8S_GLUE_NEW, which this controller does not know.",
        ),
        (
            at("agentk8sglue.extraEnvs", [{"name": "CLEARML_AGENT_SKIP_PIP_VENV_INSTALL", "value": "1"}]),
            "agentk8sglue.extraEnvs sets CLEARML_AGENT_SKIP_PIP_VENV_INSTALL, which has no meaning here: of the agent in "
            "a task's pod: write it into agentk8sglue.basePodTemplate.env.",
        ),
        (
            at(
                "agentk8sglue.extraEnvs",
                [
                    {"name": "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "value": "conda"},
                    {"name": "CLEARML_K8S_LOG_LEVEL", "value": "DEBUG"},
                    {"name": "CLEARML_CONFIG_FILE", "value": "/dev/null"},
                ],
            ),
            "agentk8sglue.extraEnvs sets CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE, which this controller does not read: "
            "for task pods write it into agentk8sglue.basePodTemplate.env.",
        ),
    ],
)
def test_warnings(values: dict[str, Any], warning: str) -> None:
    text = notes(values)
    assert f"WARNING: {warning}" in text
    assert text.count("WARNING") == 1


@pytest.mark.parametrize(
    ("sessions", "text"),
    [
        (
            {"startingPort": 31000, "maxServices": 5},
            "at the node that each is on, TCP ports 31001 to 31005, which firewalls have to let in.",
        ),
        ({"externalIP": "gate.example.com", "maxServices": 5}, "at gate.example.com, TCP ports 30001 to 30005, which"),
        (
            {"svcType": "LoadBalancer"},
            "at a load balancer of its own for each, TCP port 10022; at most 20 at one time.",
        ),
        ({"svcType": "LoadBalancer", "externalIP": None}, "at a load balancer of its own for each, TCP port 10022;"),
        ({"svcType": "ClusterIP"}, "at session-<task id>.tasks.svc, inside the cluster, TCP port 10022; at most"),
    ],
)
def test_where_sessions_are_reached(sessions: dict[str, Any], text: str) -> None:
    found = notes({"sessions": {"portModeEnabled": True, **sessions}})
    assert f"\n\nSessions (clearml-session) are reached {text}" in found
    assert "get services -l app.kubernetes.io/instance=" in found
    assert "networkPolicy" not in found


def test_sessions_that_nobody_can_reach() -> None:
    sessions = {"portModeEnabled": True}
    found = notes({"sessions": sessions, "networkPolicy": {"tasks": {"enabled": True}}})
    assert "\n\nWARNING: networkPolicy.tasks lets nobody in" in found
    ingress = [{"ports": [{"port": 10022, "protocol": "TCP"}]}]
    for policy in ({"enabled": True, "ingress": ingress}, {"enabled": False}):
        assert "WARNING" not in notes({"sessions": sessions, "networkPolicy": {"tasks": policy}})


def test_without_sessions_nothing_is_said_of_them() -> None:
    assert "ession" not in notes({})
