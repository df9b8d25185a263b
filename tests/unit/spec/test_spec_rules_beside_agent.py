"""Which rule fits, beside clearml-agent's own resolver on the same rules and tasks."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import warnings
from types import SimpleNamespace
from typing import Any

from clearml_k8s.clearml.tasks import view
from clearml_k8s.spec.container_match import choose, fitting
from clearml_k8s.spec.container_rules import read_rules
from hypothesis import example, given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from clearml_agent.commands.resolver import resolve_default_container
    from clearml_agent.external.pyhocon import ConfigFactory

TEXTS = st.sampled_from(["", "a", "b", "ab", "main", "gpu-large", "examples/sub", "AÉé"])
EXPRESSIONS = st.sampled_from(["", "^a", "b$", "A", "^$", ".*", "gpu", "^main$", "[a-z]+", "é", "exa|b"])
TERM = EXPRESSIONS | st.lists(EXPRESSIONS.filter(bool), max_size=2)
# Of versions what both do alike: the agent takes 1.6 for a version that is <1.6, and knows no *.
WANTED = st.dictionaries(
    st.sampled_from(["torch", "numpy"]), st.sampled_from(["", ">=1.6", "==1.6", "~=1.6"]), max_size=2
)
REQUIRED = st.lists(
    st.sampled_from(["torch", "numpy", "torch==1.6", "numpy==1.5 # x", "torch>=2", "# torch", "numpy[x]==1.6"]),
    max_size=3,
).map("\n".join)

MATCH = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("project", "project_id", "user_id", "container", "tags"), TERM),
        "script": st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(("repository", "branch", "binary"), TERM),
                "requirements": st.fixed_dictionaries({}, optional={"pip": WANTED, "conda": WANTED}),
            },
        ),
    },
)
RULE = st.fixed_dictionaries(
    {"match": MATCH},
    optional={"image": st.just("rule:1"), "arguments": st.just("-e A=B"), "force_container_rules": st.booleans()},
)
CONTAINERS = st.sampled_from(
    [{}, {"image": "main"}, {"image": "ab", "arguments": "-e T=1"}, {"arguments": "-e T=1"}, {"image": "gpu:1"}]
)
TASKS = st.fixed_dictionaries(
    {
        "project": st.sampled_from(["a", "p"]),
        "user": st.sampled_from(["a", "u"]),
        "tags": st.lists(TEXTS, max_size=2),
        "script": st.fixed_dictionaries(
            {
                "repository": TEXTS,
                "branch": TEXTS,
                "binary": TEXTS,
                "requirements": st.fixed_dictionaries({}, optional={"pip": REQUIRED, "conda": REQUIRED}),
            }
        ),
        "container": CONTAINERS,
    }
)
SCRIPT = {"repository": "a", "branch": "a", "binary": "", "requirements": {}}


def of_agent(section: dict[str, Any], task: dict[str, Any], project: str) -> tuple[int | None, dict[str, Any]]:
    """The number of the rule that fits, and the container that it gives."""

    def answered(*, service: str, **_: Any) -> Any:
        data = {"tasks": [task]} if service == "tasks" else {"projects": [{"name": project}]}
        return SimpleNamespace(ok=True, json=lambda: {"data": data})

    config = ConfigFactory.from_dict({"agent": {"default_docker": section}})
    session = SimpleNamespace(
        config=config,
        check_min_api_version=lambda _: True,
        verify_feature_set=lambda _: None,
        send_request=answered,
    )
    container = copy.deepcopy(task["container"])
    with contextlib.redirect_stdout(io.StringIO()):
        found, entry = resolve_default_container(session, "task", container)
    rules = config.get("agent.default_docker.match_rules")
    return next((number for number, rule in enumerate(rules) if rule is entry), None), found


@settings(deadline=None)
@given(st.lists(RULE, max_size=3), TASKS, TEXTS)
@example([{"match": {"tags": ""}}], {"project": "a", "tags": [], "script": SCRIPT, "container": {}}, "a")
@example([{"match": {"script": {}}}], {"project": "a", "tags": [], "script": SCRIPT, "container": {}}, "a")
def test_the_same_rule_fits_and_gives_the_same(rules: list[dict[str, Any]], task: dict[str, Any], project: str) -> None:
    section = {"match_rules": rules}
    ours = read_rules(copy.deepcopy(section))
    seen = dataclasses.replace(view({"id": "a", **task}), document=task, project_name=project)
    number, container = of_agent(section, copy.deepcopy(task), project)
    rule = fitting(ours, seen)
    assert (rule and rule.number) == number
    if rule is not None and (rule.force or not task["container"].get("image")):
        chosen = choose(ours, seen)
        assert (chosen.image, " ".join(chosen.words)) == (container["image"], container["arguments"])
