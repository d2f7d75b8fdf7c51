"""The user's own editors: programs of the distribution that a person writes settings with. Data, and who is one.

By the package that owns the executable, never by its name: a file called ``vim`` is nobody. An editor that an agent
started is the agent's tool.
"""

import os

from agent_broker.identity.evidence import Evidence
from agent_broker.monitor.programs import PackageOwners

PACKAGES = frozenset(
    {
        "vim", "vim-tiny", "vim-nox", "vim-gtk3", "vim-athena", "vim-motif", "vim-minimal", "vim-enhanced", "gvim",
        "neovim", "nano", "emacs", "emacs-nox", "emacs-gtk", "emacs-pgtk", "emacs-lucid", "emacs-x11",
        "emacs-bin-common",
        "micro", "helix", "kakoune", "joe", "jed", "ne", "mg", "zile", "ed", "nvi", "mcedit", "mc", "dte", "vis",
        "gedit", "gnome-text-editor", "kate", "kwrite", "mousepad", "pluma", "xed", "geany", "featherpad", "leafpad",
        "code", "code-insiders", "codium", "vscodium", "sublime-text", "zed", "pulsar", "cursor", "windsurf",
    }
)  # fmt: skip
"""Names of Debian's, Fedora's and the vendors' own packages."""


def is_editor(verdict: Evidence, packages: PackageOwners) -> bool:
    """Whether the caller is an editor of the distribution that no enrolled agent started. Not in an event loop."""
    image = verdict.caller
    if verdict.principal is not None or verdict.taints or not image.observed or not image.filename.startswith("/"):
        return False
    if image.file.owner_uid != 0 or image.user_mounted:
        return False
    owner = packages.owner_of(os.path.realpath(image.filename), image.file)
    return owner is not None and owner.intact and owner.name in PACKAGES
