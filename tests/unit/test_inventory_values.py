"""What counts as a credential, and what does not; no value ever comes out."""

import json
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_broker.enroll.inventory_content import items_of_document, items_of_lines
from agent_broker.enroll.inventory_values import agents_of, kind_of_value, state_of_content
from agent_broker.honeytoken import tokens
from agent_broker.honeytoken.entry import JsonMember, Lines, WholeFile
from agent_broker.honeytoken.kinds import KINDS

PREFIX = "agent-broker-phantom-"
LONG = "f3a9c2d47b10e865"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        pytest.param("ANTHROPIC_API_KEY", tokens.anthropic_api_key(), "anthropic-api-key", id="anthropic_api_key"),
        ("X", "sk-ant-oat01-" + LONG, "anthropic-oauth"),
        pytest.param("X", tokens.openai_api_key(), "openai-api-key", id="openai_api_key"),
        ("OPENAI_API_KEY", "sk-" + LONG * 2, "secret"),
        pytest.param("X", tokens.github_token(), "github-token", id="github_token"),
        pytest.param("X", tokens.npm_token(), "npm-token", id="npm_token"),
        pytest.param("X", tokens.google_access_token(), "google-oauth", id="google_access_token"),
        pytest.param("X", tokens.aws_key()[0], "aws-key", id="aws_key"),
        pytest.param("AWS_SECRET_ACCESS_KEY", tokens.aws_key()[1], "aws-key", id="aws_secret"),
        ("AWS_SECRET_ACCESS_KEY", "/" + LONG[:15] + "Kx/" + LONG + "wJalr", "aws-key"),
        ("GEMINI_API_KEY", "AIza" + LONG * 2, "google-api-key"),
        ("GEMINI_API_KEY", LONG, "gemini-api-key"),
        ("DATABASE_URL", "postgres://ann:hunter2hunter2@db/x", "password"),
        ("DB_PASSWORD", "correct-horse", "password"),
        ("STRIPE_SECRET", LONG, "secret"),
        ("ANTHROPIC_AUTH_TOKEN", PREFIX + "a" * 32, "phantom"),
        # none:
        ("MAX_TOKENS", "64000", ""),
        ("TOKENIZERS_PARALLELISM", "false", ""),
        ("SECRET_FILE", "/run/secrets/key", ""),
        ("API_TOKEN_URL", "https://example.org/token", ""),
        ("OPENAI_API_KEY", "<your key here>", ""),
        ("OPENAI_API_KEY", "your-api-key-here", ""),
        ("OPENAI_API_KEY", "YOUR_API_KEY_1", ""),
        ("OPENAI_API_KEY", "YourApiKeyHere", ""),
        ("OPENAI_API_KEY", "Replace me, please", "openai-api-key"),
        ("OPENAI_API_KEY", "change-me-1234", ""),
        ("OPENAI_API_KEY", "changeme-changeme", ""),
        ("OPENAI_API_KEY", "", ""),
        ("PATH", "/usr/bin:/bin", ""),
        ("EDITOR", "vi", ""),
    ],
)
def test_kinds(name, value, kind):
    assert kind_of_value(name, value, PREFIX) == kind


@given(
    st.sampled_from(("your", "my", "change", "example", "todo")),
    st.sampled_from((str.lower, str.upper, str.title)),
    st.text(string.ascii_letters + string.digits, min_size=16, max_size=24),
)
def test_a_password_that_was_drawn_at_random_may_begin_with_a_word_too(word, cased, rest):
    assert kind_of_value("X_SECRET", f"{cased(word)}{rest}7k", PREFIX) == "secret"


def test_whose_credential_it_is():
    assert agents_of("ANTHROPIC_API_KEY", "secret") == ("claude",)
    assert agents_of("MY_KEY", "openai-api-key") == ("codex",)
    assert agents_of("GITHUB_TOKEN", "github-token") == ()


LINES = f"""\
export ANTHROPIC_API_KEY="{tokens.anthropic_api_key()}"  # mine
OPENAI_API_KEY='{tokens.openai_api_key()}'
export A=1 GH_TOKEN={tokens.github_token()}; echo done
set -gx GEMINI_API_KEY {LONG}
setenv CODEX_API_KEY {LONG}
# export OLD={tokens.npm_token()}
export FROM_PASS_TOKEN="$(pass show token)"
export OTHER_TOKEN=$ANTHROPIC_API_KEY
export BACK_SECRET=`cat key`
alias k='kubectl --token={tokens.github_token()}'
if true; then export HF_TOKEN=hf_{LONG}; fi
export FALLBACK=${{KEY:-{tokens.anthropic_api_key()}}}
"""


