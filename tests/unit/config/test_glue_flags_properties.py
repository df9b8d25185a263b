"""Whatever stands on the command line: a config, or a message that names the flag; never a crash, never a secret."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from clearml_k8s import cli
from clearml_k8s.config import Config
from clearml_k8s.config.glue_flags import NAME_MAX, REFUSED
from hostile import BOUNDED, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

CANARY = "c4n4ry-7d1f"
WITH_VALUE = ("--queue", "--namespace", "--template-yaml", "--max-pods", "--credentials-secret", "--credentials-keys",
              "--clearml-conf-secret", "--name")  # fmt: skip
OF_CONNECTION = ("--config", "--kubeconfig", "--context")
KNOWN = (*WITH_VALUE, "--create-queue", *OF_CONNECTION)
ELSEWHERE = ("--git-pass", "--secret-key", "--api-secret", "-p", "--git-pas")
"""Flags of other programs, behind which somebody may write a secret."""

ENVIRONMENT = {
    "CLEARML_API_HOST": "http://clearml:8008",
    "CLEARML_API_ACCESS_KEY": "key-of-the-controller",
    "CLEARML_API_SECRET_KEY": CANARY,
    "CLEARML_CONFIG_FILE": os.devnull,
}
ENOUGH = ("--queue", "a", "--credentials-secret", "creds")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How the command ended; ``config`` is what was handed to the app, if it came to that."""

    code: int
    told: str
    config: Config | None


def run(words: tuple[str, ...], **environment: str) -> Ran:
    """`clearml-k8s run` with these words behind it, and nothing but them to go by."""
    configs: list[Config] = []

    def app_run(config: Config, **_: Any) -> int:
        configs.append(config)
        return cli.EXIT_OK

    app = types.ModuleType("clearml_k8s.app")
    vars(app).update(run=app_run)
    told = io.StringIO()
    with (
        mock.patch.dict(sys.modules, {"clearml_k8s.app": app}),
        mock.patch.dict(os.environ, {**ENVIRONMENT, **environment}, clear=True),
        contextlib.redirect_stderr(told),
        contextlib.redirect_stdout(told),
    ):
        try:
            code = cli.main(["run", *words])
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code=code, told=told.getvalue(), config=configs[0] if configs else None)


def message(ran: Ran) -> str:
    """Without the usage line, which names all flags."""
    return ran.told[ran.told.index("clearml-k8s: ") :]


