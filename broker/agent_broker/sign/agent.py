"""The agent's answers: which keys there are, and signatures, each decided anew.

The law of this module, in the order of a request to sign:
1. What is to be signed is a login or a file's signature, understood in full; anything else is refused.
2. The connection's bindings and the key's limits allow it (ssh.binding): the host is proven, it is one of the key's,
   the request does not come through agent forwarding.
3. The issuer decides, with the process that wrote the request as the caller (inject.caller): lineage, owner,
   principal, taint, freeze, policy, and a durable record, for each signature and not for each connection.
4. Only then the key is unsealed, signs, and is forgotten. It never leaves this process.

Public keys are told to verified tools of their owner, by who opened the connection; whoever is not one gets "no", which
is counted against its process and wakes nobody: a public key is no secret.
"""

import asyncio
import logging
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from msgspec import Struct

from agent_broker.errors import AgentBrokerError, MisuseError, RefusedError
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown, Verdict
from agent_broker.ids import Uid
from agent_broker.issue import SIGN, Ask, Caller, Issued, Refusals, require_identity
from agent_broker.policy.destination import Destination as Place
from agent_broker.sign.book import KeyBook, SshKey
from agent_broker.ssh import messages
from agent_broker.ssh.binding import Bindings, fingerprint
from agent_broker.ssh.keys import load_sealed, sign
from agent_broker.ssh.messages import Bind, ListKeys, SignData, Unsupported, decode_request
from agent_broker.ssh.signed_data import FileSignature, decode_signed
from agent_broker.ssh.wire import WireError
from agent_broker.vault.secret import Secret

CHANNEL: Final = "ssh-agent"

_LOG = logging.getLogger(__name__)
_NAME_CHARS: Final = 64  # of what a client calls somebody, in the journal


class Issuer(Protocol):
    """Who decides (issue.Issuer)."""

    async def issue(self, ask: Ask) -> Issued:
        """Give the use of a credential, or raise."""
        ...


class ConnectionCaller(Caller, Protocol):
    """Who writes on a connection, and who opened it (inject.caller)."""

    async def attest_opener(self) -> Verdict:
        """Return who opened it."""
        ...


class Answer(Struct, frozen=True):
    """What goes back, and what it says of the process that asked."""

    data: bytes
    is_granted: bool = False
    is_refused: bool = False


class Conversation:
    """What one connection has said so far."""

    def __init__(self, caller: ConnectionCaller, uid: Uid | None) -> None:
        """``uid``: of the process that connected, to look keys up by; it decides nothing."""
        self.caller = caller
        self.uid = uid
        self.bindings = Bindings()


class SshAgent:
    """See the module."""

    def __init__(self, issuer: Issuer, book: KeyBook, refusals: Refusals) -> None:
        """``refusals`` is told of what is refused before the issuer is asked."""
        self._issuer = issuer
        self._book = book
        self._refusals = refusals

    async def answer(self, conversation: Conversation, body: bytes) -> Answer:
        """Return the answer to one message; every failure is one."""
        try:
            match decode_request(body):
                case ListKeys():
                    return await self._list(conversation)
                case SignData() as request:
                    return await self._sign(conversation, request)
                case Bind() as bind:
                    return _bind(conversation, bind)
                case Unsupported() as other:
                    _LOG.debug("request %d %.40r is not supported", other.number, other.extension)
        except RefusedError as refusal:
            _LOG.info("%s", refusal.message)
            return Answer(messages.failure(), is_refused=True)
        except AgentBrokerError as error:
            _LOG.warning("%s", error.message)
        return Answer(messages.failure())

    async def _list(self, conversation: Conversation) -> Answer:
        verdict = known(await conversation.caller.attest_opener())
        keys = self._book.keys_of(verdict.uid) if verdict.uid is not None else ()
        for key in keys:
            require_identity(verdict, key.id, SIGN, tool=True)
        if isinstance(verdict, Unknown):
            raise RefusedError("lineage", f"who is asking is unknown: {verdict.reason}")
        return Answer(messages.identities((key.blob, key.comment) for key in keys), is_granted=bool(keys))

    async def _sign(self, conversation: Conversation, request: SignData) -> Answer:
        key = self._book.find(request.key, conversation.uid)
        if key is None:
            return Answer(messages.failure())
        looked = _look(conversation.bindings, request, key)
        ask = Ask(conversation.caller, key.id, SIGN, CHANNEL, tool=True, to=looked.to, about=looked.about)
        if looked.refusal is not None:
            raise await self._recorded(ask, looked.refusal)
        issued = await self._issuer.issue(ask)
        return Answer(messages.signature(await _signature(issued.secret, request)), is_granted=True)

    async def _recorded(self, ask: Ask, refusal: RefusedError) -> RefusedError:
        """Record a refusal, or, if the caller is not even who it should be, that one."""
        verdict = known(await ask.caller.attest())
        try:
            require_identity(verdict, ask.credential, SIGN, tool=True)
        except RefusedError as earlier:
            refusal = earlier
        await self._refusals.refused(ask, refusal, verdict)
        return refusal


def known(verdict: Verdict) -> Evidence | Unknown:
    """Return a verdict to a question about somebody of whom nothing was known."""
    if isinstance(verdict, Unchanged):
        return Unknown("the monitor answered a question that was not asked")
    return verdict


def _bind(conversation: Conversation, bind: Bind) -> Answer:
    try:
        conversation.bindings.add(bind)
    except RefusedError as refusal:
        _LOG.info("a session was not bound: %s", refusal.message)
        return Answer(messages.extension_failure())
    return Answer(messages.success())


class _Looked(Struct, frozen=True):
    """What there is to say of a request whoever asks."""

    refusal: RefusedError | None
    about: str = ""
    to: Place | None = None
    """The host, if the key names it."""


def _look(bindings: Bindings, request: SignData, key: SshKey) -> _Looked:
    try:
        wanted = decode_signed(request.data)
    except WireError as error:
        return _Looked(RefusedError("data", error.message))
    refusal = bindings.refusal_of(wanted, request.key, key.limits)
    if isinstance(wanted, FileSignature):
        return _Looked(refusal, f"signature of a file, namespace {_shown(wanted.namespace)}")
    shown = bindings.host_key
    host = f" at {fingerprint(shown)}" if shown else ""
    named = key.limits.host_of(shown) if shown and refusal is None else ""
    return _Looked(refusal, f"login as {_shown(wanted.user)}{host}", _place(named))


def _place(host: str) -> Place | None:
    """Return a host as a policy's rule can name it (``to = "ssh://github.com"``)."""
    try:
        return Place.parse(f"ssh://{host}") if host else None
    except MisuseError:
        return None


def _shown(name: str) -> str:
    """A name of the client's choice, as it may stand in a journal."""
    return ascii(name[:_NAME_CHARS])


async def _signature(secret: Secret, request: SignData) -> bytes:
    """Sign, and forget the key. An RSA key takes milliseconds, so others are served meanwhile."""
    try:
        with secret.borrow() as sealed:
            key = load_sealed(sealed)
        if isinstance(key, RSAPrivateKey):
            return await asyncio.to_thread(sign, key, request.data, request.flags)
        return sign(key, request.data, request.flags)
    finally:
        secret.wipe()
