"""`agent.default_docker` of clearml.conf: how it is read, and which container a task gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s.clearml.tasks import Container, TaskView, view
from clearml_k8s.config import Config, QueueConfig, QueueSettings, ResolvedQueue
from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.errors import SpecError
from clearml_k8s.flow.task_conf import read_text
from clearml_k8s.spec.container_match import MAX_TEXT, choose, fitting
from clearml_k8s.spec.container_rules import NO_RULES, ContainerRules
from clearml_k8s.spec.job import build_job
from hypothesis import given
from hypothesis import strategies as st
from spec_support import ATTEMPT, CONTROLLER, TASK_ID, WORKER_ID, environment, task_container

CONF = Path("/etc/clearml-k8s-conf/clearml.conf")


def rules(default_docker: str) -> ContainerRules:
    return read_text(f"agent {{ default_docker {{ {default_docker} }} }}", path=CONF)


def one(match: str, more: str = 'image: "rule:1"') -> ContainerRules:
    return rules(f"match_rules: [{{ {more}, match {{ {match} }} }}]")


def problems(default_docker: str) -> tuple[str, ...]:
    with pytest.raises(ConfigProblems) as caught:
        rules(default_docker)
    return caught.value.problems


DOCUMENT: dict[str, Any] = {
    "id": TASK_ID,
    "name": "train",
    "status_changed": ATTEMPT,
    "project": "p-1",
    "user": "u-1",
    "tags": ["general", "gpu-large"],
    "script": {
        "repository": "https://git.example.com/team/vision.git",
        "branch": "master",
        "binary": "python3.9",
        "requirements": {"pip": "tensorflow==1.6.2\nnumpy", "conda": "pytorch=2"},
    },
}


def task(*, project_name: str = "examples/sub", **container: str) -> TaskView:
    document = {**DOCUMENT, "container": container}
    return dataclasses.replace(view(document), document=document, project_name=project_name)


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "agent {}", "agent.default_docker {}", "agent: 3", "agent.default_docker: null"])
def test_a_conf_without_the_section_has_no_rules(text: str) -> None:
    assert read_text(text, path=CONF) == NO_RULES


def test_image_and_arguments() -> None:
    found = rules('image: "nvidia/cuda:12", arguments: ["--ipc=host", "-e", "A=b c"]')
    assert (found.image, found.arguments, found.rules) == ("nvidia/cuda:12", ("--ipc=host", "-e", "A=b c"), ())
    assert rules("arguments: \"--ipc=host -e 'A=b c'\"").arguments == ("--ipc=host", "-e", "A=b c")


def test_variables_of_a_pod_elsewhere_in_the_file_do_not_matter() -> None:
    text = 'agent.git_pass: ${GIT_PASS}\nagent.default_docker.image: "a:1"\nsdk.key = ${?KEY}"x"'
    assert read_text(text, path=CONF).image == "a:1"


SECRET = "CANARY-4711"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"image: {SECRET}", ".image: expected an image reference"),
        ("image: ${IMAGE}", ".image: found a substitution (${...}), which is not filled in"),
        (f'arguments: "{SECRET} \'"', ".arguments: quotes do not match"),
        (f"arguments {{ a: {SECRET} }}", ".arguments: expected text, or a list of texts"),
        (f"match_rules: {SECRET}", ".match_rules: expected a list"),
        (f"match_rules: [{SECRET}]", ".match_rules[0]: expected an object"),
        (f"match_rules: [{{match.project: a}}, {{match: {SECRET}}}]", ".match_rules[1].match: expected an object"),
        (f'match_rules: [{{match.project: "({SECRET}"}}]', ".match_rules[0].match.project: not a regular expression"),
        ("match_rules: [{match.tags: [a, 3]}]", ".match_rules[0].match.tags: expected a regular expression"),
        (f"match_rules: [{{match.projct: {SECRET}}}]", ".match_rules[0].match: a key that is not known here; did you"),
        (f"match_rules: [{{match.script.{SECRET}: a}}]", ".match.script: a key that is not known here"),
        ("match_rules: [{match.script.requirements.pip.torch: latest}]", ".pip.torch: expected versions such as"),
        ("match_rules: [{match.tags: a, force_container_rules: x}]", ".force_container_rules: expected true or false"),
        (f"match_rules: [{{match.tags: a, setup_shell_script: {SECRET}}}]", ".setup_shell_script: not possible here"),
        (f"match_rules: [{{match.tags: a, imag: {SECRET}}}]", "[0]: a key that is not known here; did you mean image?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place_and_never_shown(text: str, problem: str) -> None:
    found = problems(text)
    assert any(f"{CONF}: agent.default_docker" in line and problem in line for line in found), found
    assert SECRET not in "\n".join(found)


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(problems('image: A, arguments: {a: b}, match_rules: [{match.project: "("}, 3]')) == 4


# ---- which rule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ('script.binary: "python3.9$"', True),
        ('script.binary: "python3.8$"', False),
        ("script.branch: mast", True),
        ('script.repository: "team/vision"', True),
        ('project: "^examples"', True),
        ('project: "^examples$"', False),
        ("project_id: p-1", True),
        ("user_id: u-2", False),
        ('tags: "^gpu-"', True),
        ('tags: ["^gpu-", "general"]', True),
        ('tags: ["^gpu-", "^large"]', False),
        ('tags: ""', True),
        ("tags: []", True),
        ("script {}", True),
        ('script { repository: "", branch: "", requirements.pip {} }, project: ""', True),
        ('container: "^$"', True),
        ('script { branch: master, requirements.pip.tensorflow: "~=1.6" }', True),
        ('script { branch: main, requirements.pip.tensorflow: "~=1.6" }', False),
        ('script.requirements.pip { TensorFlow: "~=1.6", numpy: "" }', True),
        ('script.requirements.pip { tensorflow: ">=2" }', False),
        ('script.requirements.pip { torch: "" }', False),
        ('script.requirements { pip.numpy: ">=1", conda.pytorch: "2" }', True),
        ("", None),
    ],
)
def test_a_rule_fits_when_all_of_it_does(match: str, fits: bool | None) -> None:
    found = one(match)
    assert bool(found.rules) is (fits is not None), "as the agent has it, a rule without match is none"
    assert (fitting(found, task()) is not None) is bool(fits)


def test_a_task_that_was_not_read_as_a_whole_meets_no_rule() -> None:
    assert fitting(one('container: "^$"'), dataclasses.replace(task(), document=None)) is None


@pytest.mark.parametrize(
    ("expression", "fields"),
    [
        ("^(a+)+$", {"script": {"repository": "a" * 100 + "!"}}),
        ("^(a|a)*$", {"script": {"repository": "a" * 100 + "!"}}),
        (".*.*.*.*Q", {"script": {"repository": "a" * MAX_TEXT}}),
    ],
)
def test_an_expression_that_would_search_for_ever_fails_the_task(expression: str, fields: dict[str, Any]) -> None:
    found = rules(f'match_rules: [{{match.script.branch: "x"}}, {{match.script.repository: "{expression}"}}]')
    with pytest.raises(SpecError, match=r"match_rules\[1\] of clearml.conf: its expressions take too long") as caught:
        fitting(found, dataclasses.replace(task(), document={**DOCUMENT, **fields}))
    assert expression not in str(caught.value)
    assert fitting(found, task()) is None, "the next task is none the worse"


def test_requirements_that_are_slow_to_read_fail_the_task() -> None:
    lines = "\n".join("a" + " " * 900 + "?" for _ in range(5000))
    slow = {**DOCUMENT, "script": {"requirements": {"pip": lines}}}
    with pytest.raises(SpecError, match="take too long"):
        fitting(one('script.requirements.pip.torch: ""'), dataclasses.replace(task(), document=slow))


def test_nobody_slips_by_a_rule_with_much_text() -> None:
    """Cut, or with something behind it, a text would fit another expression."""
    found = one('container: "^evil:1$"', 'image: "good:1", force_container_rules: true')
    for image in ("evil:1", " " * 2000 + "evil:1", "evil:1 -e A=B"):
        assert choose(found, task(image=image)).image == "good:1", image
    tags = one('tags: "^locked$"')
    many = dataclasses.replace(task(), tags=(*(f"t{number}" for number in range(200)), "locked"))
    assert fitting(tags, many) is not None
    long = {**DOCUMENT, "script": {"repository": "a" * MAX_TEXT + "/evil"}}
    with pytest.raises(
        SpecError, match=r"match_rules\[0\].* looks at script.repository, and its script.repository has"
    ):
        fitting(one('script.repository: "/evil$"'), dataclasses.replace(task(), document=long))
    assert fitting(one('project: "^examples"'), dataclasses.replace(task(), document=long)) is not None


NAMES = st.sampled_from(["script", "requirements", "pip", "container", "image", "binary"])
ANYTHING = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
)


SEVERAL = one('script { binary: "x", requirements.pip.a: ">1" }, container: "y"')


@given(ANYTHING)
def test_whatever_the_server_says_of_a_task_a_rule_fits_or_not(document: Any) -> None:
    document = document if isinstance(document, dict) else {"script": document}
    assert fitting(SEVERAL, dataclasses.replace(task(), document=document)) in (None, *SEVERAL.rules)


# ---- what it gives --------------------------------------------------------------------------------------------------

TWO = """
  image: "default:1", arguments: "-e FROM=default"
  match_rules: [
    { image: "first:1", arguments: "-e FROM=first", match.tags: gpu-large }
    { image: "second:1", force_container_rules: true, match.project: examples }
  ]