def flags(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Some words: flags known, refused or of others, with a value, as one word or two, or none; and any text."""
    names = st.sampled_from([*KNOWN, *REFUSED, *ELSEWHERE])
    pair = st.tuples(names, values)
    return st.one_of(
        pair.map(list),
        pair.map(lambda both: [f"{both[0]}={both[1]}"]),
        names.map(lambda name: [name]),
        values.map(lambda text: [text]),
    )


VALUES = texts() | st.sampled_from(["a", "creds", "1", "0", "-1", "k,s", "a,b,c", ",", "ml", "x" * NAME_MAX, "/", "."])
WORDS = st.lists(flags(VALUES), max_size=6).map(lambda parts: tuple(word for part in parts for word in part))


@settings(BOUNDED, max_examples=300)
@given(words=WORDS | WORDS.map(lambda words: (*ENOUGH, *words)))
@example(words=(*ENOUGH, "--template-yaml", "\0"))
@example(words=("--config", "\0"))
@example(words=(*ENOUGH, "--max-pods", "0"))
@example(words=(*ENOUGH, "--namespace", "\ud800"))
@example(words=("--queue", "\ud800", "--credentials-secret", "creds"))
def test_any_words_are_a_config_or_a_message_that_names_the_flag(words: tuple[str, ...]) -> None:
    ran = run(words)
    if ran.config is not None:
        assert ran.code == cli.EXIT_OK
        assert ran.config.queues
        return
    if ran.code == cli.EXIT_OK:
        assert any(word in ("-h", "--help") for word in words)
        return
    assert ran.code == cli.EXIT_USAGE, ran.told
    said = message(ran)
    assert "internal error" not in said
    assert any(name in said for name in (*KNOWN, *REFUSED, *ELSEWHERE, "config file", "unknown flag", "no flag")), said
    assert CANARY not in said


@BOUNDED
@given(words=st.lists(flags(st.just(CANARY)), min_size=1, max_size=3), enough=st.booleans())
@example(words=[["--credentials-keys", f"{CANARY},b,c"]], enough=True)
@example(words=[[f"-p{CANARY}"]], enough=True)
@example(words=[[CANARY]], enough=True)
def test_a_secret_behind_a_flag_that_is_not_taken_is_not_shown(words: list[list[str]], enough: bool) -> None:
    """A flag that is taken may show its value where that is a name; no secret belongs behind one."""
    shows = [*OF_CONNECTION, *(flag for flag in WITH_VALUE if flag != "--credentials-keys")]
    kept = [part for part in words if part[0].partition("=")[0] not in shows]
    ran = run((*(ENOUGH if enough else ()), *(word for part in kept for word in part)))
    assert CANARY not in ran.told


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
QUEUES = st.lists(NAMES, min_size=1, max_size=4, unique=True)


@BOUNDED
@given(
    queues=QUEUES,
    joined=st.booleans(),
    namespace=st.none() | NAMES,
    max_pods=st.none() | st.integers(1, 10**6),
    create=st.booleans(),
    secret=NAMES,
    keys=st.none() | st.tuples(NAMES, NAMES),
    conf=st.none() | NAMES,
    name=st.none() | NAMES,
)
def test_what_is_given_stands_in_the_config(
    queues: list[str],
    joined: bool,
    namespace: str | None,
    max_pods: int | None,
    create: bool,
    secret: str,
    keys: tuple[str, str] | None,
    conf: str | None,
    name: str | None,
) -> None:
    given_queues = [",".join(queues)] if joined else queues
    words = [word for queue in given_queues for word in ("--queue", queue)]
    optional = {
        "--namespace": namespace,
        "--max-pods": max_pods,
        "--credentials-secret": secret,
        "--credentials-keys": ",".join(keys) if keys else None,
        "--clearml-conf-secret": conf,
        "--name": name,
    }
    words += [word for flag, value in optional.items() if value is not None for word in (flag, str(value))]
    config = run((*words, *(["--create-queue"] if create else []))).config
    assert config is not None
    credentials = config.clearml.task_credentials
    conf_secret = config.clearml.config_secret
    assert list(config.queues) == queues
    assert config.namespace == (namespace or "clearml")
    assert (config.max_pods, config.create_queues) == (max_pods, create)
    assert credentials.secret_name == secret
    assert (credentials.access_key_key, credentials.secret_key_key) == (
        keys or ("agentk8sglue_key", "agentk8sglue_secret")
    )
    assert (conf_secret.name if conf_secret else None) == conf
    assert (config.release_name, config.fullname) == (name or "clearml-k8s", name or "clearml-k8s")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--max-pods", "0"), "--max-pods: found 0; expected at least 1"),
        (("--max-pods", "many"), "--max-pods"),
        (("--namespace", "My Namespace"), "--namespace: found "),
        (("--credentials-keys", "a,b,c"), "--credentials-keys: found 3 words; expected two keys"),
        (("--git-pass", CANARY), "--git-pass"),
        (("--max-pod", "3"), "did you mean --max-pods?"),
        ((f"-p{CANARY}",), "-p"),
        ((CANARY,), "1 word that belongs to no flag"),
    ],
)
def test_a_mistake_is_told_with_its_flag(words: tuple[str, ...], named: str) -> None:
    ran = run((*ENOUGH, *words))
    assert (ran.code, ran.config) == (cli.EXIT_USAGE, None)
    assert named in message(ran)
    assert CANARY not in ran.told


def test_what_the_environment_gives_is_told_by_its_name() -> None:
    said = message(run(ENOUGH, CLEARML_DOCKER_IMAGE=" "))
    assert "CLEARML_DOCKER_IMAGE" in said


@pytest.fixture(scope="module", autouse=True)
def _no_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Values may be read as paths of files that are there by chance."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(before)
