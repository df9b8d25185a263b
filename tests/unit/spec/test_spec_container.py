from __future__ import annotations

import shlex

import pytest
from clearml_k8s import errors
from clearml_k8s.spec.container import MAX_ENV_BYTES, check_image, env_entries, parse_docker_arguments, split_image
from hypothesis import given
from hypothesis import strategies as st


def parse(arguments: str, reserved: tuple[str, ...] = ()) -> tuple[dict[str, str], list[str]]:
    parsed = parse_docker_arguments(arguments, reserved=reserved)
    assert {item.source for item in parsed.ignored} <= {"task"}
    return dict(parsed.env), [item.argument for item in parsed.ignored]


@pytest.mark.parametrize(
    "arguments",
    ["-e A=B", "-eA=B", "-e=A=B", "--env A=B", "--env=A=B", "-ite A=B", "-iteA=B", "'-e' 'A=B'", '--env="A=B"'],
)
def test_every_spelling_of_env(arguments: str) -> None:
    assert parse(arguments) == ({"A": "B"}, [])


def test_values_keep_blanks_quotes_and_equal_signs() -> None:
    assert parse("""-e A='x y=z "q"' -e B= --env=C=a=b""") == ({"A": 'x y=z "q"', "B": "", "C": "a=b"}, [])


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True), st.text(alphabet="ab '\"\\$=-\n"), max_size=4
    )
)
def test_what_a_client_quotes_comes_back(env: dict[str, str]) -> None:
    assert parse(" ".join(f"-e {shlex.quote(f'{name}={value}')}" for name, value in env.items())) == (env, [])


def test_the_last_value_of_a_name_wins() -> None:
    assert parse("-e A=1 -e B=2 -e A=3") == ({"B": "2", "A": "3"}, [])


@pytest.mark.parametrize(
    ("arguments", "ignored"),
    [
        ("--shm-size 8g -e A=B", ["--shm-size"]),
        ("--shm-size=8g -e A=B", ["--shm-size"]),
        ("-v /data:/data --ipc=host -e A=B", ["-v", "--ipc"]),
        ("--gpus '\"device=0,1\"' --rm -e A=B", ["--gpus", "--rm"]),
        ("stray -e A=B", ["docker argument 1"]),
        ("-e A=B -e", ["-e (not a name)"]),
    ],
)
def test_other_options_are_listed_and_their_values_are_not_taken_for_options(
    arguments: str, ignored: list[str]
) -> None:
    assert parse(arguments) == ({"A": "B"}, ignored)


def test_the_advice_fits_the_option() -> None:
    (item,) = parse_docker_arguments("-v /secret/path:/data", reserved=()).ignored
    assert (
        str(item) == "-v: ignored; only -e and --env reach a pod; set volumes and volumeMounts in the queue's template"
    )


def test_reserved_names_are_refused_without_showing_the_value() -> None:
    parsed = parse_docker_arguments("-e KEY=s3cret -e A=1", reserved=("KEY",))
    assert dict(parsed.env) == {"A": "1"}
    assert [str(item) for item in parsed.ignored] == ["-e KEY: ignored; set by the controller"]


def test_a_value_that_lost_its_name_is_not_shown() -> None:
    parsed = parse_docker_arguments("-e hunter2 hunter3 -e PASSWORD", reserved=())
    text = "\n".join(str(item) for item in parsed.ignored)
    assert "hunter" not in text
    assert "-e PASSWORD: ignored; no value is given" in text


def test_names_that_kubernetes_refuses_are_told() -> None:
    assert parse("-e 1A=x -e 'A B=x' -e A-B.c=x") == ({"A-B.c": "x"}, ["-e (not a name)", "-e (not a name)"])


def test_unmatched_quotes_are_an_error_that_names_the_setting() -> None:
    with pytest.raises(errors.SpecError, match="container arguments: quotes do not match"):
        parse_docker_arguments("-e A='x", reserved=())


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
