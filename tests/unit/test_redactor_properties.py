"""A secret that the controller knows is in no line of its log, however it is written there."""

import base64
import json
import logging
from urllib.parse import quote

import pytest
from clearml_k8s.logs import JsonFormatter, PlainFormatter, Redactor, kv
from hostile import BOUNDED, CHARACTERS
from hypothesis import example, given
from hypothesis import strategies as st

WAYS = {
    "raw": str,
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "Python": lambda secret: repr(secret)[1:-1],
    "URL": lambda secret: quote(secret, safe="", errors="replace"),
    "base64": lambda secret: base64.b64encode(secret.encode(errors="replace")).decode(),
    "base64 of URLs": lambda secret: base64.urlsafe_b64encode(secret.encode(errors="replace")).decode().rstrip("="),
}


@pytest.mark.parametrize("formatter", [PlainFormatter, JsonFormatter])
@pytest.mark.parametrize("way", WAYS)
@BOUNDED
@given(secret=st.text(CHARACTERS, min_size=8, max_size=40))
@example(secret='quo"te\\back slash')
@example(secret="new\nline'and tab\t")
@example(secret="Ünïcödé/+=&%任务")
def test_no_way_of_writing_a_secret_is_logged(formatter, way, secret):
    written = WAYS[way](secret)
    text = f"<<{written}>>"
    record = logging.LogRecord("n", logging.INFO, "f", 1, "%s", (text,), None)
    record.kv = kv(why=text, number=5)["kv"]

    line = formatter(Redactor([secret])).format(record)

    assert written not in line
    if formatter is JsonFormatter:
        assert written not in json.dumps(json.loads(line), ensure_ascii=False)
        assert json.loads(line)["message"] == "<<********>>"
    else:
        assert line.endswith('<<********>> why="<<********>>" number=5')
