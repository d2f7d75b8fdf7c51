"""Which session a connection to the agent is for, proven by the host: session-bind@openssh.com.

The law, for one connection:
1. A binding counts if the host key signed the session's identifier. One that does not verify spoils the connection:
   nothing is signed on it any more.
2. After a binding for a login no further one is taken: the session that is logged in to is the last.
3. A binding for forwarding, anywhere, makes what follows another machine's request.
4. One session belongs to one host key. The same binding twice is one. There are at most MAX_BINDINGS.

Then a key's limits (Limits) say what may be signed on it; ``refusal_of`` is that decision, whole.
"""

import base64
import hashlib
from typing import Final

from msgspec import Struct

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.ssh.keys import is_genuine, load_public, without_certificate
from agent_broker.ssh.messages import Bind
from agent_broker.ssh.signed_data import FileSignature, Login
from agent_broker.ssh.wire import WireError

MAX_BINDINGS: Final = 16  # AGENT_MAX_SESSION_IDS, OpenSSH's ssh-agent.c


class Binding(Struct, frozen=True):
    """One session."""

    host_key: bytes
    session_id: bytes
    is_forwarding: bool


class Destination(Struct, frozen=True, forbid_unknown_fields=True):
    """A host that a key may log in to."""

    host: str
    """As the operator named it, for people."""
    host_keys: tuple[str, ...]
    """Fingerprints (``SHA256:...``) of the keys that the host may show."""
    user: str = ""
    """On the host; empty: any."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a key may be used for, as root wrote it down."""

    destinations: tuple[Destination, ...] = ()
    """None: any host."""
    needs_binding: bool = True
    """False: for clients that don't say which session they sign for (paramiko, asyncssh). Any host then."""
    allows_forwarding: bool = False
    """True: also for another machine that this one's ssh was let forward the agent to."""
    namespaces: tuple[str, ...] | None = None
    """Of files' signatures; None: any, or none if it has destinations."""

    def host_of(self, host_key: bytes) -> str:
        """Return the destination that has a host key, as root named it; empty: none."""
        shown = fingerprint(host_key)
        return next((each.host for each in self.destinations if shown in each.host_keys), "")


class Bindings:
    """The sessions of one connection."""

    def __init__(self) -> None:
        self._bindings: list[Binding] = []
        self._is_spoiled = False

    def add(self, bind: Bind) -> None:
        """Take one binding.

        Raises:
            RefusedError: it is not the host's, or it does not fit those before.
        """
        try:
            self._add(bind)
        except RefusedError:
            self._is_spoiled = True
            raise

    @property
    def host_key(self) -> bytes:
        """Of the session that was bound last; empty: there is none."""
        return self._bindings[-1].host_key if self._bindings else b""

    def refusal_of(self, wanted: Login | FileSignature, key: bytes, limits: Limits) -> RefusedError | None:
        """Return why a key may not sign this here; None: it may.

        Args:
            wanted: what is to be signed.
            key: the public blob of the key that is asked for.
            limits: the key's.
        """
        if self._is_spoiled:
            return _no("a host's proof of its session did not verify on this connection")
        if any(each.is_forwarding for each in self._bindings) and not limits.allows_forwarding:
            return RefusedError(
                "forwarded",
                "the request comes from another machine, by agent forwarding",
                next_step="use ProxyJump (ssh -J) in place of agent forwarding (ssh -A)",
            )
        if isinstance(wanted, FileSignature):
            return _file_refusal(wanted, limits)
        if not _is_of(wanted.key, key):
            return _no("the login is another key's")
        return self._login_refusal(wanted, limits)

    def _add(self, bind: Bind) -> None:
        binding = Binding(bind.host_key, bind.session_id, bind.is_forwarding)
        if binding in self._bindings:
            return
        if any(not known.is_forwarding for known in self._bindings):
            raise _no("the connection was bound to a login's session before")
        if any(known.session_id == bind.session_id for known in self._bindings):
            raise _no("one session, bound twice and not in the same way")
        if len(self._bindings) >= MAX_BINDINGS:
            raise _no(f"more than {MAX_BINDINGS} sessions")
        _require_proof(bind)
        self._bindings.append(binding)

    def _login_refusal(self, login: Login, limits: Limits) -> RefusedError | None:
        if not self._bindings:
            if limits.needs_binding or limits.destinations:
                return RefusedError(
                    "destination",
                    "the client does not prove which host it logs in to (no session-bind)",
                    next_step="use OpenSSH 8.9 or newer, or: sudo agent-broker ssh limit KEY --any-client",
                )
            return None
        last = self._bindings[-1]
        wrong = _mismatch(last, login, is_relayed=len(self._bindings) > 1)
        return _no(wrong) if wrong else _destination_refusal(last, login, limits)


def fingerprint(blob: bytes) -> str:
    """Return a key's fingerprint as OpenSSH prints it: ``SHA256:...``."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _require_proof(bind: Bind) -> None:
    try:
        is_proven = is_genuine(load_public(bind.host_key), bind.signature, bind.session_id)
    except MisuseError as error:
        raise _no(f"the host's key can't be checked: {error.message}") from None
    if not is_proven:
        raise _no("the host's signature over the session is wrong")


def _mismatch(last: Binding, login: Login, *, is_relayed: bool) -> str:
    """Return why a login is not the one that the last host proved, or nothing."""
    if last.is_forwarding:
        return "the session was bound for forwarding, not for a login"
    if last.session_id != login.session_id:
        return "the login is another session's than the one that the host proved"
    if login.host_key is None:
        return "a login from another machine that does not name its host" if is_relayed else ""
    return "" if login.host_key == last.host_key else "the login names another host than the one that proved it"


def _destination_refusal(last: Binding, login: Login, limits: Limits) -> RefusedError | None:
    if not limits.destinations:
        return None
    shown = fingerprint(last.host_key)
    for each in limits.destinations:
        if shown in each.host_keys and each.user in {"", login.user}:
            return None
    hosts = ", ".join(dict.fromkeys(each.host for each in limits.destinations))
    return RefusedError(
        "destination",
        f"the key is for {hosts}, and the host has the key {shown}",
        next_step="if the host got a new key: sudo agent-broker ssh limit KEY --host HOST",
    )


def _is_of(named: bytes, key: bytes) -> bool:
    """Tell whether a login names the key, by itself or by a certificate of it."""
    try:
        return without_certificate(named) == key
    except WireError:
        return False


def _file_refusal(wanted: FileSignature, limits: Limits) -> RefusedError | None:
    allowed = limits.namespaces
    if allowed is None and not limits.destinations:
        return None
    if allowed is not None and wanted.namespace in allowed:
        return None
    return RefusedError(
        "namespace",
        "the key may not sign files of this namespace",
        next_step="sudo agent-broker ssh limit KEY --sign NAMESPACE",
    )


def _no(sentence: str) -> RefusedError:
    return RefusedError("destination", sentence)
