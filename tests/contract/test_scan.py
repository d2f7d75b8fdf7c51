"""``agent-broker scan`` of real homes: what it finds, what it never prints, what it never opens (needs root)."""

import json
import os
import re
import shutil
import subprocess

import pytest

from agent_broker.cli.main import main
from agent_broker.enroll.inventory import Knowledge, take_inventory
from agent_broker.enroll.inventory_known import Known
from agent_broker.enroll.inventory_rows import Judge
from agent_broker.enroll.owner import Owner
from agent_broker.identity.planted import PlantedDecoy, save_planted
from agent_broker.monitor.catalogue import shipped_catalogue
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import GID, UID
from tests.fakes.opened import Opened
from tests.fakes.scan_world import EVERYTHING, EXPORTED, PLANTED, ScanWorld, places
from tests.fakes.session_bus import SessionBus


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("SUDO_USER", raising=False)
    made = ScanWorld()
    yield made
    made.close()


def scanned(world, capsys, *options):
    code = world.scan("--json", *options)
    said = capsys.readouterr()
    assert said.err == ""
    report = json.loads(said.out)
    return code, report


def planted(world, path, **more):
    folder = world.installation / "var/lib/agent-broker/registry/decoys"
    folder.mkdir(parents=True, exist_ok=True)
    decoy = PlantedDecoy(str(path), "env-file", UID, "ann", "planted", 1, 0, **more)
    save_planted(folder, decoy)


EXPECTED = {
    (".claude/.credentials.json", ""): ("claude-oauth", "plain", ["claude"]),
    (".claude/settings.json", "env.ANTHROPIC_API_KEY"): ("anthropic-api-key", "plain", ["claude"]),
    (".claude.json", "primaryApiKey"): ("anthropic-api-key", "plain", ["claude"]),
    (".claude/backups/.claude.json.backup.1", "primaryApiKey"): ("anthropic-api-key", "plain", ["claude"]),
    (".bashrc", "ANTHROPIC_API_KEY"): ("anthropic-api-key", "plain", ["claude"]),
    (".bashrc", "X_TOKEN"): ("secret", "plain", []),
    (".zshenv", "OPENAI_API_KEY"): ("openai-api-key", "plain", ["codex"]),
    (".config/fish/config.fish", "GEMINI_API_KEY"): ("gemini-api-key", "plain", ["gemini"]),
    (".config/environment.d/keys.conf", "GITHUB_TOKEN"): ("github-token", "plain", []),
    ("src/web/.envrc", "GH_TOKEN"): ("github-token", "plain", []),
    ("src/web/.envrc", "DB_PASSWORD"): ("password", "plain", []),
    ("src/web/.env", "SESSION_SECRET"): ("secret", "plain", []),
    ("src/web/.mcp.json", "mcpServers.db.env.DB_TOKEN"): ("secret", "plain", []),
    (".codex/auth.json", ""): ("openai-key", "plain", ["codex"]),
    (".codex/config.toml", "model_providers.x.experimental_bearer_token"): ("secret", "plain", ["codex"]),
    (".gemini/.env", ""): ("gemini-key", "plain", ["gemini"]),
    (".aws/credentials", ""): ("aws-key", "plain", []),
    (".pgpass", ""): ("database-password", "plain", []),
    (".ssh/id_ed25519", ""): ("ssh-private-key", "plain", []),
}


def test_every_credential_is_found_and_no_value_is_printed(world, capsys):
    world.stocked()
    before = world.snapshot()
    code, report = scanned(world, capsys)
    assert code == 0
    found = {place: (row["holds"], row["state"], row["agents"]) for place, row in places(report).items()}
    assert found == EXPECTED
    assert report["homes"][0]["complete"]
    assert world.scan() == 0
    table = capsys.readouterr().out
    for text in (table, json.dumps(report), json.dumps(report, ensure_ascii=False)):
        assert [value for value in EVERYTHING if value in text] == []
        assert [value for value in EVERYTHING if value[8:24] in text] == []
    assert all(len(line) <= 80 for line in table.splitlines() if not line.startswith("  "))
    assert "19 credentials in plain" in table
    assert world.snapshot() == before


