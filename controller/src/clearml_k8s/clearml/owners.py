"""Tokens of the users whose tasks are run: a login in another one's name.

As clearml-agent does it with `--use-owner-token` (`Worker.get_task_session`): servers other than the open-source one
give such a token to administrators and service accounts.
"""

from __future__ import annotations

from typing import Final

from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.token import LOGIN, ServerInfo, Token
from clearml_k8s.errors import OwnerRefused

HEADER_USER: Final = "X-Clearml-Impersonate-As"
HEADER_TENANT: Final = "X-Clearml-Tenant"

MIN_API: Final = (2, 14)
ROLES: Final = ("admin", "root", "system")
SERVICE_ACCOUNT: Final = 2
"""From this type on a service account may do what an administrator may."""

INSTEAD: Final = (
    "leave agentk8sglue.useOwnerToken out, and name what task pods log in with in clearml.taskCredentials, if that is "
    "not to be the controller's own key pair"
)


def unsuitable(info: ServerInfo) -> str:
    """Why whoever has this token gets none of other users, and what to write instead; "" when it may."""
    if info.basic:
        return (
            f"owner tokens are a part of ClearML's Enterprise server, and this one's feature set is "
            f"{info.feature_set or 'basic'}: {INSTEAD}"
        )
    if _version(info.api_version) < MIN_API:
        return f"owner tokens need API 2.14, and this server's is {info.api_version or 'not known'}: {INSTEAD}"
    if info.role and info.role not in ROLES and info.service_account_type < SERVICE_ACCOUNT:
        return (
            f"the controller's credentials have the role {info.role}, and only an administrator's or a service "
            f"account's get owner tokens: give it such a pair, in clearml.existingAgentk8sglueSecret, or {INSTEAD}"
        )
    return ""


async def owner_token(session: Session, *, user: str, company: str, deadline: float | None = None) -> Token:
    """A token of this user in this company ("": whichever the user's is). It changes nothing on the server.

    Raises as `Session.call`; OwnerRefused where what was given is not this user's, which nothing of his may run with.
    """
    for what, text in (("user", user), ("company", company)):
        if text and not (text.isascii() and text.isprintable() and " " not in text):
            raise OwnerRefused(LOGIN, 400, 0, f"the id of its {what} fits into no HTTP header")
    if not user:
        raise OwnerRefused(LOGIN, 400, 0, "the server does not say whose task it is")
    token = await session.login_with({HEADER_USER: user}, deadline=deadline)
    _belongs(token, user)
    if company and token.info.tenant != company:
        token = await session.login_with({HEADER_TENANT: company}, bearer=token, deadline=deadline)
        _belongs(token, user)
        if (found := token.info.tenant or token.info.company) != company:
            raise OwnerRefused(LOGIN, 200, 0, f"it gives a token of company {found or 'unknown'}, not {company}")
    return token


def _belongs(token: Token, user: str) -> None:
    # A server that does not know the header answers with a token of the controller's own account.
    if token.info.user != user:
        raise OwnerRefused(LOGIN, 200, 0, f"it gives a token of user {token.info.user or 'unknown'}, not {user}")


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isascii() and part.isdecimal() for part in parts) else ()
