"""Programs that walk, search, index and save whole homes; and what else looks at files."""

from tests.e2e.noise.row import stated
from tests.e2e.noise.world import PROGRAMS, World

_ALLOW = " --allow --reason TEXT"
"""The next step names our own command. It is read by the test, never typed into it: its words are the product's."""


def _list(made: World) -> None:
    made.as_user("ls", "-laR", made.home)
    made.as_user("du", "-s", made.home)
    made.as_user("find", made.home, "-type", "f", "-newer", "/etc/passwd", "-size", "-100k")


def _grep(made: World) -> None:
    """Its exit code says that something could not be read, or that nothing was found: both are fine."""
    assert "README" in made.as_user("grep", "-r", "-l", "project", made.home)


def _ripgrep(made: World) -> None:
    assert "README" in made.as_user("rg", "--files-with-matches", "project", made.home)


def _ripgrep_hidden(made: World) -> None:
    made.as_user("rg", "--hidden", "--no-ignore", "--files-with-matches", "project", made.home)


def _index(made: World) -> None:
    assert int(made.as_user("python3", PROGRAMS / "indexer.py", made.home)) > 100


def _example(made: World) -> None:
    made.as_user("cat", made.project / ".env.example")
    made.as_user("cp", made.project / ".env.example", made.project / ".env.sample")


def _updatedb(made: World) -> None:
    database = made.backup / "locate.db"
    made.as_user(
        "updatedb.plocate", "--require-visibility", "no", "--prunepaths", "", "--database-root", made.home,
        "--output", database,
    )  # fmt: skip
    made.as_root(
        "updatedb.plocate", "--prunepaths", "", "--database-root", made.home, "--output", made.folder / "root.db"
    )  # fmt: skip


def _rsync(made: World) -> None:
    made.as_user("rsync", "-a", f"{made.home}/", made.backup / "rsync")


def _rsync_again(made: World) -> None:
    """Nothing changed: sizes and times are compared, no file is opened."""
    made.as_user("rsync", "-a", f"{made.home}/", made.backup / "rsync")


def _rsync_root(made: World) -> None:
    made.as_root("rsync", "-a", f"{made.home}/", made.folder / "rsync")


def _tar(made: World) -> None:
    made.as_user("tar", "-czf", made.backup / "home.tar.gz", "-C", made.home, ".")


def _tar_root(made: World) -> None:
    made.as_root("tar", "-czf", made.folder / "home.tar.gz", "-C", made.home, ".")


ROWS = (
    stated("ls, du, find over $HOME", _list),
    stated("grep -r over $HOME", _grep, 1, "critical", _ALLOW),
    stated("rg over $HOME", _ripgrep),
    stated("rg --hidden over $HOME", _ripgrep_hidden, 1, "critical", _ALLOW),
    stated("an editor's indexer over $HOME", _index),
    stated(".env.example is read and copied", _example),
    stated("updatedb by user and by root", _updatedb),
    stated("rsync of $HOME by the user", _rsync, 1, "critical", _ALLOW),
    stated("rsync again, nothing changed", _rsync_again),
    stated("rsync of $HOME by root", _rsync_root, 1, "info"),
    stated("tar of $HOME by the user", _tar, 1, "critical", _ALLOW),
    stated("tar of $HOME by root", _tar_root, 1, "info"),
)
