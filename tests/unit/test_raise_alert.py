"""What the broker does when an incident comes in, and comes in again."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.daemon.completion import Completion
from agent_broker.daemon.parts import Parts
from agent_broker.ids import Epoch
from agent_broker.monitor.incident import new_incident
from agent_broker.vault.secret import Secret
from tests.fakes.lineage_records import a_lineage

EPOCH = Epoch("e")


@pytest.fixture
async def parts():
    root = Path(tempfile.mkdtemp(prefix="parts-", dir="/tmp"))
    layout = Layout(root)
    for folder in (layout.vault_file.parent, layout.registry_folder, layout.policy_folder, layout.frozen_file.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    parts = Parts(layout, Config(), Secret(b"k" * 32))
    yield parts
    await parts.close()
    shutil.rmtree(root)


def incident(severity="critical", offenders=(7, 8)):
    return new_incident(
        kind="decoy-opened", time_ns=1, severity=severity, what="x opened it", tier="t", action="served-decoy",
        lineage=a_lineage(7, 8), epoch=EPOCH, offenders=offenders,
    )  # fmt: skip


def revision(first, number, **changes):
    return msgspec.structs.replace(first, revision=number, **changes)


def frozen(parts):
    return {each for freeze in parts.frozen.list() for each in freeze.proc_ids}


async def test_an_incident_that_turned_critical_freezes_then(parts):
    first = incident("warning")
    await parts.raise_alert(first)
    assert frozen(parts) == set()

    await parts.raise_alert(revision(first, 1, severity="critical"))

    assert frozen(parts) == {7, 8}


async def test_a_repeat_does_not_freeze_again_whom_the_operator_thawed(parts):
    first = incident()
    await parts.raise_alert(first)
    parts.frozen.thaw_all()

    await parts.raise_alert(revision(first, 1))

    assert frozen(parts) == set()


async def test_the_monitor_is_asked_again_for_an_incident_that_got_worse_and_for_no_other_revision(parts):
    class Monitor:
        def __init__(self):
            self.asked = []

        async def complete(self, incident):
            self.asked.append(incident.severity)
            return msgspec.structs.replace(incident, response=f"done to a {incident.severity}")

    monitor = Monitor()
    completion = Completion(monitor)
    first = incident("warning")
    told = [await completion.of(revision(first, number, severity=each)) for number, each in enumerate(
        ("warning", "warning", "critical", "critical"),
    )]  # fmt: skip

    assert monitor.asked == ["warning", "critical"]
    assert [each.response for each in told] == ["done to a warning"] * 2 + ["done to a critical"] * 2


@pytest.mark.parametrize("way", ["raise_alert", "take"])
async def test_an_alert_is_in_work_until_it_is_stored(parts, monkeypatch, way):
    stores, may_store, store = asyncio.Event(), asyncio.Event(), parts.alerts.record

    async def store_slowly(incident):
        stores.set()
        await may_store.wait()
        await store(incident)

    monkeypatch.setattr(parts.alerts, "record", store_slowly)
    assert parts.incidents_in_work == 0
    storing = asyncio.create_task(getattr(parts, way)(incident()))
    await stores.wait()
    assert parts.incidents_in_work == 1
    may_store.set()
    await storing
    assert parts.incidents_in_work == 0


async def test_a_repeat_freezes_who_is_new_in_it(parts):
    first = incident()
    await parts.raise_alert(first)
    parts.frozen.thaw_all()

    await parts.raise_alert(revision(first, 1, offenders=(7, 8, 9)))

    assert frozen(parts) == {9}


async def test_every_revision_is_stored_and_the_newest_shown(parts):
    first = incident()
    for number in range(3):
        await parts.raise_alert(revision(first, number, count=number + 1))

    assert [each.count for each in parts.alerts.recent(10)] == [3]


async def test_numbers_of_no_epoch_freeze_nobody_and_forget_no_earlier_freeze(parts):
    await parts.raise_alert(incident())

    await parts.raise_alert(msgspec.structs.replace(incident(), id="other", epoch=Epoch(""), offenders=(1,)))

    assert frozen(parts) == {7, 8}
