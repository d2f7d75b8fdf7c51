"""Where a machine's ``/etc`` sets variables for everybody: pam, shells, systemd, agents' managed settings.

What is found here is every process's of every user; it is for root to remove, and no enrolment moves it.
"""

from agent_broker.enroll.inventory_files import lines, settings
from agent_broker.enroll.inventory_walk import Walk

LINES = (
    "environment",
    "security/pam_env.conf",
    "profile",
    "bash.bashrc",
    "bashrc",
    "zshenv",
    "zprofile",
    "zshrc",
    "zlogin",
    "zsh/zshenv",
    "zsh/zprofile",
    "zsh/zshrc",
    "zsh/zlogin",
    "csh.cshrc",
    "csh.login",
    "ksh.kshrc",
    "fish/config.fish",
    "systemd/system.conf",
    "systemd/user.conf",
)
"""pam_env(8), bash(1), zsh(1) of Debian and of Fedora, csh(1), fish(1), systemd-system.conf(5)."""
FOLDERS = (
    ("profile.d", ""),
    ("environment.d", ".conf"),
    ("fish/conf.d", ".fish"),
    ("X11/Xsession.d", ""),
    ("systemd/system.conf.d", ".conf"),
    ("systemd/user.conf.d", ".conf"),
)
"""Folder, end of the name."""
SETTINGS = (
    ("claude-code/managed-settings.json", "json", "claude"),
    ("codex/config.toml", "toml", "codex"),
    ("codex/managed_config.toml", "toml", "codex"),
    ("gemini-cli/settings.json", "json", "gemini"),
    ("gemini-cli/system-defaults.json", "json", "gemini"),
    ("opencode/opencode.json", "json", "opencode"),
)
"""Path, form, whose."""


def machine_wide(walk: Walk) -> None:
    """Tell all that is found."""
    for path in LINES:
        lines(walk, walk.linked(path), "machine")
    for folder, ends in FOLDERS:
        for path in walk.files_of(folder):
            if path.endswith(ends):
                lines(walk, walk.linked(path), "machine")
    for path, form, agent in SETTINGS:
        settings(walk, walk.linked(path), form, (agent,), "machine")
