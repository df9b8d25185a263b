from __future__ import annotations

import pytest
from clearml_k8s.spec.expansion import joined, literal
from hypothesis import example, given
from hypothesis import strategies as st
from spec_support import kubernetes_expansion

VARIABLES = {"A": "expanded", "": "empty name"}


@given(st.text(alphabet="$()Ax \n"))
@example("$$(A)")
@example("$")
@example("$$")
@example("$(A")
def test_a_literal_text_reaches_the_container_unchanged(text: str) -> None:
    assert kubernetes_expansion(literal(text), VARIABLES) == text


@pytest.mark.parametrize("text", ["$HOME", "a$b", "100$", "plain"])
def test_what_needs_no_escape_gets_none(text: str) -> None:
    assert literal(text) == text


TEMPLATE = st.sampled_from(["", "$", "$$", "a$$$", "(A)", "$(A)", "$$(A)", "$(A)$", ")", "x(", "$x", "$HOME "])
TEXT = st.text(alphabet="$()Ax", max_size=4)


@given(TEMPLATE, st.lists(st.tuples(TEXT, TEMPLATE), max_size=4))
@example("", [("$", ""), ("(A)", "")])
@example("$", [("(A)", "")])
@example("$", [("", "(A)")])
@example("", [("a$", "$(A)")])
def test_no_variable_comes_of_a_filled_in_text_and_what_stands_beside_it(
    first: str, others: list[tuple[str, str]]
) -> None:
    pieces = [first, *(piece for pair in others for piece in pair)]
    wanted = "".join(
        text if number % 2 else kubernetes_expansion(text, VARIABLES) for number, text in enumerate(pieces)
    )
    assert kubernetes_expansion(joined(pieces), VARIABLES) == wanted


def test_a_template_without_such_neighbours_stays_as_it_is() -> None:
    assert joined(["$(A) costs 5$ ", "7$", " $$(A) $"]) == "$(A) costs 5$ 7$ $$(A) $"
