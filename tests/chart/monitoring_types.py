"""JSON schemas of the objects of Prometheus' operator (monitoring.coreos.com/v1), by kind.

Written by hand from its API documentation, with the fields that the chart may use, closed: what is misspelt is refused.
"""

from __future__ import annotations

from typing import Any

DURATION = "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
ACTIONS = [
    *("replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"),
    *("keepequal", "dropequal"),
]


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    # kubeconform reads draft-04, in which there is no empty list, and no `const`.
    return {**schema, "required": required} if required else schema


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"enum": ["monitoring.coreos.com/v1"]},
        kind={"enum": [kind]},
        metadata=closed(
            ["name"], name={"type": "string"}, namespace={"type": "string"}, labels=TEXTS, annotations=TEXTS
        ),
        spec=spec,
    )


_RELABELING = closed(
    [],
    sourceLabels={"type": "array", "items": {"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}},
    separator={"type": "string"},
    targetLabel={"type": "string"},
    regex={"type": "string"},
    modulus={"type": "integer"},
    replacement={"type": "string"},
    action={"enum": ACTIONS},
)
_ENDPOINT = closed(
    [],
    port={"type": "string"},
    path={"type": "string"},
    scheme={"enum": ["http", "https"]},
    interval={"type": "string", "pattern": DURATION},
    scrapeTimeout={"type": "string", "pattern": DURATION},
    honorLabels={"type": "boolean"},
    relabelings={"type": "array", "items": _RELABELING},
    metricRelabelings={"type": "array", "items": _RELABELING},
)
_SELECTOR = closed([], matchLabels=TEXTS, matchExpressions={"type": "array"})
_NAMESPACES = closed([], any={"type": "boolean"}, matchNames={"type": "array", "items": {"type": "string"}})
_RULE = closed(
    ["expr"],
    alert={"type": "string"},
    record={"type": "string"},
    expr={"type": ["string", "integer"]},
    **{"for": {"type": "string", "pattern": DURATION}},
    keep_firing_for={"type": "string", "pattern": DURATION, "minLength": 1},
    labels=TEXTS,
    annotations=TEXTS,
)
_GROUP = closed(
    ["name"],
    name={"type": "string", "minLength": 1},
    interval={"type": "string", "pattern": DURATION},
    limit={"type": "integer"},
    rules={"type": "array", "items": _RULE},
)

MONITORING: dict[str, dict[str, Any]] = {
    "ServiceMonitor": _object(
        "ServiceMonitor",
        closed(
            ["endpoints", "selector"],
            selector=_SELECTOR,
            namespaceSelector=_NAMESPACES,
            jobLabel={"type": "string"},
            endpoints={"type": "array", "items": _ENDPOINT},
        ),
    ),
    "PodMonitor": _object(
        "PodMonitor",
        closed(
            ["selector"],
            selector=_SELECTOR,
            namespaceSelector=_NAMESPACES,
            jobLabel={"type": "string"},
            podMetricsEndpoints={"type": "array", "items": _ENDPOINT},
        ),
    ),
    "PrometheusRule": _object(
        "PrometheusRule",
        closed([], groups={"type": "array", "items": _GROUP}),
    ),
}
