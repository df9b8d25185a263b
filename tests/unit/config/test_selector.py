"""Label selectors mean what they mean to Kubernetes."""

from __future__ import annotations

import pytest
from clearml_k8s.config.selector import SelectorError, label_keys, parse

NODE = {"os": "linux", "pool": "gpu-a100", "count": "8", "empty": "", "example.com/zone": "b"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("pool", True),
        ("missing", False),
        ("!missing", True),
        ("!pool", False),
        ("pool=gpu-a100", True),
        ("pool == gpu-a100", True),
        ("pool=other", False),
        ("missing=", False),
        ("empty=", True),
        ("empty", True),
        ("pool!=other", True),
        ("pool!=gpu-a100", False),
        ("missing!=a", True),
        ("pool in (other, gpu-a100)", True),
        ("pool in (other)", False),
        ("missing in (a,)", False),
        ("empty in (a,)", True),
        ("pool notin (other)", True),
        ("pool notin (gpu-a100)", False),
        ("missing notin (a)", True),
        ("count>7", True),
        ("count > 8", False),
        ("count<9", True),
        ("count < 8", False),
        ("pool>1", False),
        ("missing<1", False),
        ("os=linux,example.com/zone in (a,b),!spot", True),
        ("os=linux,example.com/zone in (a,c),!spot", False),
    ],
)
def test_matches(text: str, matches: bool) -> None:
    assert parse(text).matches(NODE) is matches


def test_several_texts_must_all_match() -> None:
    both = parse("os=linux", "", "pool=gpu-a100")
    assert both.matches(NODE)
    assert not both.matches({**NODE, "pool": "cpu"})
    assert not both.matches({**NODE, "os": "windows"})
    assert both.keys == {"os", "pool"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a b", "at 'b' expected one of = == != in notin < > or a comma"),
        ("a=b c", "at 'c' expected a comma before the next requirement"),
        ("a,", "at its end expected a label's key"),
        (",a", "at ',' expected a label's key"),
        ("a in b", "at 'b' expected values in parentheses, as in (a,b)"),
        ("a in ()", "at ')' expected a value"),
        ("a in (b", "at its end expected a comma or a closing parenthesis"),
        ("a>b", "at 'b' expected a whole number"),
        ("nodepool: x", "at 'nodepool:' expected a label's key"),
        ("a=-b", "at '-b' expected a label's value"),
        ("a=" + "b" * 64, "expected a label's value"),
        ("a/b/c", "expected a label's key"),
        ("A_B/c", "expected a label's key"),
    ],
)
def test_what_is_none_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert said in str(caught.value)


def test_lists_of_keys() -> None:
    assert label_keys("nvidia.com/gpu.count , a") == ("nvidia.com/gpu.count", "a")
    with pytest.raises(SelectorError, match="found 'a=1'; expected label keys separated by commas"):
        label_keys("a=1")
    with pytest.raises(SelectorError, match="found ''"):
        label_keys("a,")
