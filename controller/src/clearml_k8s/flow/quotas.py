"""What a namespace's ResourceQuotas leave for the pods of a queue: pure, from the objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clearml_k8s.kube.quota import QuotaRecord, Scope
from clearml_k8s.kube.uses import requests


def applies(quota: QuotaRecord, pod: Mapping[str, Any]) -> bool:
    """Whether the quota is for this pod; False also for a scope that is not known here."""
    return all(_matches(scope, pod.get("spec") or {}, pod) for scope in quota.scopes)


def _matches(scope: Scope, spec: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    match scope.name:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return _best_effort(pod)
        case "NotBestEffort":
            return not _best_effort(pod)
        case "PriorityClass":
            name = spec.get("priorityClassName") or ""
            match scope.operator:
                case "In":
                    return name in scope.values
                case "NotIn":
                    return name not in scope.values
                case "Exists":
                    return bool(name)
                case "DoesNotExist":
                    return not name
    return False


def _best_effort(pod: Mapping[str, Any]) -> bool:
    return not {"cpu", "memory"} & requests(pod).keys()
