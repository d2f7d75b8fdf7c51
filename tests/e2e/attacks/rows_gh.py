"""Attacks on gh: the file of its logins is a view that gh alone reads, its other settings are anybody's of the user."""

from tests.e2e.attacks.tool_attacks import Attack, elsewhere, genuine, renamed, rows, setting, told_to_show
from tests.e2e.clients import gh

_THIEF = (
    "/usr/bin/python3 {programs}/socket_thief.py {loot} > /dev/null 2>&1 & thief=$!; "
    "until test -S {loot}/socket; do sleep 0.05; done; "
)
"""Starts the attacker's server at a unix socket; ``$thief`` is its process."""
_GONE = "; kill $thief"
_SETTING = "echo http_unix_socket: {loot}/socket > "
_OWN = _THIEF + "mkdir {loot}/own && ln -s ~/{hosts} {loot}/own/hosts.yml && " + _SETTING + "{loot}/own/config.yml"
_CONFIG = "~/.config/gh/config.yml"

ROWS = rows(
    gh.CLIENT,
    Attack("stranger", "another program reads the file of the logins", "cat ~/{hosts}", mitre="T1552.001"),
    renamed("cp {gh} ~/gh && GH_HOST={host} ~/gh api user"),
    setting(
        "GH_CONFIG_DIR is the attacker's, with a socket of his (http_unix_socket)",
        {"GH_CONFIG_DIR": "{loot}/own"},
        _OWN,
        use="{use}" + _GONE,
    ),
    setting("SSL_CERT_FILE is the attacker's", {"SSL_CERT_FILE": "{code}"}, name="certificate"),
    elsewhere("GH_HOST={other} {gh} api user"),
    Attack(
        "token",
        "a tool of the agent's has the genuine {name} print the token",
        "{gh} auth token --hostname {host}; {gh} auth status --hostname {host} -t; "
        "{gh} config get --host {host} oauth_token",
        by_agent=True,
        mitre="T1552.001",
    ),
    Attack(
        "alias",
        "an alias of the attacker's has the genuine {name} print the token",
        "{gh} alias set stolen 'auth token --hostname {host}'; {gh} stolen; {gh} alias delete stolen",
        mitre="T1552.001",
    ),
    Attack(
        "git",
        "a process has the genuine {name} answer as git's helper",
        r"printf 'protocol=https\nhost={host}\n\n' | {gh} auth git-credential get",
        mitre="T1555",
    ),
    told_to_show(
        "the agent's tool writes the attacker's socket into gh's config.yml (http_unix_socket), then runs gh",
        f"{_THIEF}cp -p {_CONFIG} {{loot}}/kept; {_SETTING}{_CONFIG}; {{use}}{_GONE}; cp -p {{loot}}/kept {_CONFIG}",
        "no rule for the agent, or for programs; tokens that can do little",
        name="socket",
    ),
    genuine(),
)
