"""One agent in one layout, logged in in one way: enrolled, used, unenrolled, used again.

What must hold, or the row fails: while enrolled, no file of the home or of the daemons and no process of the user
holds a secret; every request to the model carries exactly the real credential; no alert is raised. In the end every
file that enrolment touched is as it was: content, owner, mode, time of change; one that the agent wrote in the meantime
has its secrets back and nothing of the broker's.
"""

import json
import time
from collections.abc import Container

from tests.demo.check import StepFailedError, require
from tests.demo.memory import grep
from tests.demo.snapshot import Snapshot, compare, take_snapshot
from tests.e2e.agents.client import Login
from tests.e2e.agents.place import Place, require_well
from tests.e2e.agents.row import REFUSED, WORKS, WayOutcome, WayRow

_BYTE_FOR_BYTE = "byte for byte"
_PHANTOM = "the phantom"


def measure_way(place: Place, row: WayRow) -> WayOutcome:
    """Do all of it; return what came of it."""
    began_s = time.monotonic()
    login = row.client.ways[row.way]()
    try:
        place.install(row.client, row.layout)
        place.log_in(login)
        result, unenrolled = _refused(place, row, login) if login.refused else _enrolled(place, row, login)
        if login.needs_its_maker:
            unenrolled += "; not run again: it asks its maker whether the login is good"
        else:
            _works_without(place, row, login)
    except StepFailedError as error:
        return WayOutcome(row, problem=str(error), seconds=time.monotonic() - began_s)
    finally:
        place.forget(row.client)
    header = "" if login.refused else " and ".join(f"`{name}`" for name in login.sent)
    return WayOutcome(row, result, header, unenrolled, seconds=time.monotonic() - began_s)


def _enrolled(place: Place, row: WayRow, login: Login) -> tuple[str, str]:
    before = _snapshot(place)
    _require_found(place, login)
    place.enroll(row.client)
    alerts = len(place.alerts.incidents())
    wired = _snapshot(place)
    _require_clean(place, login)
    _use(place, row, login)
    _require_clean(place, login)
    kinds = place.kinds_since(alerts)
    require(not kinds, "no alert while the agent does its work", kinds)
    used = _snapshot(place)
    place.unenroll(row.client)
    return WORKS, _given_back(place, login, before, wired, used)


def _require_found(place: Place, login: Login) -> None:
    """What a profile or a file of variables sets is found, and told without its value."""
    said = place.broker("scan", "--json", "--user", place.world.user.pw_name) if login.exported else ""
    require(not any(value in said for value in login.secrets.values()), "a scan to tell no value", "it does")
    rows = json.loads(said)["homes"][0]["credentials"] if said else []
    found = {(each["name"], each["path"]) for each in rows if each["state"] == "plain"}
    missing = [name for name, path in login.exported.items() if (name, str(place.world.home / path)) not in found]
    require(not missing, "a scan to find each exported key", missing)


def _use(place: Place, row: WayRow, login: Login) -> None:
    phantom = row.client.phantom(place.world.home)
    require(phantom, "a phantom in the agent's files", "none")
    turn = place.searched_turn(row.client, {**login.secrets, _PHANTOM: phantom})
    require_well(turn, row.client, login.sent)
    found = turn.searched.found if turn.searched else {}
    require(_PHANTOM in found, "the search to find what must be there, the phantom", found)
    leaks = {name: sorted(places) for name, places in found.items() if name != _PHANTOM}
    require(not leaks, "no secret in memory or environment of the agent's tree", leaks)
    told = [each for each in turn.requests if phantom in str(each)]
    require(not told, "the phantom to stay on this machine", [each["target"] for each in told])


def _refused(place: Place, row: WayRow, login: Login) -> tuple[str, str]:
    before = _snapshot(place)
    try:
        place.enroll(row.client)
    except StepFailedError as error:
        require(login.refused in error.seen, f"the reason {login.refused!r}", error.seen)
    else:
        raise StepFailedError("a refusal to enrol", "it is enrolled")
    changes = compare(before, _snapshot(place))
    require(not changes.changed and not changes.new, "a refusal to change nothing", changes)
    return f"{REFUSED}: {login.refused}", "nothing was changed"


def _works_without(place: Place, row: WayRow, login: Login) -> None:
    place.answers("as before")
    turn = place.turn(row.client, directly=True)
    require_well(turn, row.client, login.sent if login.sent_directly is None else login.sent_directly)


def _require_clean(place: Place, login: Login) -> None:
    root = place.world.root
    left = grep(login.secrets, place.world.home, root / "var", root / "etc", root / "run", root / "logs")
    require(not left, "no file of the home or of the daemons to hold a secret", left)


def _given_back(place: Place, login: Login, before: Snapshot, wired: Snapshot, used: Snapshot) -> str:
    """Return a phrase; raises StepFailedError if a file is not as it was."""
    after = _snapshot(place)
    touched = {path for path in before.keys() | wired.keys() if before.get(path) != wired.get(path)}
    others = {path: entry for path, entry in used.items() if path not in touched}
    foreign = compare(others, after).changed
    require(not foreign, "unenrolment to change no file that enrolment left alone", foreign)
    written = sorted(path for path in touched if wired.get(path) != used.get(path) and path in before)
    for path in sorted(touched - set(written)):
        entry = before.get(path)
        different = entry.differs_in(after.get(path)) if entry else path in after and "it is still there"
        require(not different, f"~/{path} as it was", different)
    _require_only_own(place, written, login.files)
    _require_secrets_back(place, login)
    return _BYTE_FOR_BYTE + (f"; {', '.join(written)}, which the agent wrote meanwhile: its secrets" if written else "")


def _require_only_own(place: Place, written: list[str], files: Container[str]) -> None:
    for path in written:
        text = (place.world.home / path).read_text()
        require("agent-broker" not in text, f"nothing of the broker's in ~/{path}", "it is")
        require(path in files, f"~/{path} to be one of the user's", "it is not")


def _require_secrets_back(place: Place, login: Login) -> None:
    for path, text in login.files.items():
        if not isinstance(text, str):  # nobody can read it as it is
            continue
        now = (place.world.home / path).read_text()
        missing = [name for name, value in login.secrets.items() if value in text and value not in now]
        require(not missing, f"the secrets of ~/{path} back in it", missing)


def _snapshot(place: Place) -> Snapshot:
    """Return the home without the installation, which is large and nobody's to change."""
    return take_snapshot(place.world.home, but=place.installed)