def test_lines_of_profiles():
    found = [(item.line, item.name, item.kind) for item in items_of_lines(LINES.encode(), 16384, PREFIX)]
    assert found == [
        (1, "ANTHROPIC_API_KEY", "anthropic-api-key"),
        (2, "OPENAI_API_KEY", "openai-api-key"),
        (3, "GH_TOKEN", "github-token"),
        (4, "GEMINI_API_KEY", "gemini-api-key"),
        (5, "CODEX_API_KEY", "openai-api-key"),
        (6, "", "npm-token"),
        (10, "k", "github-token"),
        (11, "HF_TOKEN", "huggingface-token"),
        (12, "FALLBACK", "anthropic-api-key"),
    ]


def test_members_of_settings_and_their_lines():
    key = tokens.anthropic_api_key()
    data = f"""{{
  // mine
  "env": {{"ANTHROPIC_API_KEY": "{key}", "EDITOR": "vi"}},
  "mcpServers": {{"x": {{"args": ["--verbose", "--token={tokens.github_token()}"]}}}},
  "x": "y"
}}""".encode()
    found = [(item.name, item.line, item.kind) for item in items_of_document(data, "json", PREFIX) or ()]
    assert found == [
        ("env.ANTHROPIC_API_KEY", 3, "anthropic-api-key"),
        ("mcpServers.x.args[1]", 4, "github-token"),
    ]
    assert items_of_document(b"{", "json", PREFIX) is None
    toml = f'[model_providers.x]\nexperimental_bearer_token = "{LONG}"\n'.encode()
    (item,) = items_of_document(toml, "toml", PREFIX) or ()
    assert (item.name, item.line) == ("model_providers.x.experimental_bearer_token", 2)


def test_a_key_that_is_a_member_s_name_is_not_shown():
    key = tokens.anthropic_api_key()
    (item,) = items_of_document(f'{{"{key}": {{"apiKey": "{LONG}"}}}}'.encode(), "json", PREFIX) or ()
    assert key not in item.name


@pytest.mark.parametrize(
    ("name", "text", "state"),
    [
        pytest.param(".npmrc", "//registry.npmjs.org/:_authToken=" + tokens.npm_token(), "plain", id="npmrc"),
        (".npmrc", "registry=https://registry.example/\n", "unrecognised"),
        (".pgpass", "db:5432:app:ann:hunter2\n", "plain"),
        (".pgpass", "# host:port:db:user:password\n", "unrecognised"),
        (".netrc", "machine x login ann password hunter2hunter2", "plain"),
        (".vault-token", "hvs." + LONG * 2, "plain"),
        ("hosts.yml", "github.com:\n    oauth_token: " + LONG * 2, "plain"),
        ("hosts.yml", "github.com:\n    user: ann\n", "unrecognised"),
        ("config.json", '{"auths": {"x": {"auth": "YW5uOmh1bnRlcjI="}}}', "plain"),
        ("config.json", '{"credsStore": "desktop"}', "unrecognised"),
        ("credentials", "[default]\naws_secret_access_key = " + LONG * 2, "plain"),
        ("credentials", "[default]\ncredential_process = /usr/bin/helper\n", "unrecognised"),
        ("id_rsa", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "encrypted"),
        ("id_rsa", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n", "plain"),
        ("keys.txt", "AGE-SECRET-KEY-1" + "Q" * 58, "plain"),
        ("x.gpg", "\x84\x5e\x03", "encrypted"),
        ("settings", "token = " + PREFIX + "a" * 32, "phantom"),
    ],
)
def test_what_a_file_where_credentials_lie_holds(name, text, state):
    assert state_of_content(text.encode("latin-1"), name, PREFIX) == state


def content_of(entry):
    if isinstance(entry, WholeFile):
        return entry.data
    if isinstance(entry, Lines):
        return entry.text.encode()
    if isinstance(entry, JsonMember):
        value = entry.value
        for key in reversed(entry.path):
            value = {key: value}
        return json.dumps(value).encode()
    return yaml.safe_dump({key: [dict(item)] for key, item in entry.items.items()} | dict(entry.members)).encode()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_we_make_for_thieves_is_taken_for_a_credential(kind):
    data = content_of(kind.make(True).entry)
    assert state_of_content(data, kind.default_path.rpartition("/")[2], PREFIX) == "plain"
