"""Paths, versions, bodies, envelope: sections 4 and 9 of the API contract."""

from __future__ import annotations

import json
import urllib.parse

import pytest

from .client import Client
from .conftest import Maker


def test_ping_needs_no_authentication(api: Client) -> None:
    answer = api.request("POST", "debug.ping")
    assert answer.code == "200/0"
    assert {"id", "trx", "endpoint", "result_code", "result_subcode", "result_msg"} <= set(answer.meta)
    assert answer.meta["endpoint"]["name"] == "debug.ping"


@pytest.mark.parametrize("path", ["queues.get_all", "v2.5/queues.get_all", "v2.34/queues.get_all"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_endpoint_is_found_with_and_without_version(api: Client, path: str, method: str) -> None:
    assert api.request(method, path, headers=api.bearer()).code == "200/0"


@pytest.mark.parametrize("name", ["queues.no_such_action", "nothing.at_all"])
def test_an_unknown_endpoint_is_404_before_authentication(api: Client, name: str) -> None:
    answer = api.request("POST", name)
    assert answer.code == "404/0"
    assert f"Unable to find endpoint for name {name}" in answer.meta["result_msg"]


def test_an_endpoint_newer_than_the_version_in_the_path_is_404(api: Client) -> None:
    assert api.code("queues.get_all", version="1.0") == "404/0"
    assert api.code("queues.peek_task", version="2.14", queue="none") == "404/0"
    assert api.code("queues.peek_task", version="2.15", queue="none") == "400/701"


def test_a_path_without_a_dot_is_400(api: Client) -> None:
    assert api.request("POST", "queues", headers=api.bearer()).code == "400/0"


def test_a_body_that_is_not_json_is_400(api: Client) -> None:
    headers = {**api.bearer(), "Content-Type": "application/json"}
    assert api.request("POST", "queues.get_all", body=b"{not json", headers=headers).code == "400/0"


def test_get_takes_a_json_body_or_a_query_string(api: Client, make: Maker) -> None:
    queue = make.queue()
    query = urllib.parse.urlencode({"queue": queue})
    assert api.request("GET", f"queues.get_by_id?{query}", headers=api.bearer()).data["queue"]["id"] == queue
    headers = {**api.bearer(), "Content-Type": "application/json"}
    body = json.dumps({"queue": queue}).encode()
    assert api.request("GET", "queues.get_by_id", body=body, headers=headers).data["queue"]["id"] == queue


def test_missing_and_ill_typed_fields_are_400_12(api: Client) -> None:
    assert api.code("queues.get_by_id") == "400/12"
    assert api.code("queues.get_by_id", queue=5) == "400/12"
    assert api.code("tasks.get_by_id") == "400/12"
    assert api.code("queues.create") == "400/12"


def test_unknown_fields_are_ignored(api: Client, make: Maker) -> None:
    assert api.ok("queues.get_next_task", queue=make.queue(), no_such_field="x") == {}
