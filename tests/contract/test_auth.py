"""Credentials, tokens, server information: sections 5, 9 and 13 of the API contract."""

from __future__ import annotations

import base64
import time

import pytest

from .client import Client

_MAX_LIFE = 31536000


def test_every_endpoint_wants_credentials(api: Client) -> None:
    assert api.request("POST", "queues.get_all").code == "401/20"
    assert api.request("POST", "server.info").code == "401/20"


def test_basic_and_bearer_are_the_known_schemes(api: Client) -> None:
    assert api.request("POST", "queues.get_all", headers=api.basic()).code == "200/0"
    assert api.request("POST", "queues.get_all", headers={"Authorization": "Digest abc"}).code == "401/10"


@pytest.mark.parametrize("endpoint", ["auth.login", "queues.get_all"])
def test_bad_credentials(api: Client, endpoint: str) -> None:
    for pair in (f"{api.access_key}:wrong", "nobody:wrong"):
        value = base64.b64encode(pair.encode()).decode()
        assert api.request("POST", endpoint, headers={"Authorization": f"Basic {value}"}).code == "401/22"
    assert api.request("POST", endpoint, headers={"Authorization": "Basic %%%"}).code == "401/22"


def test_a_malformed_token(api: Client) -> None:
    assert api.request("POST", "queues.get_all", headers=api.bearer("no.real.token")).code == "401/30"
    head, _, signature = api.token.rpartition(".")
    forged = f"{head}.{'A' * len(signature)}"
    assert api.request("POST", "queues.get_all", headers=api.bearer(forged)).code == "401/30"


def test_the_claims_of_a_token(api: Client) -> None:
    claims = api.claims()
    assert {"identity", "iat", "exp", "session_id", "api_version", "server_version", "feature_set"} <= set(claims)
    assert {"user", "company", "role"} <= set(claims["identity"])
    assert claims["exp"] - claims["iat"] == 30 * 24 * 3600
    assert tuple(map(int, claims["api_version"].split("."))) >= (2, 24)


def test_a_token_dies_when_it_says(api: Client) -> None:
    answer = api.request(
        "POST", "auth.login", body=b'{"expiration_sec": 2}', headers={**api.basic(), "Content-Type": "application/json"}
    )
    token = answer.data["token"]
    claims = api.claims(token)
    assert claims["exp"] - claims["iat"] == 2
    end = time.monotonic() + 20
    while (answer := api.request("POST", "queues.get_default", headers=api.bearer(token))).status == 200:
        assert time.monotonic() < end, "the token outlived its expiry"
        time.sleep(0.2)
    assert answer.code == "401/30"
    assert "Signature has expired" in answer.meta["result_msg"]


def test_the_longest_life_of_a_token(api: Client) -> None:
    claims = api.claims(api.ok("auth.login", expiration_sec=_MAX_LIFE)["token"])
    assert claims["exp"] - claims["iat"] == _MAX_LIFE
    assert api.code("auth.login", expiration_sec=_MAX_LIFE + 1) == "400/12"


def test_server_info_by_version(api: Client) -> None:
    info = api.ok("server.info")
    assert {"version", "build", "commit", "api_version"} <= set(info)
    assert "feature_set" not in info
    assert "api_version" not in api.ok("server.info", version="2.11")
    assert "uid" in api.ok("server.info", version="2.8")
    assert "uid" not in api.ok("server.info", version="2.12")


def test_role_user_may_not_read_the_configuration(api: Client) -> None:
    role = api.claims()["identity"]["role"]
    assert api.code("server.config") == ("403/20" if role == "user" else "200/0")


def test_the_current_user_is_the_one_of_the_token(api: Client) -> None:
    user = api.ok("users.get_current_user")["user"]
    assert user["id"] == api.claims()["identity"]["user"]


def test_credentials_can_be_made_used_and_revoked(api: Client) -> None:
    made = api.ok("auth.create_credentials")["credentials"]
    other = Client(api.url, made["access_key"], made["secret_key"])
    assert other.claims()["identity"]["user"] == api.claims()["identity"]["user"]
    keys = [found["access_key"] for found in api.ok("auth.get_credentials")["credentials"]]
    assert made["access_key"] in keys
    assert api.ok("auth.revoke_credentials", access_key=made["access_key"]) == {"revoked": 1}
    assert api.request("POST", "auth.login", headers=other.basic()).code == "401/22"
