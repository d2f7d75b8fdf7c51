"""Two keys for one agent: chosen by folder, or by ``run --as``; what isn't known is refused."""

import os
import secrets
import subprocess

import msgspec

from tests.demo.processes import BROKER, broker_command
from tests.e2e.accounts.stage import Seen, Stage, give


def two_keys(stage: Stage) -> dict[str, object]:
    """Add an account with a folder of its own, and work here and there with it."""
    told: dict[str, object] = {"unknown": _plain(stage.run_claude("--as", "private"))}
    home = stage.person.home
    private, beside, work = home / "private", home / "private-not", home / "private/for-work"
    for folder in (private, beside, work):
        folder.mkdir()
        give(stage.person, folder)
    key = f"sk-ant-api03-{secrets.token_urlsafe(60)}"
    stage.keys["private key"] = key
    told["added"] = _account(stage, key, "add", "claude", "private", "--dir", str(private))
    _account(stage, "", "assign", "claude", "work", "--dir", str(work))
    for name, folder in (("elsewhere", None), ("inside", private), ("beside", beside), ("back", work)):
        told[name] = _plain(stage.claude(folder=folder))
    told["as private"] = _plain(stage.run_claude("--as", "private"))
    told["as work"] = _plain(stage.run_claude("--as", "work", folder=private))
    told["run inside"] = _plain(stage.run_claude(folder=private))
    told["registry"] = broker_command(stage.world.root, "account", "list", "--json")
    policy = stage.world.root / f"etc/agent-broker/policy.d/claude-{stage.person.account.pw_uid}-private.toml"
    told["rule"] = policy.exists()
    _account(stage, "", "remove", "claude", "private", "--yes")
    told["rule after"] = policy.exists()
    told["removed"] = _plain(stage.claude(folder=private))
    told["credentials"] = broker_command(stage.world.root, "credentials", "--json")
    return told


def _plain(seen: Seen) -> dict[str, object]:
    return dict(msgspec.to_builtins(seen))


def _account(stage: Stage, key: str, *words: str) -> str:
    done = subprocess.run(
        [BROKER, "--root", stage.world.root, "account", *words, "--user", stage.person.account.pw_name],
        input=key, capture_output=True, text=True, check=True, env=os.environ, cwd="/",
    )  # fmt: skip
    return done.stdout + done.stderr
