"""Two keys for one agent: chosen by folder, or by ``run --as``; what isn't known is refused."""

import secrets

from tests.demo.processes import broker_command
from tests.e2e.accounts.stage import Stage, account, give, plain


def two_keys(stage: Stage) -> dict[str, object]:
    """Add an account with a folder of its own, and work here and there with it."""
    told: dict[str, object] = {"unknown": plain(stage.run_claude("--as", "private"))}
    home = stage.person.home
    private, beside, work = home / "private", home / "private-not", home / "private/for-work"
    for folder in (private, beside, work):
        folder.mkdir()
        give(stage.person, folder)
    key = f"sk-ant-api03-{secrets.token_urlsafe(60)}"
    stage.keys["private key"] = key
    told["added"] = account(stage, key, "add", "claude", "private", "--dir", str(private))
    account(stage, "", "assign", "claude", "work", "--dir", str(work))
    for name, folder in (("elsewhere", None), ("inside", private), ("beside", beside), ("back", work)):
        told[name] = plain(stage.claude(folder=folder))
    told["as private"] = plain(stage.run_claude("--as", "private"))
    told["as work"] = plain(stage.run_claude("--as", "work", folder=private))
    told["run inside"] = plain(stage.run_claude(folder=private))
    told["registry"] = broker_command(stage.world.root, "account", "list", "--json")
    policy = stage.world.root / f"etc/agent-broker/policy.d/claude-{stage.person.account.pw_uid}-private.toml"
    told["rule"] = policy.exists()
    account(stage, "", "remove", "claude", "private", "--yes")
    told["rule after"] = policy.exists()
    told["removed"] = plain(stage.claude(folder=private))
    told["credentials"] = broker_command(stage.world.root, "credentials", "--json")
    return told
