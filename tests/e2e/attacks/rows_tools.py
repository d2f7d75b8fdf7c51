"""Attacks on the tools that are wired to the shim: the same five on each of them. A tool more is an entry more."""

from tests.e2e.attacks.tool_attacks import asks, elsewhere, genuine, renamed, rows, setting, told_to_show
from tests.e2e.clients import cargo, docker, git

GIT = rows(
    git.CLIENT,
    asks(r"printf 'protocol=http\nhost={server}\npath=mine.git\n\n' | {shim} git get"),
    renamed("cp /usr/lib/git-core/git-remote-http ~/git-remote-http; ~/git-remote-http {mine}.git {mine}.git <<< list"),
    setting("GIT_SSH_COMMAND is the attacker's", {"GIT_SSH_COMMAND": "{code}"}),
    elsewhere("git ls-remote {unknown}.git"),
    told_to_show(
        "the agent's tool runs git where .git/config names a further helper",
        "git init -q {loot}/own && cd {loot}/own && git config credential.helper '!f() { cat >> {loot}/handed; }; f'; "
        "git ls-remote {mine}.git",
        "a rule with a narrow `to`, and a token that opens that one repository",
        name="helper",
    ),
    genuine(),
)
DOCKER = rows(
    docker.CLIENT,
    asks("printf {server} | docker-credential-agent-broker get"),
    renamed("cp {docker} ~/docker && ~/docker manifest inspect {server}/alice/image:1"),
    setting(
        "DOCKER_CONFIG is the attacker's",
        {"DOCKER_CONFIG": "{loot}/config"},
        "mkdir -p {loot}/config && cp ~/.docker/config.json {loot}/config",
    ),
    elsewhere(
        "cp -p ~/.docker/config.json ~/kept.json && "
        r"""sed -i 's/"credHelpers": {/&"localhost:{port}": "agent-broker",/' ~/.docker/config.json && """
        "grep -c localhost ~/.docker/config.json; {docker} manifest inspect localhost:{port}/alice/image:1; "
        "mv ~/kept.json ~/.docker/config.json",
        alert=True,  # docker's own settings, which many programs read, must be changed for it
    ),
    genuine(),
)
CARGO = rows(
    cargo.CLIENT,
    asks(cargo.ASK),
    renamed("cp {cargo} ~/cargo && ~/cargo owner --list --registry first mine"),
    setting("CARGO_HTTP_CAINFO is the attacker's", {"CARGO_HTTP_CAINFO": "{code}"}),
    elsewhere(cargo.ELSEWHERE),
    genuine(),
)

ROWS = (*GIT, *DOCKER, *CARGO)
