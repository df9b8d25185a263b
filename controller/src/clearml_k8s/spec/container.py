"""What a task says of its container as text: image, words of docker arguments, environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from clearml_k8s import errors
from clearml_k8s.spec.expansion import literal
from clearml_k8s.spec.ignored import Ignored

MAX_ENV_BYTES = 128 * 1024 - 1
"""Linux takes no longer `NAME=value` string (MAX_ARG_STRLEN, with its final zero byte)."""

MAX_TEXT = 256 * 1024
"""Characters of docker arguments, and of an image with its arguments; all of it must fit into one Job."""

MAX_IMAGE = 1000
"""Characters of an image reference: name, tag and digest have limits of their own that are less together."""

_DOMAIN = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_DOMAIN}(?:\.{_DOMAIN})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
"""Grammar of image references (github.com/distribution/reference)."""

_URL_LOGIN = re.compile(r"(://)[^/\s]*@")
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*", re.ASCII)
_USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)


class DockerEnv:
    """Collects the variables of `-e` and `--env`; names in ``reserved`` are the controller's own, those in ``kept`` the
    template's."""

    def __init__(self, *, reserved: frozenset[str], kept: frozenset[str] = frozenset()) -> None:
        self._why = dict.fromkeys(kept, "the queue's template uses it in a subPathExpr")
        self._why |= dict.fromkeys(reserved, "set by the controller")
        self.found: dict[str, str] = {}
        """The last value of each name, in the order of the last ones."""

    def take(self, setting: str | None) -> list[Ignored]:
        """``setting``: NAME=VALUE; what is no setting is told. None: the option stood at the end."""
        setting = setting or ""
        why = _take(setting, env=self.found, taken=self._why)
        return [Ignored(source="task", argument=f"-e {_name_of(setting)}", why=why)] if why else []


def split_image(text: str) -> tuple[str, list[str]]:
    """A task's image field -> (image, arguments): old clients write `image -e A=B` into it. Empty text: ("", [])."""
    words = _split(text, what="container image")
    return (words[0], words[1:]) if words else ("", [])


def check_image(image: str, *, setting: str) -> str:
    """`image` without surrounding blanks. Raises `errors.SpecError` naming `setting` if no registry could have it."""
    image = image.strip()
    match = _IMAGE.fullmatch(image) if len(image) <= MAX_IMAGE else None
    if match is None or len(match["name"]) > 255:
        shown = _URL_LOGIN.sub(r"\1***@", image[:1000])
        raise errors.SpecError(
            f"{setting}: found {shown[:200]!r}; expected an image reference such as python:3.11 or "
            "registry.example.com:5000/team/image:tag (lower-case name, no spaces, no https://)"
        )
    return image


def docker_words(arguments: str) -> list[str]:
    """A task's docker arguments, a shell-quoted text. Raises `errors.SpecError` when its quotes do not match."""
    return _split(arguments, what="container arguments")


def env_entries(env: Mapping[str, str]) -> list[dict[str, str]]:
    """Literal variables as Kubernetes wants them. Raises `errors.SpecError` for a value longer than Linux allows."""
    for name, value in env.items():
        size = len(f"{name}={value}".encode(errors="replace"))
        if size > MAX_ENV_BYTES:
            raise errors.SpecError(f"environment variable {name}: {size} bytes; at most {MAX_ENV_BYTES} are possible")
    return [{"name": name, "value": literal(value)} for name, value in env.items()]


def _take(setting: str, *, env: dict[str, str], taken: Mapping[str, str]) -> str | None:
    """Puts NAME=VALUE into `env`; the reason if that cannot be."""
    name, equals, value = setting.partition("=")
    if not equals:
        return "no value is given (docker would take it from the machine it runs on); write NAME=VALUE"
    if name in taken:
        return taken[name]
    if not _ENV_NAME.fullmatch(name):
        return "Kubernetes takes letters, digits, '_', '-' and '.' in names, and no digit first"
    if name == "." or name.startswith(".."):
        return "Kubernetes takes neither '.' as a name nor '..' at its beginning"
    if "\0" in value:
        return "its value holds a zero byte"
    env.pop(name, None)
    env[name] = value
    return None


def _name_of(setting: str) -> str:
    # Without "=" the text may be a value that lost its name in wrong quoting: only what looks like a name is shown.
    name, equals, _ = setting.partition("=")
    shown = _ENV_NAME if equals else _USUAL_NAME
    return name if shown.fullmatch(name) else "(not a name)"


def _split(text: str, *, what: str) -> list[str]:
    if len(text) > MAX_TEXT:
        # Looked at first: taking such a text apart would stop all else for many seconds.
        raise errors.SpecError(f"{what}: {len(text)} characters; at most {MAX_TEXT} are possible")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise errors.SpecError(f"{what}: quotes do not match ({error})") from None
