"""The state folders, made with their owners and modes by whichever daemon starts first. Root only."""

import os
from pathlib import Path

from agent_broker.config.accounts import BrokerAccount
from agent_broker.config.layout import Layout
from agent_broker.errors import UnavailableError


def make_folders(layout: Layout, account: BrokerAccount) -> None:
    """Make the state folders with their owners and modes; folders that are there are set right.

    Raises:
        UnavailableError: the file system refuses.
    """
    try:
        for folder in (layout.config_folder, layout.policy_folder, layout.state_folder, layout.registry_folder):
            _folder(folder, 0o755)
        _folder(layout.allowed_folder, 0o755)
        _folder(layout.files_folder, 0o755)
        _folder(layout.decoys_folder, 0o750)
        os.chown(layout.decoys_folder, 0, account.gid)  # the users whose files they are must not read where they lie
        _folder(layout.run_folder, 0o755)
        _folder(layout.enroll_folder, 0o700)
        for folder in (layout.vault_folder, layout.audit_folder, layout.outbox_folder):
            _folder(folder, 0o700, account)
    except OSError as error:
        raise UnavailableError(f"{error.filename} can't be made: {error.strerror}") from error


def _folder(path: Path, mode: int, account: BrokerAccount | None = None) -> None:
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    path.chmod(mode)
