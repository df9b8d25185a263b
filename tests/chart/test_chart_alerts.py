"""Each alert fires when it is provoked, and no other with it: the rendered rules, played by promtool.

Every play begins with a release that is well, beside another one in trouble, whose series must not matter.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_render import CHART, CREDENTIALS, FULLNAME, NAMESPACE, RELEASE, at, documents, helm, merged

JOB = f"{FULLNAME}-controller"
MINUTES = 120
"""How long each play lasts."""

Series = Mapping[str, str]


def always(value: float) -> str:
    return f"{value}+0x{MINUTES}"


def rising(each_minute: float) -> str:
    return f"0+{each_minute}x{MINUTES}"


GONE = f"_x{MINUTES}"

GPU_MAX, ALL_MAX = "agentk8sglue.queues.gpu.queueSettings.maxPods", "agentk8sglue.maxPods"
GPU = f'{{pod="a",queue="gpu",limit="pods",setting="{GPU_MAX}"}}'
ALL = f'{{pod="a",queue="",limit="pods",setting="{ALL_MAX}"}}'
QUOTA = '{pod="a",queue="",limit="requests.cpu",setting="ResourceQuota team"}'

WELL: dict[str, str] = {
    'leader{pod="a"}': always(1),
    'leader{pod="b"}': always(0),
    'last_poll_timestamp_seconds{pod="a"}': rising(60),
    'api_healthy{pod="a",api="clearml"}': always(1),
    'api_healthy{pod="a",api="kubernetes"}': always(1),
    'api_requests_total{pod="a",api="clearml",endpoint="x",outcome="answered"}': rising(100),
    'api_requests_total{pod="a",api="clearml",endpoint="x",outcome="unanswered"}': rising(10),
    'api_requests_total{pod="a",api="kubernetes",endpoint="x",outcome="answered"}': rising(100),
    'queue_state{pod="a",queue="gpu",state="served"}': always(1),
    'queue_entries{pod="a",queue="gpu"}': always(7),
    'queue_room{pod="a",queue="gpu"}': always(3),
    f"limit{GPU}": always(10),
    f"limit_used{GPU}": always(7),
    f"limit{ALL}": always(20),
    f"limit_used{ALL}": always(7),
    f"limit{QUOTA}": always(30),
    f"limit_used{QUOTA}": always(12),
    'pods{pod="a",queue="gpu",phase="Running"}': always(5),
    'pods{pod="a",queue="gpu",phase="Pending"}': always(2),
    'launches_total{pod="a",queue="gpu",result="created"}': rising(2),
    'launches_total{pod="a",queue="gpu",result="not-now"}': always(0),
    'launches_total{pod="a",queue="gpu",result="doubt"}': always(0),
    'launches_total{pod="a",queue="gpu",result="in-the-way"}': always(0),
    'launches_total{pod="a",queue="gpu",result="impossible"}': always(0),
    'tasks_failed_total{pod="a",queue="gpu",reason="image-pull"}': rising(0.5),
}
#: Another release, in every trouble.
ELSEWHERE: dict[str, str] = {
    'leader{pod="z"}': always(0),
    'api_healthy{pod="z",api="clearml"}': always(0),
    'queue_state{pod="z",queue="gpu",state="template-invalid"}': always(1),
    'queue_state{pod="z",queue="cpu",state="missing"}': always(1),
    'launches_total{pod="z",queue="gpu",result="not-now"}': rising(10),
    'tasks_failed_total{pod="z",queue="gpu",reason="image-pull"}': rising(10),
}

IDLE = {
    'queue_entries{pod="a",queue="gpu"}': always(0),
    'launches_total{pod="a",queue="gpu",result="created"}': always(9),
}
FULL = {
    'queue_room{pod="a",queue="gpu"}': always(0),
    f"limit_used{GPU}": always(10),
    'launches_total{pod="a",queue="gpu",result="created"}': always(9),
}
NO_ROOM = {
    'queue_room{pod="a",queue="gpu"}': always(0),
    'launches_total{pod="a",queue="gpu",result="created"}': always(9),
}
NONE_RUNS = {'pods{pod="a",queue="gpu",phase="Running"}': always(0)}
QUIET = {'tasks_failed_total{pod="a",queue="gpu",reason="image-pull"}': always(0)}
"""So that what is launched does not matter."""

#: name -> (what is other than well, the alerts that fire at the end with the labels that they have of their own)
PLAYS: dict[str, tuple[Series, list[tuple[str, dict[str, str]]]]] = {
    "all is well": ({}, []),
    "nothing waits": ({**IDLE, **QUIET}, []),
    "a standby alone": ({'leader{pod="a"}': always(0)}, [("NoLeader", {})]),
    "nothing is scraped": (dict.fromkeys(WELL, GONE), [("NoLeader", {})]),
    "a new leader every few minutes": ({'leader{pod="a"}': "1x3 0x3 " * 15, 'leader{pod="b"}': "0x3 1x3 " * 15}, []),
    "no poll any more": (
        {'last_poll_timestamp_seconds{pod="a"}': always(60)},
        [("PollingStale", {})],
    ),
    "no poll at all": ({'last_poll_timestamp_seconds{pod="a"}': GONE}, [("PollingStale", {})]),
    "no poll while the server is away": (
        {'last_poll_timestamp_seconds{pod="a"}': always(60), 'api_healthy{pod="a",api="clearml"}': always(0)},
        [("APIUnhealthy", {"api": "clearml"})],
    ),
    "a standby has not polled": ({'leader{pod="c"}': always(0)}, []),
    "a silent watch": (
        {'api_healthy{pod="a",api="kubernetes"}': always(0)},
        [("APIUnhealthy", {"api": "kubernetes"})],
    ),
    "a server that is away for a minute": ({'api_healthy{pod="a",api="clearml"}': "1x59 0x1 1x60"}, []),
    "most requests fail": (
        {'api_requests_total{pod="a",api="kubernetes",endpoint="x",outcome="unreachable"}': rising(150)},
        [("APIUnhealthy", {"api": "kubernetes"})],
    ),
    "requests are refused": (
        {'api_requests_total{pod="a",api="kubernetes",endpoint="x",outcome="refused"}': rising(500)},
        [],
    ),
    "room, and nothing is taken": (
        {'launches_total{pod="a",queue="gpu",result="created"}': always(9), **QUIET},
        [("QueueStuck", {"queue": "gpu"})],
    ),
    "no room": ({**FULL, **QUIET}, []),
    "room in a queue that is paused": (
        {
            'launches_total{pod="a",queue="gpu",result="created"}': always(9),
            'queue_state{pod="a",queue="gpu",state="served"}': GONE,
            'queue_state{pod="a",queue="gpu",state="paused"}': always(1),
            **QUIET,
        },
        [],
    ),
    "a task in an idle queue": (
        {**IDLE, **QUIET, 'queue_entries{pod="a",queue="gpu"}': f"0x{MINUTES - 15} 1x15"},
        [],
    ),
    "a queue that is not there": (
        {'queue_state{pod="a",queue="cpu",state="missing"}': always(1)},
        [("QueueNotServed", {"queue": "cpu", "state": "missing"})],
    ),
    "jobs are refused": (
        {'queue_state{pod="a",queue="cpu",state="jobs-refused"}': always(1)},
        [("QueueNotServed", {"queue": "cpu", "state": "jobs-refused"})],
    ),
    "a queue not looked up yet": (
        {'queue_state{pod="a",queue="cpu",state="not-looked-up"}': f"_x{MINUTES - 5} 1x5"},
        [],
    ),
    "a template that is refused": (
        {'queue_state{pod="a",queue="cpu",state="template-invalid"}': always(1)},
        [("TemplateInvalid", {"queue": "cpu"})],
    ),
    "a queue's limit, and nothing runs": (
        {**FULL, **NONE_RUNS, **QUIET},
        [("LimitFull", {"queue": "gpu"})],
    ),
    "a queue's limit, and its pods run": ({**FULL, **QUIET}, []),
    "no room by a limit of all, and nothing runs": (
        {**NONE_RUNS, **NO_ROOM, **QUIET, f"limit_used{ALL}": always(20)},
        [("LimitFull", {"queue": "gpu"})],
    ),
    "no room by a limit of all, and others run": (
        {**NONE_RUNS, **NO_ROOM, **QUIET, 'pods{pod="a",queue="cpu",phase="Running"}': always(13)},
        [],
    ),
    "a quota that others fill": (
        {**NONE_RUNS, **NO_ROOM, **QUIET, f"limit_used{QUOTA}": always(30)},
        [("LimitFull", {"queue": "gpu"})],
    ),
    "no task ever fits, nothing is used": (
        {**NONE_RUNS, **NO_ROOM, **QUIET, f"limit_used{GPU}": always(0), f"limit_used{ALL}": always(0)},
        [("LimitFull", {"queue": "gpu"})],
    ),
    "no room that nobody waits for": ({**NONE_RUNS, **NO_ROOM, **IDLE, **QUIET, f"limit_used{QUOTA}": always(30)}, []),
    "no room while a pod starts": (
        {**NO_ROOM, **QUIET, 'pods{pod="a",queue="gpu",phase="Running"}': f"0x{MINUTES - 14} 1x14"},
        [],
    ),
    "a quota does not let pods start": (
        {
            **QUIET,
            'queue_state{pod="a",queue="gpu",state="served"}': GONE,
            'queue_state{pod="a",queue="gpu",state="closed"}': always(1),
            **NONE_RUNS,
        },
        [("QueueNotServed", {"queue": "gpu", "state": "closed"})],
    ),
    "a quota that the queue's own pods fill": (
        {
            **QUIET,
            **NO_ROOM,
            'queue_state{pod="a",queue="gpu",state="served"}': GONE,
            'queue_state{pod="a",queue="gpu",state="closed"}': always(1),
        },
        [],
    ),
    "nothing runs, and there is room": ({**NONE_RUNS}, []),
    "no limit, and nothing runs": (
        {**NONE_RUNS, **dict.fromkeys((f"limit{GPU}", f"limit{ALL}", f"limit_used{GPU}", f"limit_used{ALL}"), GONE)},
        [],
    ),
    "a quota": (
        {'launches_total{pod="a",queue="gpu",result="not-now"}': rising(1)},
        [("LaunchErrors", {"queue": "gpu", "result": "not-now"})],
    ),
    "doubts": (
        {'launches_total{pod="a",queue="gpu",result="doubt"}': rising(1)},
        [("LaunchErrors", {"queue": "gpu", "result": "doubt"})],
    ),
    "a doubt now and then": ({'launches_total{pod="a",queue="gpu",result="doubt"}': rising(0.1)}, []),
    "a user's tasks that no Job can be made of": (
        {'launches_total{pod="a",queue="gpu",result="impossible"}': rising(1)},
        [],
    ),
    "most tasks fail": (
        {'tasks_failed_total{pod="a",queue="gpu",reason="image-pull"}': rising(1.5)},
        [("TasksFailing", {"queue": "gpu"})],
    ),
    "for several reasons": (
        {'tasks_failed_total{pod="a",queue="gpu",reason="evicted"}': rising(0.7)},
        [("TasksFailing", {"queue": "gpu"})],
    ),
    "the first failures of all, at once": (
        {
            'launches_total{pod="a",queue="gpu",result="created"}': f"0x{MINUTES - 10} 6x10",
            **dict.fromkeys(QUIET, f"0x{MINUTES - 5} 6x5"),
            'queue_entries{pod="a",queue="gpu"}': always(0),
        },
        [("TasksFailing", {"queue": "gpu"})],
    ),
    "none of them could be launched": (
        {
            **IDLE,
            **QUIET,
            'tasks_failed_total{pod="a",queue="gpu",reason="cannot-be-launched"}': rising(0.5),
        },
        [("TasksFailing", {"queue": "gpu"})],
    ),
    "a few fail": ({**dict.fromkeys(QUIET, f"0x{MINUTES - 5} 4x5"), **IDLE}, []),
    "many failed long ago, and one scrape went wrong since": (
        {**dict.fromkeys(QUIET, f"40x{MINUTES - 31} stale 40x30"), **IDLE},
        [],
    ),
    "many failed before anybody scraped": ({**dict.fromkeys(QUIET, f"_x{MINUTES - 10} 40x10"), **IDLE}, []),
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered rules, as Prometheus reads them."""
    values = json.dumps(merged(CREDENTIALS, at("metrics.prometheusRule.enabled", True)))
    done = helm("helm4", "template", RELEASE, str(CHART), "--namespace", NAMESPACE, values=values)
    assert done.returncode == 0, done.stderr
    found = next(o for o in documents(done.stdout) if o["kind"] == "PrometheusRule")
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(found["spec"]))
    return path


