"""The key pair in use; mounted in files, as Kubernetes mounts a Secret, it is followed when it changes."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clearml_k8s.clock import Clock
from clearml_k8s.errors import ConfigError
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

ACCESS_KEY_FILE: Final = "access_key"
SECRET_KEY_FILE: Final = "secret_key"  # noqa: S105 - the name of a file, not a secret
LOOK_SECONDS: Final = 10.0
"""Longest time for which changed files go unseen, while calls are made."""

_DATA: Final = "..data"  # the kubelet swaps this link, so that all files change at one moment
_TRIES: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A key pair and how to verify the server; its repr shows no secret.

    ``source`` says in words where the key pair was found, ``folder`` is where it is mounted, None when it cannot
    change. ``verify_certificate`` is a bool, the path of a CA bundle, or None where nothing was set.
    """

    access_key: str
    secret_key: str = field(repr=False)
    source: str
    folder: Path | None = None
    verify_certificate: bool | str | None = None


def read(folder: Path) -> tuple[str, str]:
    """Access key and secret key of one moment; ConfigError names the file that is missing or empty."""
    for _ in range(_TRIES - 1):
        try:
            return _pair(folder)
        except FileNotFoundError:  # perhaps swapped between the two files
            continue
    try:
        return _pair(folder)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"no ClearML credentials in {folder}: its files {ACCESS_KEY_FILE} and {SECRET_KEY_FILE} cannot be read "
            f"({type(error).__name__})"
        ) from None


def sendable(access: str, secret: str, *, source: str) -> None:
    """ConfigError when they cannot be sent as a login."""
    for what, text in (("access key", access), ("secret key", secret)):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"the {what} in {source} is not valid UTF-8 text") from None


def _pair(folder: Path) -> tuple[str, str]:
    data = folder / _DATA
    place = data.resolve(strict=True) if data.is_symlink() else folder
    found = [(place / name).read_text(encoding="utf-8").strip() for name in (ACCESS_KEY_FILE, SECRET_KEY_FILE)]
    for name, text in zip((ACCESS_KEY_FILE, SECRET_KEY_FILE), found, strict=True):
        if not text:
            raise ConfigError(f"the file {folder / name} is empty: both keys of the ClearML credentials are needed")
    return found[0], found[1]


class Keys:
    """What to log in with, now: ``basic`` is the value of a login's Authorization header."""

    def __init__(self, credentials: Credentials, *, clock: Clock, learn: Callable[[str], None]) -> None:
        """``learn`` is told every key there ever is, so that none is shown."""
        self._clock = clock
        self._learn = learn
        self._folder = credentials.folder
        self._looked = clock.monotonic()
        self._told = ""
        self._use((credentials.access_key, credentials.secret_key))

    def follow(self, *, now: bool = False) -> None:
        """Use the pair that the files hold.

        They are looked at only every `LOOK_SECONDS`, unless ``now``. Files that cannot be read change nothing.
        """
        at = self._clock.monotonic()
        if self._folder is None or not (now or at - self._looked >= LOOK_SECONDS):
            return
        self._looked = at
        try:
            pair = read(self._folder)
        except ConfigError as error:
            if str(error) != self._told:
                log.warning("%s; those read before are used", error)
            self._told = str(error)
            return
        self._told = ""
        if pair != self._pair:
            self._use(pair)
            log.info("ClearML credentials have changed: logging in with the new ones", extra=kv(folder=self._folder))

    def _use(self, pair: tuple[str, str]) -> None:
        self._pair = pair
        self.basic = "Basic " + base64.b64encode(":".join(pair).encode()).decode("ascii")
        for key in pair:
            self._learn(key)
