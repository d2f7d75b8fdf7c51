"""Events to images: the lazy half of the store, run only for processes that somebody asks about."""

from agent_broker.ids import ExecId, ProcId
from agent_broker.kernel import wire
from agent_broker.kernel.events import Exec, FileFacts, Seed
from agent_broker.lineage.record import Image
from agent_broker.lineage.text import plain, plain_without_secrets

_NONE = ExecId(0)
_TAMPERING = {
    wire.TAINT_TRACED: "another process traced it after it started",
    wire.TAINT_WRITTEN: "another process wrote into its memory",
    wire.TAINT_SIGNALLED: "another process sent it SIGUSR1, at which Node opens its debugger",
    wire.TAINT_MAPPED: "it mapped code from a file that is neither root's nor part of the agent",
}


def image_of_exec(event: Exec) -> Image:
    """Return the image that an Exec event announced."""
    file, detail = wire.decode_exec_detail(event.raw)
    arguments = detail.args_head.split(b"\0")
    if detail.args_bytes <= len(detail.args_head) and arguments and not arguments[-1]:
        arguments.pop()  # the terminator of the last argument
    return Image(
        exec_id=event.exec_id,
        proc_id=event.proc_id,
        previous_exec_id=event.previous_exec_id,
        uid=detail.uid,
        pid=event.pid,
        exec_ns=detail.time_ns,
        file=file,
        filename=plain(detail.filename),
        interp=plain(detail.interp),
        argv0=plain(arguments[0]) if arguments else "",
        args_head=tuple(plain_without_secrets(each) for each in arguments[1:]),
        observed=True,
        taints=_taints_of(file, detail.flags),
        mount_ns=detail.mount_ns,
        user_namespace=bool(detail.flags & wire.EXEC_USER_NAMESPACE),
        user_mounted=bool(detail.flags & wire.EXEC_USER_MOUNTED),
    )


def image_of_seed(event: Seed, name: str) -> Image:
    """Return the image of a process that is older than the monitor; ``name`` is for display only."""
    file, start_ns, uid = wire.decode_seed_detail(event.raw)
    return Image(
        exec_id=event.exec_id,
        proc_id=event.proc_id,
        previous_exec_id=_NONE,
        uid=uid,
        pid=event.pid,
        exec_ns=start_ns,
        file=file,
        filename=name,
        interp="",
        argv0=name,
        args_head=(),
        observed=False,
        taints=(),
    )


def own_image(image: Image, proc_id: ProcId) -> bool:
    """Tell whether the process itself executed the image; a forked child only runs its parent's."""
    return image.proc_id == proc_id


def tampering(taints: int) -> tuple[str, ...]:
    """Return a sentence for each of kernel.wire's TAINT bits."""
    return tuple(sentence for bit, sentence in _TAMPERING.items() if taints & bit)


def _taints_of(file: FileFacts, flags: int) -> tuple[str, ...]:
    found = []
    if flags & wire.EXEC_TRACED:
        found.append("a tracer was attached when it started")
    if flags & wire.EXEC_WRITTEN:
        found.append("another process wrote into its memory while it started")
    if flags & wire.EXEC_SIGNALLED:
        found.append("SIGUSR1 was waiting for it when it started, at which Node opens its debugger")
    if flags & wire.EXEC_OPEN_FOR_WRITING:
        found.append("its executable was open for writing when it started")
    if file.nlink == 0:
        found.append("its executable has no name (deleted, or made in memory)")
    return tuple(found)
