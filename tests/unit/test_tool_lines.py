"""Which command lines of gh and pnpm are the tool, and which make it another program."""

import pytest

from agent_broker.enroll.gh import LINES
from agent_broker.enroll.pnpm import LINE
from agent_broker.identity.principal import is_one_of

SAFE = "--ignore-scripts --ignore-pnpmfile"


def is_tool(lines, words):
    arguments = ("tool", *words.split(" ")) if words else ("tool",)
    return is_one_of(b"".join(each.encode() + b"\0" for each in arguments), lines)


@pytest.mark.parametrize(
    "words",
    ["", "pr list", "api user -f token=x", "auth status", "auth status --hostname h", "auth login",
     "auth refresh -s repo",
     "config set editor vim", "config get git_protocol", "alias set co pr", "pr create --title token -t x",
     "--version", "--help auth token", "config list"],
)  # fmt: skip
def test_ghs_own_commands_are_gh(words):
    assert is_tool(LINES, words)


@pytest.mark.parametrize(
    "words",
    ["auth token", "auth -h x token", "auth status -t", "auth status --show-token", "auth status --show-token=true",
     "auth status -ht x", "auth git-credential get", "auth", "config get oauth_token", "config get -h x oauth_token",
     "mine", "mine token", "-R o/r pr list", "apiary", "config"],
)  # fmt: skip
def test_what_could_print_a_login_is_not(words):
    assert not is_tool(LINES, words)


@pytest.mark.parametrize(
    "words",
    [f"install {SAFE}", f"{SAFE} install", f"-r {SAFE} add x", "add x --ignore-pnpmfile --save-dev --ignore-scripts",
     f"view {SAFE} x version", f"publish {SAFE} --no-git-checks",
     f"i {SAFE}"],
)  # fmt: skip
def test_pnpm_that_runs_nothing_of_its_folder_is_pnpm(words):
    assert is_tool((LINE,), words)


@pytest.mark.parametrize(
    "words",
    ["", "install", "install --ignore-scripts", "install --ignore-pnpmfile",
     "install -- --ignore-scripts --ignore-pnpmfile",
     f"exec {SAFE} x", f"dlx {SAFE} x", f"run {SAFE} x", f"/x {SAFE}", f"{SAFE} x install", f"-C /x {SAFE} install",
     f"install {SAFE} --no-ignore-scripts", f"install {SAFE} --ignore-scripts=false", f"install {SAFE} --config.a=b",
     f"--config.a=b install {SAFE}", f"install {SAFE} --//h/:tokenHelper=/x", f"install {SAFE} --https-proxy=x",
     f"install {SAFE} --https-proxy x", f"install {SAFE} --strict-ssl=false", f"install {SAFE} --cafile x",
     f"install {SAFE} --userconfig=x", f"install {SAFE} --npmrc-auth-file=x", f"install {SAFE} --global-pnpmfile=x",
     f"install {SAFE} --script-shell=x", f"install {SAFE} --shell-emulator", f"config list {SAFE}",
     "view --ignore-scriptsx"],
)  # fmt: skip
def test_pnpm_that_might_is_not(words):
    assert not is_tool((LINE,), words)


def test_no_word_can_be_put_into_another():
    """A NUL ends each word; a line's end is one character of it."""
    assert is_one_of(b"gh\0api\0a\nb\0", LINES)
    assert not is_one_of(b"gh\0mine\napi\0", LINES)
    assert not is_one_of(b"pnpm\0install\0--ignore-scripts\n--ignore-pnpmfile\0", (LINE,))
