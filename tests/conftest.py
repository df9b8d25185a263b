"""What all parts share: one worker for each cluster, long tests by name only, and what the report says of both."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
OWN_CLUSTER = ("test_local_cluster.py", "test_local_cluster_down.py", "test_current_cluster.py")
"""Files of the part `cluster` whose tests bring up clusters of their own."""

_left_out = pytest.StashKey[set[str]]()


def part_of(path: Path) -> str:
    """The folder below tests/ in which the file is."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else "other"


def cluster_of(path: Path) -> str | None:
    """What tests of the file share with others, so that they run one after the other; None: nothing.

    Those of `e2e` share the cluster of the checkout, each file in namespaces of its own; two at a time are enough.
    """
    match part_of(path):
        case "e2e":
            return "e2e: the chart" if path.name.startswith("test_chart_") else "e2e: tasks"
        case "cluster":
            return path.name if path.name in OWN_CLUSTER else "the cluster with simulated nodes"
        case _:
            return None


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_left_out] = set()
    config.pluginmanager.register(Times(), "times-of-parts")


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = []
    if skipped := os.environ.get("SKIP_PARTS", "").replace(",", " ").split():
        lines.append(f"switched off by SKIP_PARTS: {', '.join(skipped)}")
    if "long" not in config.option.markexpr:
        lines.append("switched off: tests marked `long` (make test-long runs them); their number is at the end")
    if os.environ.get("CLUSTER") == "current":
        lines.append("CLUSTER=current: the current kube context; the local cluster is not tested itself")
    return lines


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share a cluster in one worker, which begins with them; each other test where a worker is free.

    A scheduler of our own, because pytest-xdist 3.8 ignores its `xdist_group` marks under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling  # there only when workers are asked for

    class ByPart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return cluster_of(TESTS.parent / nodeid.partition("::")[0]) or nodeid

    return ByPart(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.stash[_left_out] = {item.nodeid for item in long}
        config.hook.pytest_deselected(items=long)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = sorted(session.config.stash[_left_out])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """With pytest-xdist only the workers know what was left out."""
    del error
    node.config.stash[_left_out].update(getattr(node, "workeroutput", {}).get("left_out", ()))


class Times:
    """Adds up how long each part's tests took; workers side by side count each for itself."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tests: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        part = part_of(TESTS.parent / report.location[0])
        self.seconds[part] += report.duration
        self.tests[part].add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        for part, seconds in self.seconds.items():
            terminalreporter.write_line(f"{part}: {len(self.tests[part])} tests, {seconds:.0f} s")
        if left_out := config.stash[_left_out]:
            terminalreporter.write_line(f"switched off: {len(left_out)} tests marked `long`:")
            for name, number in sorted(Counter(node.partition("[")[0] for node in left_out).items()):
                terminalreporter.write_line(f"  {number:4} of {name}")
