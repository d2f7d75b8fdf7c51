"""The control plane's two services: requests in, a ControlPort asked, answers out.

Each request is checked here, so that a port sees typed values only. Errors leave as ``control_errors`` says; the
text of a foreign exception never does, since it may quote a secret.
"""

import functools
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import grpc.aio
import msgspec

from agent_broker.errors import AgentBrokerError, MisuseError
from agent_broker.ids import ACCOUNT_NAMES, AgentName, CredentialId, Pid, Uid, is_account_name
from agent_broker.monitor.incident import SEVERITIES
from agent_broker.transport import control_pb2 as pb
from agent_broker.transport import control_pb2_grpc as services
from agent_broker.transport.control_errors import status_of
from agent_broker.transport.control_port import AdminPort, ReadPort
from agent_broker.transport.control_records import (
    Acknowledgement,
    AgentTarget,
    AlertFilter,
    Everything,
    FreezeTarget,
    Missed,
    OneFreeze,
    ProcessTarget,
    ThawTarget,
)
from agent_broker.vault.secret import Secret

MAX_ALERTS = 10_000  # stored incidents in one answer

_LOG = logging.getLogger(__name__)
_Servicer = TypeVar("_Servicer")


def _answers(method: Callable[[_Servicer, Any], Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Make a servicer's method of one that raises our errors."""

    @functools.wraps(method)
    async def answer(self: _Servicer, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(self, request)
        except Exception as error:  # noqa: BLE001 - the edge: nothing foreign may leave with its text
            await _abort(context, error)

    return answer


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
    if not isinstance(error, AgentBrokerError):
        frames = traceback.extract_tb(error.__traceback__)
        _LOG.error("control plane: %s at %s:%s", type(error).__name__, frames[-1].filename, frames[-1].lineno)
        error = AgentBrokerError("the broker failed inside", next_step="see the broker's log")
    code, details, metadata = status_of(error)
    await context.abort(code, details, metadata)


def _record(value: msgspec.Struct) -> pb.Record:
    return pb.Record(json=msgspec.json.encode(value))


def _records(values: Sequence[msgspec.Struct]) -> pb.Records:
    return pb.Records(json=[msgspec.json.encode(value) for value in values])


class ReadServicer(services.ReadServicer):  # type: ignore[misc]  # generated code has no types
    """Service Read. Names and requests: control.proto."""

    def __init__(self, port: ReadPort) -> None:
        self._port = port

    @_answers
    async def Status(self, _request: pb.Empty) -> pb.Record:
        """See control.proto."""
        return _record(await self._port.status())

    @_answers
    async def ListAgents(self, _request: pb.Empty) -> pb.Records:
        """See control.proto."""
        return _records(await self._port.agents())

    @_answers
    async def ListCredentials(self, _request: pb.Empty) -> pb.Records:
        """See control.proto."""
        return _records(await self._port.credentials())

    @_answers
    async def ListFrozen(self, _request: pb.Empty) -> pb.Records:
        """See control.proto."""
        return _records(await self._port.frozen())

    @_answers
    async def Lineage(self, request: pb.LineageRequest) -> pb.Record:
        """See control.proto."""
        return _record(await self._port.lineage(Pid(request.pid)))

    @_answers
    async def Alert(self, request: pb.AlertRequest) -> pb.Record:
        """See control.proto."""
        return _record(await self._port.alert(request.id))

    async def Alerts(
        self, request: pb.AlertsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.Alert]:
        """See control.proto."""
        try:
            alerts = self._port.alerts(min(request.limit, MAX_ALERTS), follow=request.follow, wanted=_filter(request))
            async with aclosing(alerts):
                async for alert in alerts:
                    if alert is None:
                        await context.send_initial_metadata(())
                    elif isinstance(alert, Missed):
                        yield pb.Alert(missed=alert.count)
                    else:
                        yield pb.Alert(json=alert if isinstance(alert, bytes) else msgspec.json.encode(alert))
        except Exception as error:  # noqa: BLE001 - see _answers
            await _abort(context, error)


class AdminServicer(services.AdminServicer):  # type: ignore[misc]  # generated code has no types
    """Service Admin. Names and requests: control.proto. Secrets are wrapped on arrival, unwrapped on leaving."""

    def __init__(self, port: AdminPort) -> None:
        self._port = port

    @_answers
    async def PutCredential(self, request: pb.PutCredentialRequest) -> pb.Record:
        """See control.proto."""
        return _record(
            await self._port.put_credential(
                _credential_id(request.id), request.kind, Secret(request.secret), dict(request.attributes)
            )
        )

    @_answers
    async def GetCredential(self, request: pb.CredentialId) -> pb.MaybeSecretBytes:
        """See control.proto."""
        secret = await self._port.get_credential(_credential_id(request.id))
        return pb.MaybeSecretBytes(secret=None if secret is None else secret.reveal())

    @_answers
    async def PutOriginal(self, request: pb.PutOriginalRequest) -> pb.Empty:
        """See control.proto."""
        await self._port.put_original(_credential_id(request.id), request.path, Secret(request.content))
        return pb.Empty()

    @_answers
    async def GetOriginal(self, request: pb.CredentialId) -> pb.SecretBytes:
        """See control.proto."""
        content = await self._port.get_original(_credential_id(request.id))
        return pb.SecretBytes(secret=content.reveal())

    @_answers
    async def MakePhantom(self, request: pb.MakePhantomRequest) -> pb.SecretBytes:
        """See control.proto."""
        agent, owner_uid = _owner(request.owner)
        account = _account(request.account) if request.account else ""
        phantom = await self._port.make_phantom(agent, owner_uid, _credential_id(request.active), account)
        return pb.SecretBytes(secret=phantom.reveal())

    @_answers
    async def RemoveAgent(self, request: pb.AgentOfUser) -> pb.Removed:
        """See control.proto."""
        return pb.Removed(records=await self._port.remove_agent(*_owner(request)))

    @_answers
    async def RemoveAccount(self, request: pb.AccountOfUser) -> pb.Removed:
        """See control.proto."""
        agent, owner_uid = _owner(request.owner)
        return pb.Removed(records=await self._port.remove_account(agent, owner_uid, _account(request.account)))

    @_answers
    async def RemoveCredential(self, request: pb.CredentialId) -> pb.Removed:
        """See control.proto."""
        return pb.Removed(records=await self._port.remove_credential(CredentialId(request.id)))

    @_answers
    async def Reload(self, _request: pb.Empty) -> pb.Record:
        """See control.proto."""
        return _record(await self._port.reload())

    @_answers
    async def Freeze(self, request: pb.FreezeRequest) -> pb.Record:
        """See control.proto."""
        target: FreezeTarget
        match request.WhichOneof("who"):
            case "pid":
                target = ProcessTarget(Pid(request.pid))
            case "agent":
                target = _agent(request.agent)
            case _:
                raise MisuseError("the request names neither a process nor an agent")
        if not request.reason.strip():
            raise MisuseError("a freeze needs a reason", next_step="--reason TEXT")
        return _record(await self._port.freeze(target, request.reason))

    @_answers
    async def Thaw(self, request: pb.ThawRequest) -> pb.Thawed:
        """See control.proto."""
        target: ThawTarget
        match request.WhichOneof("which"):
            case "freeze_id":
                target = OneFreeze(request.freeze_id)
            case "agent":
                target = _agent(request.agent)
            case "all" if request.all:
                target = Everything()
            case _:
                raise MisuseError("the request does not say what to thaw")
        done = await self._port.thaw(target)
        return pb.Thawed(freezes=done.freezes, continued=done.continued, out_of_reach=done.out_of_reach)

    @_answers
    async def AckAlert(self, request: pb.AckAlertRequest) -> pb.Record:
        """See control.proto."""
        said = Acknowledgement(request.id, request.reason, Uid(request.uid), request.allowed, request.expires_ns)
        return _record(await self._port.acknowledge(said))


def _filter(request: pb.AlertsRequest) -> AlertFilter:
    severity = request.min_severity or "info"
    if severity not in SEVERITIES:
        raise MisuseError(f"a severity is one of {', '.join(SEVERITIES)}")
    return AlertFilter(request.since_ns, severity, request.kind, request.hide_acked)


def _credential_id(text: str) -> CredentialId:
    """Check the form AGENT/OWNER_UID/NAME; NAME may have parts of its own."""
    agent, _, rest = text.partition("/")
    owner, _, name = rest.partition("/")
    if not agent or not (owner.isascii() and owner.isdigit()) or not name:
        raise MisuseError("a credential's id has the form AGENT/OWNER_UID/NAME")
    return CredentialId(text)


def _account(name: str) -> str:
    if not is_account_name(name):
        raise MisuseError(ACCOUNT_NAMES)
    return name


def _owner(request: pb.AgentOfUser) -> tuple[AgentName, Uid]:
    if not request.agent:
        raise MisuseError("the request names no agent")
    return AgentName(request.agent), Uid(request.owner_uid)


def _agent(request: pb.AgentOfAnyUser) -> AgentTarget:
    if not request.agent:
        raise MisuseError("the request names no agent")
    return AgentTarget(AgentName(request.agent), Uid(request.owner_uid) if request.HasField("owner_uid") else None)
