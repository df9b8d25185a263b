"""A start script of the administrator's own: placeholders, doubled braces, and what is refused."""

from __future__ import annotations

import pytest
from clearml_k8s.config.start_script import MAX_BYTES, PLACEHOLDERS, filled, problems
from hypothesis import given
from hypothesis import strategies as st

VALUES = {name: f"<{name}>" for name in PLACEHOLDERS}
END = "\nclearml_agent execute --id {task_id}"


def test_placeholders_are_filled_and_doubled_braces_are_single() -> None:
    text = "a() {{ echo ${{HOME}}; }}\n{extra_bash_init_cmd}\npip install clearml-agent{agent_install_args}" + END
    assert list(problems(text)) == []
    assert filled(text, VALUES) == (
        "a() { echo ${HOME}; }\n<extra_bash_init_cmd>\npip install clearml-agent<agent_install_args>"
        "\nclearml_agent execute --id <task_id>"
    )


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert filled("{extra_bash_init_cmd}", {**VALUES, "extra_bash_init_cmd": "${{A}} {task_id}"}) == "${{A}} {task_id}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("echo ${HOME}", "line 1: found {HOME}"),
        ("echo a\nf() {\n", "line 2: found {"),
        ("f() {{ a; }", "line 1: found }"),
        ("{task-id}", "line 1: found {"),
        ("{}", "line 1: found {}"),
    ],
)
def test_a_brace_that_is_no_placeholder_is_refused(text: str, found: str) -> None:
    (problem,) = problems(text + END)
    assert problem.startswith(f"{found}; expected one of {{agent_install_args}}, {{default_execution_agent_args}}, ")


def test_a_script_that_does_not_run_the_task_is_refused() -> None:
    assert list(problems("echo hello")) == [
        "it does not run the task: end it with clearml_agent execute {default_execution_agent_args} --id {task_id}"
    ]
    assert list(problems("python -m clearml_agent --debug execute")) == []
    assert list(problems("clearml-agent execute")) == []
    assert list(problems("python -m clearml_agent \\\n  execute --id {task_id}")) == []
    assert len(list(problems("clearml_agents execute"))) == len(list(problems("clearml_agent executes"))) == 1


def test_a_script_that_linux_does_not_take_as_an_argument_is_refused() -> None:
    (problem,) = problems("#" + "x" * MAX_BYTES + END)
    assert problem.endswith(f"; at most {MAX_BYTES} are possible: have it download the rest")
    text = "{extra_bash_init_cmd}" + END
    assert list(problems(text, preparation="ä" * 50_000)) == []
    assert len(list(problems(text, preparation="ä" * 60_000))) == 1


def test_no_script_is_no_problem() -> None:
    assert list(problems("")) == list(problems(" \n")) == []


@given(st.text(alphabet="{}ab_ $\n", max_size=30))
def test_whatever_it_is_it_is_filled_or_refused(text: str) -> None:
    if not any("found" in problem for problem in problems(text)):
        filled(text, VALUES)
