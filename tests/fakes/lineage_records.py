"""Records of lineage with plain defaults, for tests that care about a few of their fields."""

from agent_broker.identity.evidence import Principal
from agent_broker.lineage.record import FileFacts, Image, Step

FILE = FileFacts(
    dev=1,
    ino=2,
    generation=3,
    size_bytes=4,
    mtime_ns=5,
    ctime_ns=6,
    mode=0o100755,
    owner_uid=0,
    nlink=1,
    fs_magic=0xEF53,
)


def a_step(proc_id, relation="fork"):
    image = Image(
        exec_id=proc_id,
        proc_id=proc_id,
        previous_exec_id=0,
        uid=1000,
        pid=4000 + proc_id,
        exec_ns=99,
        file=FILE,
        filename="/usr/bin/scanner",
        interp="/usr/bin/scanner",
        argv0="scanner",
        args_head=("scanner", "-q"),
        observed=True,
        taints=(),
    )
    return Step(proc_id=proc_id, image=image, relation=relation, exited=False)


def a_lineage(*proc_ids):
    return tuple(a_step(each) for each in proc_ids)


def a_principal(agent="claude", owner_uid=1000):
    return Principal(agent=agent, owner_uid=owner_uid, proc_id=10, exec_id=20, sha256="0" * 64, is_caller=True, depth=0)
