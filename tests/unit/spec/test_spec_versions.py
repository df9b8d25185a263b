"""Versions in rules for containers, against those of a task's requirements."""

from __future__ import annotations

import pytest
from clearml_k8s.spec.versions import canonical, overlap, read_specs, requirements
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("wanted", "found", "both"),
    [
        ("", "==1.2", True),
        ("*", "", True),
        ("~=1.6", "==1.6.2", True),
        ("~=1.6", "==1.5", False),
        ("~=1.6", "==2.0", False),
        ("~=1.6.1", "==1.7", False),
        ("~=1.6", "", True),
        (">=1.6,<2", "==1.9.9", True),
        (">=1.6,<2", "==2", False),
        (">=1.6, <2", ">=2", False),
        (">1.6", "<=1.6", False),
        (">=1.6", "<=1.6", True),
        ("==1.10", ">1.9", True),
        ("1.6", "==1.6.0", True),
        ("==2.1.*", "==2.1.7", True),
        ("==2.1.*", "==2.2", False),
        ("==2.1", "==2.1+cu118", True),
        ("<3", "==3.0.0rc1", False),
        ("!=1", "==1", True),
        ("===1.0", "==1.0", True),
    ],
)
def test_versions_that_both_allow(wanted: str, found: str, both: bool) -> None:
    left, right = read_specs(wanted), read_specs(found)
    assert left is not None
    assert right is not None
    assert overlap(left, right) is both
    assert overlap(right, left) is both


@pytest.mark.parametrize("text", ["latest", ">=", "=>1", "1.6 or 2", ">=1;<2", "==x"])
def test_what_is_no_version(text: str) -> None:
    assert read_specs(text) is None


def test_the_lines_of_requirements() -> None:
    text = """
# a comment
torch==2.1.0+cu118  # as ever
Scikit_Learn[extra] >= 1.2, < 2 ; python_version > "3.6"
numpy
git+https://github.com/a/b.git
package @ https://example.com/package.whl
-r other.txt
old (>=1)
conda-like=1.2=build
"""
    found = [
        ("torch", (("==", "2.1.0+cu118"),)),
        ("scikit-learn", ((">=", "1.2"), ("<", "2"))),
        ("numpy", ()),
        ("package", ()),
        ("old", ((">=", "1"),)),
        ("conda-like", ()),
    ]
    assert list(requirements(text)) == found
    assert list(requirements(text.splitlines())) == found
    assert list(requirements({"a": 1})) == []
    assert list(requirements(None)) == []


def test_names_are_compared_as_the_index_does() -> None:
    assert canonical("Scikit_Learn") == canonical("scikit-learn") == canonical("scikit.learn")


@given(st.text(), st.text())
def test_any_text_is_read(wanted: str, lines: str) -> None:
    specs = read_specs(wanted)
    for _, found in requirements(lines):
        assert overlap(specs or (), found) in (True, False)