def test_what_the_operator_added_is_found_too(world, capsys):
    world.file("secrets/app.pem", "-----BEGIN PRIVATE KEY-----\nnone\n")
    assert ("secrets/app.pem", "") not in places(scanned(world, capsys)[1])
    config = world.installation / "etc/agent-broker/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[paths]\nextra = ["~/secrets/*.pem"]\n')

    assert ("secrets/app.pem", "") in places(scanned(world, capsys)[1])


def test_each_row_says_where_how_old_who_and_what_to_do(world, capsys):
    world.stocked()
    _, report = scanned(world, capsys)
    row = places(report)[".bashrc", "ANTHROPIC_API_KEY"]
    assert (row["line"], row["mode"], row["owner_uid"], row["source"]) == (2, "0644", UID, "profile")
    assert row["age_days"] > 1000
    assert row["who"] == "everybody on this machine"
    assert row["remedies"] == [
        f"sudo agent-broker enroll claude --user {UID} --profiles",
        f"chmod 600 {world.home}/.bashrc",
    ]
    config = places(report)[".codex/config.toml", "model_providers.x.experimental_bearer_token"]
    assert config["remedies"] == [f'"${{EDITOR:-vi}}" +2 {world.home}/.codex/config.toml']  # enroll leaves that one
    assert places(report)[".codex/auth.json", ""]["remedies"] == [f"sudo agent-broker enroll codex --user {UID}"]
    assert places(report)[".ssh/id_ed25519", ""]["remedies"] == [f"ssh-keygen -p -f {world.home}/.ssh/id_ed25519"]
    assert places(report)[".aws/credentials", ""]["who"] == f"every process of {UID}"


def test_codex_s_own_env_file_is_told_by_variable(world, capsys):
    told = PLANTED["codex"]
    env = world.file(".codex/.env", f"# mine\nOPENAI_API_KEY={told}\nCODEX_ACCESS_TOKEN={told}\nMY_TOKEN={told}\n")
    rows = places(scanned(world, capsys)[1])
    of_file = {name: (row["line"], row["remedies"]) for (path, name), row in rows.items() if path == ".codex/.env"}
    assert of_file == {
        "OPENAI_API_KEY": (2, [f"sudo agent-broker enroll codex --user {UID} --profiles"]),
        "CODEX_ACCESS_TOKEN": (3, [f'"${{EDITOR:-vi}}" +3 {env}']),
        "MY_TOKEN": (4, []),
    }


def test_codex_s_own_env_file_is_not_opened_where_that_raises_an_alert(world, capsys):
    world.file(".codex/.env", f"OPENAI_API_KEY={PLANTED['codex']}\n")
    planted(world, world.file("notes.txt", "x"))
    with Opened(world.home) as opened:
        rows = places(scanned(world, capsys)[1])
        assert ".env" not in opened.names()
    row = rows[".codex/.env", ""]
    assert (row["opened"], row["remedies"]) == (False, [f"sudo agent-broker enroll codex --user {UID} --profiles"])


def test_the_remedies_are_commands_that_exist(world, capsys):
    world.stocked()
    _, report = scanned(world, capsys)
    commands = {remedy for row in places(report).values() for remedy in row["remedies"]}
    assert len(commands) > 5
    chmods = [command for command in commands if command.startswith("chmod")]
    for command in chmods:
        subprocess.run(["/bin/sh", "-c", command], check=True, env={"PATH": "/usr/bin:/bin"})
    _, after = scanned(world, capsys)
    assert not [row for row in places(after).values() if row["readers"]["everybody"]]
    ours = [command.split() for command in commands if command.startswith("sudo agent-broker")]
    assert ours
    for words in ours:
        main([*(word for word in words[2:4] if word in {"enroll", "decoy", "plant"}), "--help"])
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("--")), (words, shown)


def test_exit_codes_of_check(world, capsys):
    world.file(".bashrc", "alias ll='ls -l'\n")
    assert world.scan("--check") == 0
    world.file(".bashrc", f"export ANTHROPIC_API_KEY={EXPORTED}\n")
    assert world.scan() == 0
    assert world.scan("--check") == 3
    world.file(".bashrc", "x" * (5 * 1024 * 1024))
    assert world.scan("--check") == 4
    assert "too big" in capsys.readouterr().out


def test_decoys_are_never_opened_under_any_name(world, capsys):
    world.stocked()
    decoy = world.home / "src/web/.env"
    planted(world, decoy)
    os.link(decoy, world.home / "src/.env")
    with Opened(world.home) as opened:
        _, report = scanned(world, capsys)
        names = opened.names()
    assert names >= {"settings.json", ".bashrc", ".envrc"}  # the sensor works
    assert ".env" not in names
    assert not names & {".credentials.json", "auth.json", "credentials", ".pgpass", "id_ed25519"}  # watched by now
    rows = places(report)
    assert rows["src/web/.env", ""]["state"] == "planted"
    assert rows["src/.env", ""]["state"] == "unopened"
    assert (
        rows[".aws/credentials", ""] | {"state": "plain", "opened": False, "watched": True}
        == rows[".aws/credentials", ""]
    )


def test_a_user_who_can_t_learn_where_decoys_are_opens_nothing_that_could_be_one(world):
    world.stocked()
    decoy = world.home / "src/web/.env"
    planted(world, decoy)
    (world.installation / "var/lib/agent-broker/registry/decoys").chmod(0o700)
    with Opened(world.home) as opened:
        done = world.scan_as_user("--json")
        names = opened.names()
    assert done.returncode == 0, done.stderr
    assert names >= {"settings.json", ".bashrc"}
    assert not names & {".env", ".envrc", ".credentials.json", "auth.json", "credentials", ".pgpass", "id_ed25519"}
    rows = places(json.loads(done.stdout))
    assert rows["src/web/.env", ""]["state"] == rows[".aws/credentials", ""]["state"] == "unopened"
    assert "planted" not in {row["state"] for row in rows.values()}


def test_a_user_finds_the_same_in_his_own_home_as_root_does(world, capsys):
    world.stocked()
    _, of_root = scanned(world, capsys)
    done = world.scan_as_user("--json")
    assert done.returncode == 0, done.stderr
    of_user = places(json.loads(done.stdout))
    assert {place: (row["holds"], row["state"]) for place, row in of_user.items()} == {
        place: (row["holds"], row["state"]) for place, row in places(of_root).items()
    }
    assert [value for value in EVERYTHING if value in done.stdout] == []


def test_nobody_looks_into_the_home_of_another(world):
    world.stocked()
    for options in (("--user", str(UID)), ("--all-users",)):
        done = world.scan_as_user(*options, uid=UID + 1)
        assert done.returncode in {2, 3}, done
        assert not re.search(r"plain", done.stdout)
    assert world.scan_as_user(uid=UID + 1).returncode == 2  # the home is not his


@pytest.mark.parametrize(
    ("rights", "acl", "who"),
    [
        ((0o600, 0o755, GID), "", f"every process of {UID}"),
        ((0o644, 0o755, GID), "", "everybody on this machine"),
        ((0o644, 0o700, GID), "", f"every process of {UID}"),
        ((0o640, 0o755, 0), "", f"every process of {UID}, group root"),
        ((0o600, 0o755, GID), "u:daemon:r", f"every process of {UID}, daemon"),
        ((0o600, 0o755, GID), "g:daemon:r", f"every process of {UID}, group daemon"),
        ((0o600, 0o700, GID), "u:daemon:r", f"every process of {UID}"),
    ],
)
def test_who_can_read_it(world, capsys, rights, acl, who):
    mode, home_mode, group = rights
    file = world.file("p/.env", "API_SECRET=0123456789abcdef\n")
    os.chown(file, UID, group)
    file.chmod(mode)
    if acl:
        subprocess.run(["/usr/bin/setfacl", "-m", acl, file], check=True)
    world.home.chmod(home_mode)
    _, report = scanned(world, capsys)
    ((row),) = places(report).values()
    assert row["who"] == who
    closing = [remedy for remedy in row["remedies"] if remedy.startswith(("chmod", "setfacl"))]
    assert bool(closing) == (who != f"every process of {UID}")
    for command in closing:
        subprocess.run(["/bin/sh", "-c", command], check=True, env={"PATH": "/usr/bin:/bin"})
    _, report = scanned(world, capsys)
    ((row),) = places(report).values()
    assert row["who"] == f"every process of {UID}"


def test_before_while_and_after_an_enrolment(world, capsys, monkeypatch):
    world.full()
    monkeypatch.setattr("agent_broker.cli.scan.PREFIX", "phantom-of-")  # the broker in memory makes such ones
    with ServedBroker(FakeBroker(), world.installation):
        whose = ["--user", str(UID), "--home", str(world.home)]
        _, before = scanned(world, capsys)
        assert {row["state"] for row in places(before).values()} == {"plain"}
        root = ["--root", str(world.installation)]
        assert main([*root, "enroll", "claude", *whose, "--binary", str(world.binary), "--yes"]) == 0
        capsys.readouterr()
        with Opened(world.home) as opened:
            _, during = scanned(world, capsys)
            assert ".credentials.json" not in opened.names()
        states = {(path, name): row["state"] for (path, name), row in places(during).items()}
        assert states == {
            (".claude/.credentials.json", ""): "decoy",
            (".claude/settings.json", "env.ANTHROPIC_AUTH_TOKEN"): "phantom",
            (".claude/settings.json", "env.ANTHROPIC_API_KEY"): "vault",
            (".claude.json", "primaryApiKey"): "vault",
            (".claude/.credentials.json", "claudeAiOauth"): "vault",
        }
        assert world.scan("--check") == 0
        capsys.readouterr()
        assert main([*root, "unenroll", "claude", *whose, "--yes"]) == 0
        capsys.readouterr()
        _, after = scanned(world, capsys)
        assert {place: row["state"] for place, row in places(after).items()} == {
            place: row["state"] for place, row in places(before).items()
        }


def test_programs_of_agents_with_version_layout_and_hash(world, capsys):
    native = world.file(".local/share/claude/versions/2.1.330", "\x7fELF native", 0o755)
    (world.home / ".local/bin").mkdir(parents=True)
    (world.home / ".local/bin/claude").symlink_to(native)
    world.file("node_modules/@openai/codex/package.json", json.dumps({"name": "@openai/codex", "version": "0.169.0"}))
    script = world.file("node_modules/@openai/codex/bin/codex.js", "#!/usr/bin/env node\n", 0o755)
    world.make_folder(world.home / "node_modules/.bin")
    (world.home / "node_modules/.bin/codex").symlink_to(script)
    _, report = scanned(world, capsys)
    rows = {row["agent"]: row for row in report["homes"][0]["agents"]}
    assert (rows["claude"]["version"], rows["claude"]["layout"], rows["claude"]["enrolled"]) == (
        "2.1.330",
        "native",
        "no",
    )
    assert rows["claude"]["remedy"] == f"sudo agent-broker enroll claude --user {UID}"
    assert (rows["codex"]["version"], rows["codex"]["layout"]) == ("0.169.0", "npm")
    assert len(rows["codex"]["sha256"]) == 64


def test_the_environment_of_an_agent_that_runs_is_told_by_names(world, capsys):
    shutil.copy(os.path.realpath("/bin/sleep"), world.home / "claude")
    world.make_folder(world.home / ".local")
    world.make_folder(world.home / ".local/bin")
    shutil.move(world.home / "claude", world.home / ".local/bin/claude")
    environment = {"ANTHROPIC_API_KEY": EXPORTED, "EDITOR": "vi", "MY_TOKEN": "agent-broker-phantom-" + "a" * 32}
    with subprocess.Popen([world.home / ".local/bin/claude", "1000"], user=UID, env=environment) as agent:
        try:
            _, report = scanned(world, capsys)
        finally:
            agent.kill()
    (row,) = [row for row in report["homes"][0]["credentials"] if row["source"] == "process"]
    assert (row["path"], row["name"], row["state"]) == (f"/proc/{agent.pid}/environ", "ANTHROPIC_API_KEY", "plain")
    assert EXPORTED not in json.dumps(report)


NOTHING_KNOWN = Known((), (), planted_hidden=False, transactions=(), paths_watched=True)
NOBODY = 65534  # dbus-daemon lets in whom the user database knows


def test_the_variables_of_the_session_s_manager(world):
    folder = world.root / "session"
    folder.mkdir()
    variables = ["PATH=/usr/bin", f"ANTHROPIC_API_KEY={EXPORTED}", "MY_TOKEN=agent-broker-phantom-" + "a" * 32]
    os.chown(world.home, NOBODY, NOBODY)
    owner = Owner(NOBODY, NOBODY, (NOBODY,), "nobody", str(world.home))
    options = {"knowledge": Knowledge(), "become": True, "phantom_prefix": "agent-broker-phantom-"}
    with SessionBus(folder, json.dumps(variables)) as bus:
        found = take_inventory(owner, shipped_catalogue(), bus=str(bus.path), **options)
    rows = Judge(owner, NOTHING_KNOWN, {"claude": {}}, 0).credentials(found)
    assert [(row.name, row.holds, row.state, row.source) for row in rows] == [
        ("ANTHROPIC_API_KEY", "anthropic-api-key", "plain", "session"),
        ("MY_TOKEN", "phantom", "phantom", "session"),
    ]
    assert rows[0].remedies == ("systemctl --user unset-environment ANTHROPIC_API_KEY",)
    assert EXPORTED not in repr(found)
    gone = take_inventory(owner, shipped_catalogue(), bus=str(bus.path), **options)
    assert gone.credentials == []
