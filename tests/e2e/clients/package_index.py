"""What the clients of package indexes have in common: two indexes with a login each, and their files."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from tests.e2e.clients.python_tools import environment
from tests.e2e.clients.world import Clients, new_password, server
from tests.fakes.index_server import WHEEL, wheel


class Index(Struct):
    """One of them."""

    port: int
    password: str
    presented: Callable[[], list[str]]
    """What each request presented, user and password; empty: nothing."""

    @property
    def login(self) -> str:
        """User and password, as they are presented."""
        return f"alice:{self.password}"

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its address, without a login."""
        return f"http://{self.host}"


@contextlib.contextmanager
def indexes(clients: Clients) -> Iterator[tuple[Index, Index]]:
    """Start both; the user has a package to upload, and finds our ``keyring`` first."""
    with contextlib.ExitStack() as undo:
        found = []
        for name in ("first", "second"):
            password = new_password("pypi-")
            login = f"alice:{password}"
            log = clients.world.root / f"logs/index-{name}.jsonl"
            log.touch()
            port = undo.enter_context(
                server(clients, "index_server", f"index-{name}", f"--login={login}", f"--log={log}")
            )

            def presented(log: Path = log) -> list[str]:
                return [json.loads(line)["presented"] for line in log.read_text().splitlines()]

            found.append(Index(port, password, presented))
        undo.enter_context(_our_keyring(clients))
        package = clients.write(f"dist/{WHEEL}", "")
        package.write_bytes(wheel())
        yield found[0], found[1]


@contextlib.contextmanager
def _our_keyring(clients: Clients) -> Iterator[None]:
    link = clients.home / ".local/bin/keyring"
    if link.is_symlink():  # of another stand, which takes it away
        yield
        return
    link.symlink_to(clients.world.shim)
    yield
    link.unlink()


def served(*servers: Index) -> Callable[[], int]:
    """Return what counts the requests so far that presented the real login of any of them, to any of them."""
    logins = {each.login for each in servers}
    return lambda: sum(login in logins for each in servers for login in each.presented())


def names(clients: Clients, first: Index, second: Index) -> dict[str, str]:
    """Return what every client's rows may name."""
    return {
        "bin": str(environment() / "bin"),
        "first": first.url,
        "second": second.url,
        "host": first.host,
        "port": str(first.port),
        "second_host": second.host,
        "shim": str(clients.world.shim),
        "wheel": str(clients.home / "dist" / WHEEL),
    }
