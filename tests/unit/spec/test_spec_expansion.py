from __future__ import annotations

import pytest
from clearml_k8s.spec.expansion import literal
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
