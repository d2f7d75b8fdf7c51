"""Events to images: the lazy half of the store, run only for processes that somebody asks about."""

from agent_broker.ids import ExecId, ProcId
from agent_broker.kernel import wire
from agent_broker.kernel.events import Exec, FileFacts, Seed
from agent_broker.lineage.record import Image
from agent_broker.lineage.text import plain, plain_without_secrets

_NONE = ExecId(0)


def image_of_exec(event: Exec, taints: tuple[str, ...]) -> Image:
    """Return the image that an Exec event announced; ``taints`` are those found in its strings."""
    file, detail = wire.decode_exec_detail(event.raw)
    arguments = detail.args_head.split(b"\0")
    if detail.args_bytes <= len(detail.args_head) and arguments and not arguments[-1]:
        arguments.pop()  # the terminator of the last argument
    traced = bool(detail.flags & wire.EXEC_TRACED)
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
        taints=(*taints, *_taints_of(file, traced=traced)),
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


def _taints_of(file: FileFacts, *, traced: bool) -> tuple[str, ...]:
    found = []
    if traced:
        found.append("a tracer was attached when it started")
    if file.nlink == 0:
        found.append("its executable has no name (deleted, or made in memory)")
    return tuple(found)
