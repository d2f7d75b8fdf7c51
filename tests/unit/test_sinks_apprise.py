"""Incidents to people by apprise, against real receivers on loopback: HTTP (JSON and form) and SMTP."""

import asyncio
import logging
import socket
import threading
from urllib.parse import parse_qs

import msgspec
import pytest

from agent_broker.audit.sinks.apprise import apprise_sinks, message_of
from agent_broker.audit.sinks.private_file import private_lines
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from tests.fakes.ports import free_port
from tests.fakes.posts import Service
from tests.fakes.receivers import QUICK, World, a_full_incident, an_incident


@pytest.fixture
def service():
    made = Service()
    yield made
    made.end()


def file_of(folder, *urls, mode=0o600):
    path = folder / "urls"
    path.write_text("# where to\n" + "\n".join(urls) + "\n")
    path.chmod(mode)
    return path


async def test_json_arrives_with_what_to_do_next(tmp_path, service):
    (sink,) = apprise_sinks(file_of(tmp_path, f"json://127.0.0.1:{service.port}/hook"), "info")
    incident = a_full_incident()
    await sink.deliver(incident, 1)
    ((path, _, body),) = service.posts
    post = msgspec.json.decode(body)
    assert path == "/hook"
    assert (post["title"], post["type"]) == ("agent-broker, critical: decoy opened", "failure")
    assert "next: look at it" in post["message"]
    assert incident.id in post["message"]


async def test_another_scheme_a_form_with_a_password(tmp_path, service):
    (sink,) = apprise_sinks(file_of(tmp_path, f"form://user:hunter2@127.0.0.1:{service.port}/"), "info")
    await sink.deliver(an_incident(3), 1)
    ((_, headers, body),) = service.posts
    assert headers["Authorization"].startswith("Basic ")
    assert "incident 3" in parse_qs(body.decode())["message"][0]


async def test_mail_arrives_at_an_smtp_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mails = []
        thread = threading.Thread(target=serve_one_mail, args=(listener, mails))
        thread.start()
        port = listener.getsockname()[1]
        (sink,) = apprise_sinks(
            file_of(tmp_path, f"mailto://127.0.0.1:{port}/?from=broker@example.org&to=ops@example.org&format=text"),
            "info",
        )
        await sink.deliver(an_incident(4), 1)
        thread.join()
    assert "Subject: agent-broker, critical: decoy opened" in mails[0]
    assert "incident 4" in mails[0]


def serve_one_mail(listener, mails):
    """As much of RFC 5321 as one mail needs."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb", buffering=0) as stream:
        stream.write(b"220 here\r\n")
        while line := stream.readline():
            word = line.split()[0].upper()
            if word == b"DATA":
                stream.write(b"354 go\r\n")
                text = b""
                while (each := stream.readline()) != b".\r\n":
                    text += each
                mails.append(text.decode())
            stream.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")


async def test_a_service_that_was_down_gets_all_of_them_in_order(tmp_path, service, caplog):
    caplog.set_level(logging.DEBUG)
    service.status = 500
    sinks = apprise_sinks(file_of(tmp_path, f"json://user:hunter2@127.0.0.1:{service.port}/hunter2"), "info")
    world = World(tmp_path)
    async with world.delivering(*sinks) as dispatch:
        await world.record(0, 20)
        while len(service.posts) < 3:
            await asyncio.sleep(0.01)
        assert dispatch.status()[0].last_error == "the service did not take the message"
        service.status, service.posts[:] = 200, []
        while dispatch.status()[0].backlog:
            await asyncio.sleep(0.01)
        told = str(dispatch.status())
    world.log.close()
    messages = [msgspec.json.decode(body)["message"].splitlines()[0] for _, _, body in service.posts]
    assert list(dict.fromkeys(messages)) == [f"incident {number}" for number in range(20)]
    assert "hunter2" not in caplog.text + told + repr(sinks)


async def test_one_that_hangs_holds_up_neither_records_nor_another_address(tmp_path, service):
    other = Service()
    sinks = apprise_sinks(
        file_of(tmp_path, f"json://127.0.0.1:{service.port}/?rto=600", f"json://127.0.0.1:{other.port}/"), "info"
    )
    assert [sink.name for sink in sinks] == ["apprise-1", "apprise-2"]
    service.gate.clear()
    world = World(tmp_path)
    async with world.delivering(*sinks, pace=msgspec.structs.replace(QUICK, timeout_s=0.05)) as dispatch:
        await world.record(0, 5)
        while len(other.posts) < 5:
            await asyncio.sleep(0.01)
        while dispatch.status()[0].last_error != "an earlier message still hangs":
            await asyncio.sleep(0.01)
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("sink apprise-1") == 1, "one that hangs is not joined by others"
        service.gate.set()
        while dispatch.status()[0].backlog:
            await asyncio.sleep(0.01)
    world.log.close()
    other.end()
    messages = [msgspec.json.decode(body)["message"].splitlines()[0] for _, _, body in service.posts]
    assert messages == [f"incident {number}" for number in range(5)], "the late one counts: nothing comes twice"


async def test_people_are_told_again_only_when_it_grew_worse(tmp_path, service):
    (sink,) = apprise_sinks(file_of(tmp_path, f"json://127.0.0.1:{service.port}/"), "info")
    incident = an_incident(0, "warning")
    await sink.deliver(incident, 1)
    await sink.deliver(msgspec.structs.replace(incident, revision=1, count=50), 2)
    await sink.deliver(msgspec.structs.replace(incident, revision=2, severity="critical"), 3)
    assert [msgspec.json.decode(body)["type"] for _, _, body in service.posts] == ["warning", "failure"]


async def test_nobody_there_is_not_now(tmp_path):
    (sink,) = apprise_sinks(file_of(tmp_path, f"json://127.0.0.1:{free_port()}/"), "info")
    with pytest.raises(UnavailableError, match="did not take"):
        await sink.deliver(an_incident(), 1)


def test_an_unknown_address_is_named_by_its_line(tmp_path):
    with pytest.raises(MisuseError, match=r"urls:3: this line is not an address") as raised:
        apprise_sinks(file_of(tmp_path, "json://127.0.0.1:1/", "nothing://hunter2"), "info")
    assert "hunter2" not in raised.value.explain()


def test_no_address_or_too_many(tmp_path):
    for urls in ((), ["json://127.0.0.1/"] * 17):
        with pytest.raises(MisuseError, match="must hold 1 to 16 addresses"):
            apprise_sinks(file_of(tmp_path, *urls), "info")


def test_a_file_that_others_can_read_or_that_is_a_link_is_refused(tmp_path):
    path = file_of(tmp_path, "json://127.0.0.1/", mode=0o640)
    with pytest.raises(IntegrityError, match="others than root can read it"):
        apprise_sinks(path, "info")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(MisuseError, match="can't be read"):
        private_lines(tmp_path / "link", "key")
    with pytest.raises(MisuseError, match=r"key: .* can't be read"):
        private_lines(tmp_path / "none", "key")


def test_the_text_is_short_and_plain():
    long = "/" + "x" * 100_000
    message = message_of(an_incident(path=long, next_step=long, agent=long))
    assert len(message["body"]) < 2_000
    assert message["body_format"] == "text"
    assert message["body"].splitlines()[-1].startswith("agent-broker alert show ")
