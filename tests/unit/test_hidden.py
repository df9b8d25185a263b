"""What is taken for a secret by its name, and what is not."""

from __future__ import annotations

import time

import pytest
from clearml_k8s.hidden import MOST, hiding, is_secret, without_secrets
from clearml_k8s.logs import REDACTED
from hostile import BOUNDED, CHARACTERS
from hypothesis import given
from hypothesis import strategies as st

SECRETS = (
    *("CLEARML_API_SECRET_KEY", "CLEARML_AGENT_GIT_PASS", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    *("AZURE_STORAGE_KEY", "CLEARML_AUTH_TOKEN", "HF_TOKEN", "GITHUBTOKEN", "dbPassword", "db.password", "api-key"),
    *("WANDB_API_KEY", "PGPASSWORD", "GOOGLE_APPLICATION_CREDENTIALS", "TOKEN", "my_secret_2"),
)
ORDINARY = (
    *(
        "TOKENIZERS_PARALLELISM",
        "MAX_TOKENS",
        "PWD",
        "OLDPWD",
        "PATH",
        "BYPASS",
        "PASSTHROUGH",
        "KEYBOARD",
        "KEY_COUNT",
    ),
    *("CLEARML_K8S_TASK_ID", "HOME", "COMPASS", "SECRETARY"),
)


def test_names() -> None:
    assert [name for name in SECRETS if not is_secret(name)] == []
    assert [name for name in ORDINARY if is_secret(name)] == []


@pytest.mark.parametrize(
    "line",
    [
        "HF_TOKEN=c4n4ry with blanks",
        "export HF_TOKEN='c4n4ry'",
        'declare -x HF_TOKEN="c4n4ry\\"x"',
        "+ HF_TOKEN=c4n4ry",
        "++ export HF_TOKEN=c4n4ry",
        "environ({'HOME': '/root', 'HF_TOKEN': 'c4n4ry', 'LANG': 'C'})",
        '{"password": "c4n4ry", "user": "me"}',
        "hf_token: c4n4ry",
        "  - password: c4n4ry with blanks",
        "with password: 'c4n4ry'",
        "run --password=c4n4ry --user me",
        "git clone https://me:c4n4ry@example.com/x.git",
    ],
)
def test_a_value_behind_a_name_is_blanked(line: str) -> None:
    shown = without_secrets(f"before\n{line}\nafter")
    assert "c4n4ry" not in shown
    assert REDACTED in shown
    assert shown.startswith("before\n")
    assert shown.endswith("\nafter")


@pytest.mark.parametrize(
    "text",
    [
        "PWD=/root/.clearml/venvs",
        "TOKENIZERS_PARALLELISM=false",
        "RuntimeError: the tokens do not fit: 12 passed",
        "https://example.com:8080/a@b",
        "failed to fetch anonymous token: unexpected status from GET request: 401 Unauthorized",
        'File "x.py", line 3, in load_token',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_values_are_known_wherever_they_stand() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----"
    hide = hiding(
        [
            ("TOKEN", "c4n4ry-1"),
            ("CLEARML_K8S_SETUP_SCRIPT", "set -e\nexport API_KEY='c4n4ry-2'\nlogin --password=c4n4ry-3 --user me\n"),
            ("DATABASE", "postgres://me:c4n4ry-4@db/x"),
            ("SSH_PRIVATE_KEY", key),
            ("DEBUG_TOKEN", "false"),
            ("PLAIN", "ordinary"),
        ]
    )
    text = "c4n4ry-1 c4n4ry-2 c4n4ry-3 c4n4ry-4 kqhkiG9w0BAQEF false ordinary"
    assert hide(text) == f"{REDACTED} {REDACTED} {REDACTED} {REDACTED} {REDACTED} false ordinary"
    assert hide(f"in one piece: {key!r}") == f"in one piece: '{REDACTED}'"


def test_a_script_with_very_many_does_not_stop_all_else() -> None:
    """Each known one is looked for in all that is shown."""
    script = "\n".join(f"TOKEN_{n}=value-{n}" for n in range(20_000))
    hide = hiding([("SCRIPT", script)])
    assert hide("value-0") == REDACTED
    assert len(hide._secrets) <= 4 * MOST


@BOUNDED
@given(st.text(CHARACTERS, max_size=200))
def test_any_text_is_taken(text: str) -> None:
    without_secrets(text)
    hiding([("TOKEN", text), (text, "value"), ("SCRIPT", text)])(text)


@pytest.mark.parametrize(
    "piece",
    [
        "token_",
        "token",
        "token.",
        "://a:",
        "://a:b",
        "+",
        "+ ",
        " ",
        "TOKEN=",
        "'",
        '"\\',
        "export ",
        "a_",
        "pass:",
        "- ",
        "token: ",
    ],
)
def test_no_text_makes_it_slow(piece: str) -> None:
    """Time grows as the text does: four times the text takes far less than sixteen times as long."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.process_time()
        without_secrets(text)
        return time.process_time() - began

    small, large = min(seconds(16_000) for _ in range(3)), min(seconds(128_000) for _ in range(3))
    assert large < 24 * small + 0.02