def series(found: Series, *, job: str = JOB) -> list[dict[str, str]]:
    of = f'namespace="{NAMESPACE}",job="{job}",'
    return [
        {"series": "clearml_k8s_" + name.replace("{", "{" + of, 1), "values": values}
        for name, values in found.items()
        if values != GONE
    ]


def promtool(folder: Path, rules: Path, test: dict[str, Any]) -> str:
    """What it has to complain of; "" when all is as expected."""
    program = shutil.which("promtool")
    assert program, "promtool is missing: ci/tools/apt.sh tests"
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [{"interval": "1m", **test}]}
    (folder / "test.yaml").write_text(yaml.safe_dump(document, width=1000))
    command = [program, "test", "rules", str(folder / "test.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("name", PLAYS)
def test_these_alerts_and_no_others(rules: Path, tmp_path: Path, name: str) -> None:
    changes, expected = PLAYS[name]
    severity = {
        rule["alert"]: rule["labels"]["severity"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]
    }
    firing = [
        {
            "alertname": f"ClearMLAgent{alert}",
            "alertstate": "firing",
            "severity": severity[f"ClearMLAgent{alert}"],
            "namespace": NAMESPACE,
            "clearml_agent": FULLNAME,
            **labels,
        }
        for alert, labels in expected
    ]
    shown = ["ALERTS{" + ",".join(f'{key}="{value}"' for key, value in one.items()) + "}" for one in firing]
    complaint = promtool(
        tmp_path,
        rules,
        {
            "input_series": [*series({**WELL, **changes}), *series(ELSEWHERE, job="other-controller")],
            "promql_expr_test": [
                {
                    "expr": 'ALERTS{alertstate="firing"}',
                    "eval_time": f"{MINUTES}m",
                    "exp_samples": [{"labels": one, "value": 1} for one in shown],
                }
            ],
        },
    )
    assert complaint == ""


def test_every_alert_is_provoked(rules: Path) -> None:
    every = {rule["alert"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]}
    assert {f"ClearMLAgent{alert}" for _, expected in PLAYS.values() for alert, _ in expected} == every


def test_the_words_name_the_queue(rules: Path, tmp_path: Path) -> None:
    found = yaml.safe_load(rules.read_text())["groups"][0]["rules"]
    (rule,) = [rule for rule in found if rule["alert"] == "ClearMLAgentLimitFull"]
    expected = {
        "exp_labels": {**rule["labels"], "queue": "gpu"},
        "exp_annotations": {
            **rule["annotations"],
            "summary": "There is no room for tasks of queue gpu, and none of its pods runs.",
        },
    }
    test = {
        "input_series": series({**WELL, **NONE_RUNS, **QUIET, **FULL}),
        "alert_rule_test": [
            {"eval_time": f"{MINUTES}m", "alertname": "ClearMLAgentLimitFull", "exp_alerts": [expected]}
        ],
    }
    assert promtool(tmp_path, rules, test) == ""
