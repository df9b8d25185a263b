"""Credentials in mounted files: read as one, followed when they change, and never shown."""

import logging
from random import Random

import pytest
from clearml_k8s.clearml import conf, keys
from clearml_k8s.clearml.health import State
from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import AuthRefused, ConfigError
from scripted_clearml import ACCESS, SECRET, Reply

OLD = ("OLDKEY", "old-secret-never-shown")


def mount(folder, pair, *, version="1"):
    """Lay the pair out as the kubelet does: a link for each file, through one link that is swapped."""
    data = folder / f"..{version}"
    data.mkdir(parents=True)
    for name, text in zip((keys.ACCESS_KEY_FILE, keys.SECRET_KEY_FILE), pair, strict=True):
        (data / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    new = folder / "..new"
    new.symlink_to(data.name)
    new.replace(folder / "..data")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "credentials"


@pytest.fixture
async def session_of(api, clock, folder):
    """Makes a session with the mounted pair; what it learned to hide is in `learned`."""
    made = []

    def make():
        credentials = conf.load(environ={"CLEARML_K8S_CREDENTIALS_DIR": str(folder)})
        session = Session(
            api_server=api.url, credentials=credentials, clock=clock, random=Random(7), learn=learned.append
        )
        made.append(session)
        return session

    learned = []
    make.learned = learned
    yield make
    for session in made:
        await session.close()


def test_the_folder_comes_before_all_else(folder, tmp_path):
    mount(folder, OLD)
    environ = {
        "CLEARML_K8S_CREDENTIALS_DIR": str(folder),
        "CLEARML_API_ACCESS_KEY": "ENVKEY",
        "CLEARML_API_SECRET_KEY": "env-secret",
        "CLEARML_API_HOST_VERIFY_CERT": "false",
    }
    found = conf.load(environ=environ, home=tmp_path)
    assert (found.access_key, found.secret_key, found.folder) == (*OLD, folder)
    assert found.source == f"the files in {folder}"
    assert found.verify_certificate is False
    assert OLD[1] not in repr(found)


def test_line_ends_are_no_part_of_a_key(folder):
    mount(folder, ("KEY\n", " secret \n"))
    assert keys.read(folder) == ("KEY", "secret")


@pytest.mark.parametrize("name", [keys.ACCESS_KEY_FILE, keys.SECRET_KEY_FILE])
def test_a_missing_or_empty_file_is_named(folder, name):
    mount(folder, OLD)
    (folder / "..1" / name).write_text("\n")
    with pytest.raises(ConfigError, match=f"{name} is empty"):
        keys.read(folder)
    (folder / "..1" / name).unlink()
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        keys.read(folder)
    assert str(folder) in str(caught.value)


def test_both_keys_are_of_one_moment(folder, monkeypatch):
    """The files are swapped after the first one was read."""
    mount(folder, OLD)
    pairs = [OLD]
    read_text = type(folder).read_text

    def swapping(path, **named):
        text = read_text(path, **named)
        if path.name == keys.ACCESS_KEY_FILE and len(pairs) == 1:
            pairs.append(("NEWKEY", "new-secret"))
            mount(folder, pairs[1], version="2")
        return text

    monkeypatch.setattr(type(folder), "read_text", swapping)
    assert keys.read(folder) == OLD
    assert keys.read(folder) == pairs[1]


def test_files_that_are_swapped_and_removed_meanwhile_are_read_again(folder, monkeypatch):
    mount(folder, OLD)
    read_text = type(folder).read_text
    removed = []

    def removing(path, **named):
        if path.name == keys.SECRET_KEY_FILE and not removed:
            removed.append(path)
            mount(folder, ("NEWKEY", "new-secret"), version="2")
            path.unlink()
        return read_text(path, **named)

    monkeypatch.setattr(type(folder), "read_text", removing)
    assert keys.read(folder) == ("NEWKEY", "new-secret")


async def test_changed_files_are_used_within_seconds_while_the_old_token_is_still_good(
    api, clock, folder, session_of, caplog
):
    caplog.set_level(logging.INFO)
    mount(folder, (ACCESS, SECRET))
    session = session_of()
    api.script("queues.get_all", Reply(data={"queues": []}))
    await session.ping()
    mount(folder, OLD, version="2")
    await session.ping()
    assert api.logins == 1, "the files were looked at with every call"
    await clock.advance(keys.LOOK_SECONDS)
    with pytest.raises(AuthRefused):
        await session.ping()
    mount(folder, (ACCESS, SECRET), version="3")
    await session.ping()
    assert api.logins == 2
    assert session_of.learned == [ACCESS, SECRET, *OLD, ACCESS, SECRET]
    assert "credentials have changed" in caplog.text
    assert SECRET not in caplog.text
    assert OLD[1] not in caplog.text


async def test_files_that_change_during_a_login_are_not_forgotten(api, folder, session_of, monkeypatch):
    mount(folder, (ACCESS, SECRET))
    session = session_of()
    api.script("queues.get_all", Reply(data={"queues": []}))
    attempt = session._attempt

    async def and_meanwhile(asked, *words):
        data = await attempt(asked, *words)
        if asked.endpoint == "auth.login":
            mount(folder, OLD, version="2")
            session._keys.follow(now=True)  # another call's look
        return data

    monkeypatch.setattr(session, "_attempt", and_meanwhile)
    await session.ping()
    with pytest.raises(AuthRefused):
        await session.ping()


async def test_a_refusal_makes_it_look_at_once(api, folder, session_of):
    """The old key is revoked, and the new one is mounted already."""
    mount(folder, OLD)
    session = session_of()
    api.script("queues.get_all", Reply(data={"queues": []}))
    with pytest.raises(AuthRefused):
        await session.ping()
    assert session.health.state is State.UNAUTHORIZED
    mount(folder, (ACCESS, SECRET), version="2")
    await session.ping()
    assert session.health.state is State.HEALTHY
    mount(folder, (ACCESS, SECRET), version="3")
    api.revoke()
    await session.ping()
    assert api.logins == 2


async def test_files_that_vanish_change_nothing_and_are_told_once(api, clock, folder, session_of, caplog):
    mount(folder, (ACCESS, SECRET))
    session = session_of()
    api.script("queues.get_all", Reply(data={"queues": []}))
    await session.ping()
    (folder / "..1" / keys.SECRET_KEY_FILE).unlink()
    for _ in range(3):
        await clock.advance(keys.LOOK_SECONDS)
        await session.ping()
    api.revoke()
    await session.ping()
    told = [line for line in caplog.messages if "cannot be read" in line]
    assert len(told) == 1
    assert "those read before are used" in told[0]
