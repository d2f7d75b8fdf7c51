"""Enrols Codex and Gemini as the registry says it: ``enroll_more ROOT UID FOLDER``; prints their phantoms as JSON.

A process of its own, run as root against the running daemons. Their files are not surveyed: each gets a made-up key
that the mock provider takes, and a phantom for it.
"""

import hashlib
import json
import pwd
import secrets
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from agent_broker.config.layout import Layout
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.program import find_program
from agent_broker.enroll.roles import CODEX, GEMINI
from agent_broker.identity.registry import EnrolledBinary, Enrollment, save_enrollment
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid
from agent_broker.transport.control_client import ControlClient
from agent_broker.vault.secret import Secret

_POLICY = """[[rule]]
agent = "{agent}"
owner = {uid}
credential = "{agent}/{uid}/*"
modes = ["inject"]
"""


def main(root: Path, uid: Uid, folder: Path) -> None:
    """Enrol both; print the phantoms and keys."""
    layout = Layout(root)
    found = {"codex": (CODEX, _file(folder / "codex/bin/codex")), "gemini": (GEMINI, _interpreted(folder, uid))}
    for name, (role, binary) in found.items():
        agent = AgentName(name)
        (layout.policy_folder / f"{name}.toml").write_text(_POLICY.format(agent=agent, uid=uid))
        save_enrollment(
            layout.registry_folder,
            Enrollment(
                agent=agent,
                owner_uid=uid,
                owner_name="attacked",
                binaries=(binary,),
                role=role,
                decoys=(),
                credentials=(CredentialId(f"{agent}/{uid}/key"),),
                enrolled_ns=time.time_ns(),
            ),
        )
    print(json.dumps(_phantoms(layout, uid, found)))


def _phantoms(layout: Layout, uid: Uid, names: Iterable[str]) -> dict[str, dict[str, str]]:
    told = {}
    with ControlClient(layout.admin_socket) as client:
        for name in names:
            key = f"sk-{name}-{secrets.token_urlsafe(60)}"
            credential = CredentialId(f"{name}/{uid}/key")
            client.put_credential(credential, "anthropic-auth-token", Secret(key.encode()), {})
            phantom = client.make_phantom(AgentName(name), uid, credential)
            told[name] = {"key": key, "phantom": phantom.reveal().decode()}
        answer = client.reload()
        if answer.problems:
            sys.exit(f"the enrolment is not in force: {answer.problems}")
    return told


def _file(path: Path) -> EnrolledBinary:
    return EnrolledBinary(path=str(path), sha256=_sha256(path), size_bytes=path.stat().st_size)


def _interpreted(folder: Path, uid: Uid) -> EnrolledBinary:
    user = pwd.getpwuid(uid)
    owner = Owner(uid, user.pw_gid, (user.pw_gid,), user.pw_name, user.pw_dir)
    return find_program(folder / "gemini-cli/bundle/gemini.js", owner, (folder,)).found.enrolled


def _sha256(path: Path) -> Sha256:
    with path.open("rb") as file:
        return Sha256(hashlib.file_digest(file, "sha256").hexdigest())


main(Path(sys.argv[1]), Uid(int(sys.argv[2])), Path(sys.argv[3]))
