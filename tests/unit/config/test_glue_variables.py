"""The table of the glue's variables: complete, true to the code, and the same in docs and chart."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.config.glue_environment import with_environment
from clearml_k8s.config.glue_variables import GLUE_PREFIXES, VARIABLES, State
from flow_parts import make_config

CONFIG = make_config()
ROOT = Path(__file__).resolve().parents[3]
VALUES = {
    "CLEARML_K8S_GLUE_TEMPLATE_MODULE": "custom_code:update_template",
    "K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT": "true",
    "CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD": "kubectl apply -f a.yaml",
    "CLEARML_K8S_GLUE_POD_POST_APPLY_CMD": "kubectl get pods",
    "CLEARML_K8S_GLUE_POD_POST_DELETE_CMD": "kubectl delete -f a.yaml",
    "CLEARML_K8S_GLUE_COND_CUST_TEMPLATE": 'type="a"|{spec.nodeName: b}',
}
"""Of each variable that works for the configuration: a value that changes it."""


def names_in(state: State) -> list[str]:
    return [name for name, variable in VARIABLES.items() if variable.state is state]


def names_read_in(*path: str) -> set[str]:
    """Of variables, as literals in this module of the installed agent."""
    package = importlib.util.find_spec("clearml_agent")
    assert package is not None
    assert package.submodule_search_locations
    text = Path(package.submodule_search_locations[0]).joinpath(*path).read_text(encoding="utf-8")
    return set(re.findall(r'"([A-Z][A-Z0-9_]{5,})"', text))


def test_all_that_the_installed_glue_reads_is_in_the_table() -> None:
    read = names_read_in("glue", "definitions.py")
    assert len(read) >= 10
    assert read - set(VARIABLES) == set()


def test_all_that_the_installed_agent_reads_is_in_the_table() -> None:
    """Most of it counts in a task's pod alone: who writes it for the controller is told."""
    files = (("definitions.py",), ("backend_api", "session", "defs.py"), ("backend_config", "defs.py"))
    read = {name for path in files for name in names_read_in(*path) if name.startswith("CLEARML_")}
    assert len(read) >= 60
    assert read - set(VARIABLES) == set()


@pytest.mark.parametrize("name", names_in(State.WORKS))
def test_what_works_changes_the_configuration(name: str) -> None:
    if name == "CLEARML_CONFIG_FILE":
        return  # read by clearml.conf and flow.task_conf, which have their own tests
    assert with_environment(CONFIG, {name: VALUES[name]}) != CONFIG


@pytest.mark.parametrize("name", names_in(State.NOTHING))
def test_what_has_no_meaning_changes_nothing(name: str) -> None:
    assert with_environment(CONFIG, {name: "true"}) == CONFIG


@pytest.mark.parametrize("name", names_in(State.REFUSED))
def test_what_is_the_glues_alone_is_refused_by_the_controller_too(name: str) -> None:
    if not name.startswith(GLUE_PREFIXES):
        assert with_environment(CONFIG, {name: "true"}) == CONFIG, "it may be meant for other programs of this machine"
        return
    with pytest.raises(ConfigProblems) as caught:
        with_environment(CONFIG, {name: "true"})
    assert caught.value.problems == (f"{name} is not taken: {VARIABLES[name].text}",)
    assert with_environment(CONFIG, {name: " "}) == CONFIG


def test_docs_and_chart_say_the_same() -> None:
    script = ROOT / "tests" / "support" / "glue_variables_page.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    chart = yaml.safe_load((ROOT / "charts/clearml-agent/files/glue-variables.yaml").read_text(encoding="utf-8"))
    assert chart["works"] == names_in(State.WORKS)
    assert chart["refused"] == {name: VARIABLES[name].text for name in names_in(State.REFUSED)}
    assert list(chart["nothing"]) == names_in(State.NOTHING)
