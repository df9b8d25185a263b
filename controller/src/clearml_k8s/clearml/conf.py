"""Credentials and hosts of the ClearML server, from where users of clearml-agent keep them.

Order: the folder named by ``CLEARML_K8S_CREDENTIALS_DIR``, the environment, the file named by ``CLEARML_CONFIG_FILE``,
then ``~/clearml.conf`` (section ``api``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clearml_k8s import hocon, names
from clearml_k8s.clearml import keys
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.errors import ConfigError, trimmed

_FALSE: Final = frozenset({"0", "false", "no", "off", ""})
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_CA_BUNDLE: Final = "REQUESTS_CA_BUNDLE"  # what the SDK and the agent read; SSL_CERT_FILE is OpenSSL's own


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosts:
    """The server's addresses, None where nothing was set; ``verify_certificate`` as in `Credentials`."""

    api_server: str | None = None
    web_server: str | None = None
    file_server: str | None = None
    verify_certificate: bool | str | None = None


def load(*, environ: Mapping[str, str], home: Path | None = None) -> Credentials:
    """Read the credentials (``environ`` is usually ``os.environ``).

    Raises ConfigError that names the places looked at, when the key pair is missing, half given, or the file is bad.
    """
    file, section = _file_section(environ, home or Path.home())
    verify = _verification(environ, file, section)
    if mounted := environ.get(names.ENV_CREDENTIALS_DIR, "").strip():
        folder = Path(mounted)
        access, secret = keys.read(folder)
        return Credentials(
            access_key=access,
            secret_key=secret,
            source=f"the files in {folder}",
            folder=folder,
            verify_certificate=verify,
        )
    stored = section.get("credentials")
    stored = stored if isinstance(stored, Mapping) else {}
    access = environ.get(names.ENV_ACCESS_KEY, "").strip()
    secret = environ.get(names.ENV_SECRET_KEY, "").strip()
    if access or secret:
        source = f"environment {names.ENV_ACCESS_KEY} and {names.ENV_SECRET_KEY}"
        if not (access and secret):
            missing = names.ENV_SECRET_KEY if access else names.ENV_ACCESS_KEY
            raise ConfigError(f"{missing} is not set, but its partner is: set both")
    else:
        access = _text(stored, "access_key")
        secret = _text(stored, "secret_key")
        source = f"api.credentials in {file}"
        if not (access and secret):
            places = f"api.credentials in {file}" if file else "no clearml.conf was found"
            raise ConfigError(
                f"no ClearML credentials: set {names.ENV_ACCESS_KEY} and {names.ENV_SECRET_KEY}, or write "
                f"api.credentials.access_key and .secret_key into clearml.conf (looked at: the environment, {places})"
            )
    keys.sendable(access, secret, source=source)
    return Credentials(access_key=access, secret_key=secret, source=source, verify_certificate=verify)


def load_hosts(*, environ: Mapping[str, str], home: Path | None = None) -> Hosts:
    """Read where the server is, from the places of `load`; needs no credentials. Raises ConfigError for a bad file."""
    file, section = _file_section(environ, home or Path.home())
    return Hosts(
        api_server=environ.get(names.ENV_API_HOST, "").strip() or _text(section, "api_server") or None,
        web_server=environ.get(names.ENV_WEB_HOST, "").strip() or _text(section, "web_server") or None,
        file_server=environ.get(names.ENV_FILES_HOST, "").strip() or _text(section, "files_server") or None,
        verify_certificate=_verification(environ, file, section),
    )


def _verification(environ: Mapping[str, str], file: Path | None, section: Mapping[str, Any]) -> bool | str | None:
    verify: bool | str | None = None
    if names.ENV_VERIFY_CERT in environ:
        verify = _verify(environ[names.ENV_VERIFY_CERT], where=names.ENV_VERIFY_CERT)
    elif "verify_certificate" in section:
        verify = _verify(section["verify_certificate"], where=f"api.verify_certificate in {file}")
    bundle = environ.get(_CA_BUNDLE, "").strip()
    if bundle and verify in (None, True):
        if not _is_file(bundle):
            raise ConfigError(f"{_CA_BUNDLE} names {names.shown(bundle)}, which is no file that can be read")
        verify = bundle
    return verify


def _file_section(environ: Mapping[str, str], home: Path) -> tuple[Path | None, Mapping[str, Any]]:
    path = find(environ, home=home)
    if path is None:
        return None, {}
    api = parse(path).get("api")
    return path, api if isinstance(api, Mapping) else {}


def find(environ: Mapping[str, str], *, home: Path | None = None) -> Path | None:
    """The controller's own ``clearml.conf``; ConfigError when the one that is named is no file."""
    home = home or Path.home()
    named = environ.get(names.ENV_CONFIG_FILE, "").strip()
    if named == os.devnull:  # as the SDK takes it: no file at all
        return None
    if named:
        path = Path(named.replace("~", str(home), 1) if named.startswith("~") else named)
        if not _is_file(path):
            raise ConfigError(f"{names.ENV_CONFIG_FILE} names {names.shown(named)}, which is no file that can be read")
    else:
        path = home / "clearml.conf"
        if not path.is_file():
            return None
    return path


def parse(path: Path) -> dict[str, Any]:
    """A ``clearml.conf`` as plain dictionaries; ConfigError names the file and the position, never the content."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {trimmed(str(error))}") from None
    return hocon.parse(text, source=str(path), folder=path.parent)


def _is_file(path: Path | str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name that is too long, a folder that may not be looked into
        return False


def _text(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key)
    return value.strip() if isinstance(value, str) else ""


def _verify(value: object, *, where: str) -> bool | str:
    if isinstance(value, bool):
        return value
    text = str(value).strip()
    if text.lower() in _FALSE:
        return False
    if text.lower() in _TRUE:
        return True
    if _is_file(text):
        return text
    raise ConfigError(f"{where} is {names.shown(text)}: write true, false, or the path of a CA bundle")
