"""Remove decoys, renew them, and finish what was interrupted."""

from collections.abc import Iterable

from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.plant import NEVER, Garden, PlantPlan, plan_planting, plant_locked
from agent_broker.enroll.plant_journal import PlantTransaction
from agent_broker.enroll.plant_restore import PlantOutcome, restore
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.honeytoken.kinds import kind_of
from agent_broker.identity.planted import PlantedDecoy, load_planted


def remove(path: str, garden: Garden) -> PlantOutcome:
    """Take the decoy of an absolute path out of its file.

    Raises:
        MisuseError: there is none; or the file is something now that may not be touched, and was not.
        UnavailableError: another transaction is at work; the disk did not do its part: run it again.
    """
    with TransactionFolder(garden.journal_dir) as lock:
        transaction = _found(path, garden)
        _require_safe(transaction)
        return _restore(transaction, garden, lock.lock_fd)


def refresh(decoy: PlantedDecoy, garden: Garden) -> PlantOutcome:
    """Put a fresh value in the place of a decoy's, of the same kind and for as long again.

    Raises:
        MisuseError: there is no such decoy; the file can't be touched, or merged into, any more: the decoy is out.
        UnavailableError, IntegrityError: see plant; ``recover`` finishes it.
    """
    kind = kind_of(decoy.kind)
    with TransactionFolder(garden.journal_dir) as lock:
        transaction = _found(decoy.path, garden)
        _require_safe(transaction)
        gone = _restore(transaction, garden, lock.lock_fd, keep_journal=True)
        lifetime_ns = decoy.expires_ns - decoy.planted_ns if decoy.expires_ns else NEVER
        try:
            plan = plan_planting(
                kind,
                transaction.owner,
                garden,
                path=transaction.path,
                deny=decoy.deny,
                lifetime_ns=lifetime_ns,
                route="planted: decoy refresh",
            )
        except MisuseError as error:
            garden.journal().forget(transaction)
            raise MisuseError(
                f"the decoy {decoy.path} is out, and no fresh one could be planted: {error.message}",
                next_step=error.next_step,
            ) from error
        return _again(plan, garden, lock.lock_fd, gone)


def recover(garden: Garden) -> tuple[PlantOutcome, ...]:
    """Finish every interrupted planting, removal and refresh; return one outcome each, none if there was none.

    A planting that had reached the registry is completed, any other is undone. A removal is completed.

    Raises:
        MisuseError, UnavailableError, IntegrityError: see restore; what was finished before stays finished.
    """
    with TransactionFolder(garden.journal_dir) as lock:
        interrupted = [each for each in garden.journal().all() if each.state != "planted"]
        return tuple(_finish(each, garden, lock.lock_fd) for each in interrupted)


def expired(decoys: Iterable[PlantedDecoy], now_ns: int) -> tuple[PlantedDecoy, ...]:
    """Return the decoys whose time is over."""
    return tuple(each for each in decoys if each.expires_ns and each.expires_ns <= now_ns)


def _again(plan: PlantPlan, garden: Garden, lock_fd: int, gone: PlantOutcome) -> PlantOutcome:
    with UserFiles(plan.owner, (lock_fd,)) as files:
        done = plant_locked(plan, garden, files, lock_fd)
    return PlantOutcome(done.path, done.kind, "refreshed", (*gone.warnings, *done.warnings))


def _finish(transaction: PlantTransaction, garden: Garden, lock_fd: int) -> PlantOutcome:
    registered = transaction.decoy in load_planted(garden.decoys_dir)
    if transaction.state == "removing" or not registered:
        return _restore(transaction, garden, lock_fd)
    answer = garden.watch.reload()
    garden.on_step("reloaded")
    garden.journal().mark_planted(transaction)
    garden.on_step("journal: planted")
    return PlantOutcome(transaction.decoy.path, transaction.decoy.kind, "planted", answer.problems)


def _restore(
    transaction: PlantTransaction, garden: Garden, lock_fd: int, *, keep_journal: bool = False
) -> PlantOutcome:
    return restore(
        transaction,
        garden.journal(),
        garden.decoys_dir,
        garden.watch,
        garden.on_step,
        lock_fd,
        keep_journal=keep_journal,
    )


def _found(path: str, garden: Garden) -> PlantTransaction:
    transaction = garden.journal().find(path)
    if transaction is not None:
        return transaction
    if any(each.path == path for each in load_planted(garden.decoys_dir)):
        raise IntegrityError(
            f"the decoy {path} is registered, but its journal is missing: it can't be taken out",
            next_step="restore the journal from a backup, or delete the decoy's entry in the file yourself",
        )
    raise MisuseError(f"no decoy was planted at {path}", next_step="agent-broker decoy list")


def _require_safe(transaction: PlantTransaction) -> None:
    """Find out before anything is changed what may not be touched, without opening a file that is still watched."""
    with UserFiles(transaction.owner) as files:
        files.check_plain(transaction.path)
