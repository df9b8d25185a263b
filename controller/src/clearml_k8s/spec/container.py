"""What a task asks for of its container: image, docker arguments, setup script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
_USUAL_FLAG = re.compile(r"--[a-z][a-z0-9-]{0,40}")
_SHORT_SWITCHES = "ditPq"
"""docker run's one-letter options without a value; they may stand before `e`, as in `-ite A=B`."""

_ADVICE: Mapping[str, str] = {
    "--cap-add": "set containerSecurityContext in the queue's template",
    "--cpus": "set resources in the queue's template",
    "--device": "set resources in the queue's template",
    "--entrypoint": "the pod starts clearml-agent; use the task's setup script for preparations",
    "--env-file": "the file is not known here; write its lines as -e NAME=VALUE",
    "--gpus": "set resources.limits (nvidia.com/gpu) in the queue's template",
    "--ipc": "for shared memory mount an emptyDir of medium Memory at /dev/shm in the queue's template",
    "--memory": "set resources in the queue's template",
    "--mount": "set volumes and volumeMounts in the queue's template",
    "--network": "pods have the cluster's network; set dnsPolicy or hostAliases in the queue's template",
    "--privileged": "set containerSecurityContext in the queue's template",
    "--publish": "a pod's ports need no publishing inside the cluster; make a Service for access from outside",
    "--rm": "finished pods are removed by the controller",
    "--runtime": "set runtimeClassName in the queue's template",
    "--shm-size": "mount an emptyDir of medium Memory at /dev/shm in the queue's template",
    "--ulimit": "Kubernetes has no such setting; it is the node's",
    "--user": "set containerSecurityContext (runAsUser) in the queue's template",
    "--volume": "set volumes and volumeMounts in the queue's template",
    "--workdir": "clearml-agent chooses the folder; set the task's working directory",
}
_ALIASES: Mapping[str, str] = {
    "-m": "--memory",
    "-p": "--publish",
    "-u": "--user",
    "-v": "--volume",
    "-w": "--workdir",
    "--net": "--network",
}


@dataclass(frozen=True, kw_only=True)
class DockerArguments:
    """The environment found in docker arguments, last value of a name, and the rest."""

    env: Mapping[str, str]
    ignored: tuple[Ignored, ...]


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


def parse_docker_arguments(arguments: str | Sequence[str], *, reserved: Iterable[str]) -> DockerArguments:
    """The `-e`/`--env` settings among docker arguments; everything else is listed with the reason.

    `arguments` is a shell-quoted text, as the task has it, or a list of words. Names in `reserved` are refused. Raises
    `errors.SpecError` when the text's quotes do not match or a value is longer than Linux allows.
    """
    words = _split(arguments, what="container arguments") if isinstance(arguments, str) else list(arguments)
    reserved_names = frozenset(reserved)
    env: dict[str, str] = {}
    ignored: list[Ignored] = []
    index = 0
    while index < len(words):
        word, index = words[index], index + 1
        setting = _env_setting(word)
        if setting == "" and index < len(words):
            setting, index = words[index], index + 1
        if setting is not None:
            why = _take(setting, env=env, reserved=reserved_names)
            if why:
                ignored.append(_ignored(f"-e {_name_of(setting)}", why))
        elif word.startswith("-") and len(word) > 1:
            flag, equals = _flag_of(word), "=" in word
            # The words after an option up to the next one are its value and are not reported on their own.
            while not equals and index < len(words) and not words[index].startswith("-"):
                index += 1
            ignored.append(_ignored(flag, f"only -e and --env reach a pod; {_advice(flag)}"))
        else:
            why = "it belongs to no option; put values with spaces in quotes"
            ignored.append(_ignored(f"docker argument {index}", why))
    return DockerArguments(env=env, ignored=tuple(ignored))


def env_entries(env: Mapping[str, str]) -> list[dict[str, str]]:
    """Literal variables as Kubernetes wants them. Raises `errors.SpecError` for a value longer than Linux allows."""
    for name, value in env.items():
        size = len(f"{name}={value}".encode(errors="replace"))
        if size > MAX_ENV_BYTES:
            raise errors.SpecError(f"environment variable {name}: {size} bytes; at most {MAX_ENV_BYTES} are possible")
    return [{"name": name, "value": literal(value)} for name, value in env.items()]


def _env_setting(word: str) -> str | None:
    """What stands in `word` after -e or --env; "" if it is in the next word; None if `word` is no such option."""
    if word in ("-e", "--env"):
        return ""
    if word.startswith("--env="):
        return word.removeprefix("--env=")
    short = re.match(rf"-[{_SHORT_SWITCHES}]*e", word)
    return word[short.end() :].removeprefix("=") if short else None


def _take(setting: str, *, env: dict[str, str], reserved: frozenset[str]) -> str | None:
    """Puts NAME=VALUE into `env`; the reason if that cannot be."""
    name, equals, value = setting.partition("=")
    if not equals:
        return "no value is given (docker would take it from the machine it runs on); write NAME=VALUE"
    if name in reserved:
        return "set by the controller"
    if not _ENV_NAME.fullmatch(name):
        return "Kubernetes takes letters, digits, '_', '-' and '.' in names, and no digit first"
    if name == "." or name.startswith(".."):
        return "Kubernetes takes neither '.' as a name nor '..' at its beginning"
    if "\0" in value:
        return "its value holds a zero byte"
    env.pop(name, None)
    env[name] = value
    return None


def _flag_of(word: str) -> str:
    """The option's name; what is no usual one may be a value that lost its option, so only its dash is told."""
    flag = word.partition("=")[0]
    if _USUAL_FLAG.fullmatch(flag):
        return flag
    # A short option may have its value glued to it: -vNAME:/path.
    return flag[:2] if re.fullmatch("-[a-zA-Z]", flag[:2]) else "-(not an option)"


def _name_of(setting: str) -> str:
    # Without "=" the text may be a value that lost its name in wrong quoting: only what looks like a name is shown.
    name, equals, _ = setting.partition("=")
    shown = _ENV_NAME if equals else _USUAL_NAME
    return name if shown.fullmatch(name) else "(not a name)"


def _ignored(argument: str, why: str) -> Ignored:
    return Ignored(source="task", argument=argument, why=why)


def _advice(flag: str) -> str:
    long = _ALIASES.get(flag if flag.startswith("--") else flag[:2], flag)
    return _ADVICE.get(long, "ask the cluster's administrator for a queue with the template you need")


def _split(text: str, *, what: str) -> list[str]:
    if len(text) > MAX_TEXT:
        # Looked at first: taking such a text apart would stop all else for many seconds.
        raise errors.SpecError(f"{what}: {len(text)} characters; at most {MAX_TEXT} are possible")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise errors.SpecError(f"{what}: quotes do not match ({error})") from None
