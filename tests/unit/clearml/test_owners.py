"""Logins in another one's name: what the server must be, and what it must not answer."""

from __future__ import annotations

import pytest
from clearml_k8s.clearml import owners
from clearml_k8s.clearml.session import Session
from clearml_k8s.clearml.token import ServerInfo
from clearml_k8s.errors import ApiUnanswered, OwnerRefused
from scripted_clearml import Api, Reply, jwt

ADMIN = {"feature_set": "enterprise", "api_version": "2.34", "role": "admin"}


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        (ADMIN, ""),
        ({**ADMIN, "role": "system"}, ""),
        ({**ADMIN, "role": ""}, ""),
        ({**ADMIN, "role": "user", "service_account_type": 2}, ""),
        ({**ADMIN, "role": "user", "service_account_type": 1}, "have the role user"),
        ({**ADMIN, "feature_set": "basic"}, "feature set is basic"),
        ({**ADMIN, "feature_set": ""}, "feature set is basic"),
        ({**ADMIN, "api_version": "2.14"}, ""),
        ({**ADMIN, "api_version": "2.9"}, "server's is 2.9"),
        ({**ADMIN, "api_version": ""}, "server's is not known"),
        ({**ADMIN, "api_version": "x.y"}, "server's is x.y"),
    ],
)
def test_what_server_and_account_must_be(claims: dict[str, object], why: str) -> None:
    found = owners.unsuitable(ServerInfo(**claims))  # type: ignore[arg-type]
    if why:
        assert why in found
        assert "leave agentk8sglue.useOwnerToken out" in found
    else:
        assert found == ""


def token(user: str, *, tenant: str | None = "c1") -> Reply:
    more = {} if tenant is None else {"tenant": tenant}
    return Reply(data={"token": jwt(iat=0, exp=100, identity={"user": user, "company": "c1"}, **more)})


async def logged_in(api: Api, session: Session) -> None:
    await session.login()
    api.calls.clear()


async def test_a_server_that_does_not_know_the_header_gives_our_own_token_which_nobody_gets(
    api: Api, session: Session
) -> None:
    await logged_in(api, session)
    api.script("auth.login", token("u1"))
    with pytest.raises(OwnerRefused, match="it gives a token of user u1, not ada"):
        await owners.owner_token(session, user="ada", company="c1")


@pytest.mark.parametrize("tenants", [("c1",), ("c2", "c1"), (None, "c1"), (None, None)])
async def test_the_company_is_the_tasks(api: Api, session: Session, tenants: tuple[str | None, ...]) -> None:
    """A second login asks for it, with the token of the first."""
    await logged_in(api, session)
    api.script("auth.login", *(token("ada", tenant=tenant) for tenant in tenants))
    found = await owners.owner_token(session, user="ada", company="c1")
    assert found.info.user == "ada"
    assert len(api.calls) == len(tenants)
    assert [call.auth == f"Bearer {token('ada', tenant=tenants[0]).data['token']}" for call in api.calls[1:]] == [
        True for _ in tenants[1:]
    ]


async def test_a_token_of_another_company_is_refused(api: Api, session: Session) -> None:
    await logged_in(api, session)
    api.script("auth.login", token("ada", tenant="c2"))
    with pytest.raises(OwnerRefused, match="a token of company c2, not c1"):
        await owners.owner_token(session, user="ada", company="c1")


@pytest.mark.parametrize(("user", "company"), [("", "c1"), ("a b", "c1"), ("a\nb", "c1"), ("ada", "c\r1"), ("ädä", "")])
async def test_ids_that_cannot_be_asked_for(api: Api, session: Session, user: str, company: str) -> None:
    await logged_in(api, session)
    with pytest.raises(OwnerRefused):
        await owners.owner_token(session, user=user, company=company)
    assert api.calls == []


async def test_an_answer_without_a_token_is_no_refusal(api: Api, session: Session) -> None:
    await logged_in(api, session)
    api.script("auth.login", Reply(data={}))
    with pytest.raises(ApiUnanswered):
        await owners.owner_token(session, user="ada", company="c1")


async def test_the_sessions_own_token_stays(api: Api, session: Session) -> None:
    await logged_in(api, session)
    api.script("auth.login", token("ada"))
    await owners.owner_token(session, user="ada", company="c1")
    assert session.info is not None
    assert session.info.user == "u1"
    assert session.health.healthy
