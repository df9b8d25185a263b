"""What a namespace's ResourceQuotas leave for the pods of a queue: pure, from the objects."""

from __future__ import annotations

from clearml_k8s.kube.quota import QuotaRecord, Scope
from clearml_k8s.kube.uses import Kind


def applies(quota: QuotaRecord, kind: Kind) -> bool:
    """Whether the quota is for pods of this kind; False also for a scope that is not known here."""
    return all(_matches(scope, kind) for scope in quota.scopes)


def _matches(scope: Scope, kind: Kind) -> bool:
    match scope.name:
        case "Terminating":
            return kind.terminating
        case "NotTerminating":
            return not kind.terminating
        case "BestEffort":
            return kind.best_effort
        case "NotBestEffort":
            return not kind.best_effort
        case "PriorityClass":
            match scope.operator:
                case "In":
                    return kind.priority_class in scope.values
                case "NotIn":
                    return kind.priority_class not in scope.values
                case "Exists":
                    return bool(kind.priority_class)
                case "DoesNotExist":
                    return not kind.priority_class
    return False
