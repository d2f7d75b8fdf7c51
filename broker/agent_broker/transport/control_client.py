"""The control plane's client: one connection to one of the broker's sockets, for the command line.

Every failure is one of our families: what the broker refused comes back as it was raised there, what the connection
does is UnavailableError, and a socket that this user may not open is RefusedError. Nothing waits for longer than its
deadline; only a followed stream of alerts has none.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.experimental
import msgspec

from agent_broker.audit.acks import Alert
from agent_broker.errors import IntegrityError, RefusedError, UnavailableError
from agent_broker.grant.freeze import Freeze
from agent_broker.identity.registry import Enrollment
from agent_broker.ids import AgentName, CredentialId, Pid, Uid
from agent_broker.monitor.messages import LineageAnswer, ReloadAnswer
from agent_broker.transport import control_pb2 as pb
from agent_broker.transport import control_pb2_grpc as services
from agent_broker.transport.control_channel import CHANNEL_OPTIONS, socket_address
from agent_broker.transport.control_errors import error_of
from agent_broker.transport.control_records import (
    ALL_ALERTS,
    Acknowledgement,
    AgentTarget,
    AlertFilter,
    DaemonStatus,
    Everything,
    FreezeTarget,
    Missed,
    OneFreeze,
    ProcessTarget,
    Thawed,
    ThawTarget,
)
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret

TIMEOUT_S = 10.0
_NO_THREAD = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
"""Who reads a stream waits for the connection itself, not for another thread that does: one wake-up less an alert."""
RELOAD_TIMEOUT_S = 120.0  # the monitor may hash agents' binaries
_T = TypeVar("_T")


class ControlClient:
    """A connection; a context manager. Methods are those of ControlPort, and wait for their answer."""

    def __init__(self, path: Path) -> None:
        """Connect.

        Raises:
            UnavailableError: nobody answers there.
            RefusedError: this user may not open the socket.
        """
        _require_reachable(path)
        self._channel = grpc.insecure_channel(socket_address(path), options=(*CHANNEL_OPTIONS, _NO_THREAD))
        self._read: Any = services.ReadStub(self._channel)
        self._admin: Any = services.AdminStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; streams end with it."""
        self._channel.close()

    def status(self, timeout_s: float = TIMEOUT_S) -> DaemonStatus:
        """See ControlPort."""
        return _decoded(_call(self._read.Status, pb.Empty(), timeout_s).json, DaemonStatus)

    def agents(self) -> tuple[Enrollment, ...]:
        """See ControlPort."""
        return tuple(_decoded(each, Enrollment) for each in _call(self._read.ListAgents, pb.Empty()).json)

    def credentials(self) -> tuple[Credential, ...]:
        """See ControlPort."""
        return tuple(_decoded(each, Credential) for each in _call(self._read.ListCredentials, pb.Empty()).json)

    def frozen(self) -> tuple[Freeze, ...]:
        """See ControlPort."""
        return tuple(_decoded(each, Freeze) for each in _call(self._read.ListFrozen, pb.Empty()).json)

    def lineage(self, pid: Pid) -> LineageAnswer:
        """See ControlPort."""
        return _decoded(_call(self._read.Lineage, pb.LineageRequest(pid=pid)).json, LineageAnswer)

    def alert(self, id: str) -> Alert:  # noqa: A002 - what it is
        """See ControlPort."""
        return _decoded(_call(self._read.Alert, pb.AlertRequest(id=id)).json, Alert)

    @contextmanager
    def alerts(
        self, limit: int, *, follow: bool, wanted: AlertFilter = ALL_ALERTS
    ) -> Iterator[Iterator[bytes | Missed]]:
        """Give an iterator of incidents as JSON of audit.acks.Alert.

        A follower is inside the ``with`` block when no later incident can be missed silently. JSON, since a reader
        that only passes it on need not decode it.
        """
        facts = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
        call = self._read.Alerts(pb.AlertsRequest(limit=limit, follow=follow, **facts))
        try:
            if follow:
                with _our_errors():
                    call.initial_metadata()
            yield _alerts_of(call)
        finally:
            call.cancel()

    def put_credential(
        self, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str]
    ) -> Credential:
        """See ControlPort."""
        request = pb.PutCredentialRequest(id=credential, kind=kind, attributes=attributes, secret=secret.reveal())
        return _decoded(_call(self._admin.PutCredential, request).json, Credential)

    def get_credential(self, credential: CredentialId) -> Secret | None:
        """See ControlPort."""
        answer = _call(self._admin.GetCredential, pb.CredentialId(id=credential))
        return Secret(answer.secret) if answer.HasField("secret") else None

    def put_original(self, credential: CredentialId, path: str, content: Secret) -> None:
        """See ControlPort."""
        _call(self._admin.PutOriginal, pb.PutOriginalRequest(id=credential, path=path, content=content.reveal()))

    def get_original(self, credential: CredentialId) -> Secret:
        """See ControlPort."""
        return Secret(_call(self._admin.GetOriginal, pb.CredentialId(id=credential)).secret)

    def make_phantom(self, agent: AgentName, owner_uid: Uid, active: CredentialId, account: str = "") -> Secret:
        """See ControlPort."""
        owner = pb.AgentOfUser(agent=agent, owner_uid=owner_uid)
        request = pb.MakePhantomRequest(owner=owner, active=active, account=account)
        return Secret(_call(self._admin.MakePhantom, request).secret)

    def remove_account(self, agent: AgentName, owner_uid: Uid, account: str) -> int:
        """See ControlPort."""
        owner = pb.AgentOfUser(agent=agent, owner_uid=owner_uid)
        return int(_call(self._admin.RemoveAccount, pb.AccountOfUser(owner=owner, account=account)).records)

    def remove_credential(self, credential: CredentialId) -> int:
        """See ControlPort."""
        return int(_call(self._admin.RemoveCredential, pb.CredentialId(id=credential)).records)

    def remove_agent(self, agent: AgentName, owner_uid: Uid) -> int:
        """See ControlPort."""
        return int(_call(self._admin.RemoveAgent, pb.AgentOfUser(agent=agent, owner_uid=owner_uid)).records)

    def reload(self) -> ReloadAnswer:
        """See ControlPort."""
        return _decoded(_call(self._admin.Reload, pb.Empty(), RELOAD_TIMEOUT_S).json, ReloadAnswer)

    def freeze(self, target: FreezeTarget, reason: str) -> Freeze:
        """See ControlPort."""
        if isinstance(target, ProcessTarget):
            request = pb.FreezeRequest(pid=target.pid, reason=reason)
        else:
            request = pb.FreezeRequest(agent=_agent(target), reason=reason)
        return _decoded(_call(self._admin.Freeze, request).json, Freeze)

    def thaw(self, target: ThawTarget) -> Thawed:
        """See ControlPort."""
        match target:
            case OneFreeze(freeze_id=freeze_id):
                request = pb.ThawRequest(freeze_id=freeze_id)
            case AgentTarget():
                request = pb.ThawRequest(agent=_agent(target))
            case Everything():
                request = pb.ThawRequest(all=True)
        done = _call(self._admin.Thaw, request)
        return Thawed(done.freezes, done.continued, done.out_of_reach)

    def acknowledge(self, said: Acknowledgement) -> Alert:
        """See ControlPort."""
        request = pb.AckAlertRequest(
            id=said.alert, reason=said.reason, uid=said.uid, allowed=said.allowed, expires_ns=said.expires_ns
        )
        return _decoded(_call(self._admin.AckAlert, request).json, Alert)


def _require_reachable(path: Path) -> None:
    """Tell apart what gRPC reports as one: no broker, a dead one, and not your socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise RefusedError(
                "control-socket", f"you may not open {path}", next_step="run it as root (sudo)"
            ) from error
        except OSError as error:
            raise UnavailableError(
                f"the broker does not answer on {path}", next_step="start it: agent-broker daemon (as root)"
            ) from error


def _call(method: Any, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
    with _our_errors():
        return method(request, timeout=timeout_s)


def _alerts_of(call: Any) -> Iterator[bytes | Missed]:
    with _our_errors():
        for alert in call:
            yield Missed(alert.missed) if alert.WhichOneof("what") == "missed" else alert.json


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        failed = cast("grpc.Call", error)
        raise error_of(failed.code(), failed.details() or "", failed.trailing_metadata() or ()) from None


def _decoded(data: bytes, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise IntegrityError(
            f"the broker's answer is not a {shape.__name__}: {error}", next_step="restart the broker after an upgrade"
        ) from error


def _agent(target: AgentTarget) -> pb.AgentOfAnyUser:
    return pb.AgentOfAnyUser(agent=target.agent, owner_uid=target.owner_uid)
