"""Docker's words as docker reads them."""

from __future__ import annotations

import pytest
from clearml_k8s.spec.docker_options import FALSE, NO_OPTION, TRUE, options


def found(*words: str) -> list[tuple[str, str | None]]:
    return [(one.name, one.value) for one in options(words)]


@pytest.mark.parametrize(
    "words",
    [
        ("-e", "A=B"),
        ("-eA=B",),
        ("-e=A=B",),
        ("--env", "A=B"),
        ("--env=A=B",),
    ],
)
def test_every_spelling_of_a_value(words: tuple[str, ...]) -> None:
    assert found(*words) == [("--env", "A=B")]


def test_letters_that_stand_together() -> None:
    assert found("-itde", "A=B") == [("--interactive", TRUE), ("--tty", TRUE), ("--detach", TRUE), ("--env", "A=B")]
    assert found("-itv/a:/b") == [("--interactive", TRUE), ("--tty", TRUE), ("--volume", "/a:/b")]
    assert found("-it") == [("--interactive", TRUE), ("--tty", TRUE)]


def test_an_option_with_a_value_takes_the_next_word_whatever_it_is() -> None:
    assert found("--memory-swap", "-1", "--rm") == [("--memory-swap", "-1"), ("--rm", TRUE)]
    assert found("--entrypoint", "", "-v") == [("--entrypoint", ""), ("--volume", None)]


def test_a_switch_takes_none() -> None:
    assert found("--privileged", "true") == [("--privileged", TRUE), (NO_OPTION, None)]
    assert found("--privileged=false", "--privileged=1") == [("--privileged", FALSE), ("--privileged", TRUE)]


def test_several_names_of_one_option() -> None:
    assert found("--net=host", "--network", "host") == [("--network", "host")] * 2


def test_what_docker_does_not_know_takes_what_follows() -> None:
    assert found("--made-up", "a", "b", "-e", "A=B") == [("--made-up", None), ("--env", "A=B")]


def test_nothing_that_may_be_a_value_is_told() -> None:
    words = ("--SECRET", "-%SECRET", "-xSECRET", "-uSECRET", "SECRET", "--", "-")
    assert "SECRET" not in " ".join(one.written for one in options(words))
    assert [one.written for one in options(words)][:4] == ["-(not an option)", "-(not an option)", "-x", "-u"]