"""


def test_the_first_rule_that_fits_counts_alone_and_a_tasks_own_image_before_it() -> None:
    found = choose(rules(TWO), task())
    assert (found.image, found.words) == ("first:1", ("-e", "FROM=first"))
    assert found.by == "agent.default_docker.match_rules[0] of clearml.conf"
    own = choose(rules(TWO), task(image="own:1"))
    assert (own.image, own.words, own.by) == ("own:1", (), "")
    kept = choose(rules(TWO), task(arguments="-e FROM=task", setup_shell_script="true"))
    assert (kept.image, kept.words, kept.setup_script) == ("first:1", ("-e", "FROM=task"), "true")


def test_without_a_rule_the_general_arguments_are_for_tasks_without_image_and_arguments() -> None:
    found = rules('image: "default:1", arguments: "-e FROM=default"')
    assert choose(found, task()).words == ("-e", "FROM=default")
    assert choose(found, task(arguments="-e A=B")).words == ("-e", "A=B")
    assert choose(found, task(image="own:1")).words == ()


def test_a_rule_that_forces_replaces_all_that_the_task_says_and_its_user_is_told() -> None:
    found = one("project: examples", 'image: "forced:1", force_container_rules: true')
    chosen = choose(found, task(image="own:1", arguments="-e KEY=CANARY", setup_shell_script="CANARY"))
    assert (chosen.image, chosen.words, chosen.setup_script) == ("forced:1", (), "")
    told = [str(item) for item in chosen.ignored]
    why = "ignored; agent.default_docker.match_rules[0] of clearml.conf forces its own"
    assert told == [f"the image: {why}", f"the docker arguments: {why}", f"the setup script: {why}"]
    assert all(item.source == "task" for item in chosen.ignored)
    assert choose(found, task()).ignored == ()


def test_what_looks_secret_in_arguments_of_the_conf_stays_there() -> None:
    arguments = "-e PUBLIC=1 --env API_TOKEN=CANARY -e URL=https://me:CANARY@example.com --shm-size 1g"
    found = choose(rules(f'arguments: "{arguments}"'), task())
    assert found.words == ("-e", "PUBLIC=1", "--shm-size", "1g")
    assert [item.argument for item in found.ignored] == ["-e API_TOKEN", "-e URL"]
    assert "CANARY" not in str(found)
    own = choose(rules(""), task(arguments=arguments))
    assert "API_TOKEN=CANARY" in own.words, "a task's own arguments are its user's to give"


def test_arguments_of_the_conf_ask_for_no_resources(config: Config) -> None:
    found = choose(rules('arguments: "--gpus all -e A=B --memory=4g --cpus 2"'), task())
    assert found.words == ("-e", "A=B")
    assert [item.argument for item in found.ignored] == ["--gpus", "--memory", "--cpus"]
    config = dataclasses.replace(config, task_policy=TaskPolicy(max_gpus=4))
    job = built(config, rules('arguments: "--gpus all"'), task())
    assert "resources" not in task_container(job), "room is counted before the rule is known"


def built(config: Config, found: ContainerRules, view: TaskView, **settings: Any) -> Any:
    queue = QueueConfig(name="q", settings=QueueSettings(**settings))
    return build_job(
        config=config,
        queue=ResolvedQueue(config=queue, id="q", name="q"),
        task=view,
        attempt=ATTEMPT,
        worker_id=WORKER_ID,
        controller_id=CONTROLLER,
        rules=found,
    )


@pytest.mark.parametrize(
    ("conf", "queue", "values", "own", "image"),
    [
        ("", None, None, "", "python:3.11"),
        ('image: "conf:1"', None, None, "", "conf:1"),
        ('image: "conf:1"', None, "values:1", "", "values:1"),
        ('image: "conf:1"', "queue:1", "values:1", "", "queue:1"),
        (TWO, "queue:1", "values:1", "", "first:1"),
        (TWO, "queue:1", "values:1", "own:1", "own:1"),
        ('match_rules: [{arguments: "-e A=B", match.tags: general}]', "queue:1", None, "", "queue:1"),
    ],
)
def test_who_says_which_image(
    config: Config, conf: str, queue: str | None, values: str | None, own: str, image: str
) -> None:
    config = dataclasses.replace(config, default_container_image=values)
    job = built(config, rules(conf), task(image=own), default_image=queue)
    assert task_container(job)["image"] == image


def test_arguments_of_the_conf_are_within_the_tasks_policy(config: Config) -> None:
    job = built(config, rules('arguments: "--privileged -e A=B --network host"'), task())
    assert environment(job)["A"] == "B"
    assert "securityContext" not in task_container(job)
    assert {item.argument for item in job.ignored} == {"--privileged", "--network"}


def test_a_forced_rule_takes_the_tasks_setup_script_away(config: Config) -> None:
    found = one("project: examples", 'image: "forced:1", force_container_rules: true')
    job = built(config, found, task(image="own:1", setup_shell_script="true"))
    assert task_container(job)["image"] == "forced:1"
    assert "CLEARML_K8S_SETUP_SCRIPT" not in environment(job)


def test_needs() -> None:
    assert not rules('image: "a:1"').needs_task
    assert one("tags: a").needs_task
    assert not one("tags: a").needs_project
    assert one("project: a").needs_project


def test_a_malformed_container_is_never_run(config: Config) -> None:
    bad = dataclasses.replace(task(), container=Container(malformed="container.image: x"))
    with pytest.raises(Exception, match="container.image"):
        built(config, one("tags: general", 'image: "a:1", force_container_rules: true'), bad)
