from __future__ import annotations

import pytest
from clearml_k8s import errors
from clearml_k8s.spec.container import MAX_ENV_BYTES, check_image, env_entries, split_image


def test_a_value_longer_than_linux_takes_is_an_error() -> None:
    env_entries({"A": "x" * (MAX_ENV_BYTES - 2)})
    with pytest.raises(errors.SpecError, match="environment variable A: 131072 bytes"):
        env_entries({"A": "x" * (MAX_ENV_BYTES - 1)})


def test_dollar_signs_are_escaped_for_kubernetes() -> None:
    assert env_entries({"A": "$(B) $C $$"}) == [{"name": "A", "value": "$$(B) $C $$$"}]


@pytest.mark.parametrize(
    "image",
    [
        "python",
        "python:3.11",
        "nvidia/cuda:12.4.1-runtime-ubuntu22.04",
        "registry.example.com:5000/team/image:tag",
        "localhost:5000/a",
        "Registry.Example.COM/a__b/c.d-e:T.1",
        "[::1]:5000/a",
        "ghcr.io/a/b@sha256:" + "0" * 64,
        "a/b:tag@sha256:" + "f" * 64,
        "  python:3.11\n",
    ],
)
def test_good_images(image: str) -> None:
    assert check_image(image, setting="image") == image.strip()


@pytest.mark.parametrize(
    "image",
    [
        "",
        "Python",
        "python:",
        "https://index.example.com/a",
        "a b",
        "a/:b",
        "-a",
        "a@sha256:12",
        "a" * 256,
        "a:" + "t" * 129,
    ],
)
def test_bad_images_name_the_setting(image: str) -> None:
    with pytest.raises(errors.SpecError, match=r"^defaultImage: found .* expected an image reference"):
        check_image(image, setting="defaultImage")


def test_old_clients_write_arguments_into_the_image() -> None:
    assert split_image("python:3.11 -e A=B") == ("python:3.11", ["-e", "A=B"])
    assert split_image("") == ("", [])
