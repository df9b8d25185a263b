"""What the server is started with, and the constants of the API version it plays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

API_VERSION = (2, 34)
COMMIT = "0b769d4"
COMPANY_ID = "d1bd92a3b039400cbafc60a7a5b1e52b"
COMPANY_NAME = "clearml"
DAY = 24 * 3600
TOKEN_SECONDS = 30 * DAY
MAX_TOKEN_SECONDS = 31536000
MAX_PAGE = 500
# tasks.stop leaves the end to the worker if it has been heard of within this time
TASK_UPDATE_TIMEOUT_SECONDS = 600
WORKER_TIMEOUT_SECONDS = 600
HIDDEN_QUEUE_TAG = "k8s-glue"

Edition = Literal["basic", "enterprise"]
SERVER_VERSIONS: dict[Edition, str] = {"basic": "2.3.0", "enterprise": "3.25.0"}

DEFAULT_PORT = 8008
DEFAULT_ACCESS_KEY = "DEVSERVERACCESSKEY"
DEFAULT_SECRET_KEY = "devserver-secret-key-of-no-value"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``port`` 0 lets the system choose. ``control_port`` None: no second listener."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    control_port: int | None = None
    edition: Edition = "basic"
    access_key: str = DEFAULT_ACCESS_KEY
    secret_key: str = DEFAULT_SECRET_KEY
    role: str = "user"

    @property
    def server_version(self) -> str:
        return SERVER_VERSIONS[self.edition]
