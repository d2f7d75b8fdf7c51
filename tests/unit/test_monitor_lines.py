"""Whose doing it is: what is one line, and what is two."""

import msgspec

from agent_broker.identity.evidence import Evidence, Freshness, Principal, Unknown
from agent_broker.monitor.lines import UNIDENTIFIED, line_of
from tests.fakes.lineage_records import FILE, a_step

BASH, CAT, PYTHON, TERMINAL = 1, 2, 3, 4


def lineage(*processes, uid=1000):
    """Return steps, the opener first: (number, inode of its file) or (number, inode, uid) each."""
    steps = []
    for number, ino, *other in processes:
        step = a_step(number, "fork" if steps else "self")
        file = msgspec.structs.replace(FILE, ino=ino)
        image = msgspec.structs.replace(step.image, file=file, uid=other[0] if other else uid)
        steps.append(msgspec.structs.replace(step, image=image))
    return tuple(steps)


def below_agent(steps, agent):
    principal = Principal("claude", 1000, agent, agent, "0" * 64, is_caller=steps[0].proc_id == agent, depth=1)
    return evidence(steps, principal)


def evidence(steps, principal=None):
    return Evidence(Freshness("e", 1, 1, 0), steps[0].image.uid, steps, principal, (), "t")


def line(*processes, **more):
    return line_of(evidence(lineage(*processes, **more))).line


def test_all_that_a_tool_of_an_agent_starts_is_one_line_and_two_tools_are_two():
    scanner = [line_of(below_agent(lineage((n, CAT), (50, PYTHON), (40, BASH), (10, 9)), 10)) for n in (60, 61, 62)]
    other = line_of(below_agent(lineage((70, CAT), (41, BASH), (10, 9)), 10))

    assert len({each.line for each in scanner}) == 1
    assert other.line != scanner[0].line
    assert other.family == scanner[0].family == ("agent", 10)
    assert (other.agent, other.offender) == (10, 41)


def test_a_double_fork_below_a_tool_is_still_the_tools():
    steps = lineage((63, PYTHON), (62, PYTHON), (50, PYTHON), (40, BASH), (10, 9))

    assert line_of(below_agent(steps, 10)).line == ("tool", 40)


def test_the_tainted_agent_is_a_line_of_its_own_and_not_its_tools():
    itself = line_of(below_agent(lineage((10, 9), (5, BASH)), 10))
    tool = line_of(below_agent(lineage((40, BASH), (10, 9), (5, BASH)), 10))

    assert itself.line != tool.line
    assert itself.agent is None


def test_children_that_run_the_same_file_are_their_ancestors_line():
    shell = (5, BASH)
    forked = [line((n, PYTHON), (50, PYTHON), shell) for n in (51, 52)]
    chained = line((53, PYTHON), (52, PYTHON), (51, PYTHON), (50, PYTHON), shell)

    assert len({*forked, chained, line((50, PYTHON), shell)}) == 1


def test_what_one_process_starts_again_and_again_is_one_line():
    script, shell = (50, PYTHON), (5, BASH)

    assert line((60, CAT), script, shell) == line((61, CAT), script, shell)
    assert line((62, CAT), (61, PYTHON), script, shell) == line((60, CAT), script, shell)
    assert line((60, CAT), script, shell) != line((61, BASH), script, shell)
    assert line((60, CAT), script, shell) != line((60, CAT), (70, PYTHON), (6, TERMINAL))


def test_another_users_process_is_where_a_line_ends():
    login = (4, BASH, 0)

    assert line((60, BASH), login) != line((61, BASH), login)
    assert line((61, BASH), (60, BASH), login) == line((60, BASH), login)


def test_a_lineage_with_a_gap_is_not_mixed_with_one_without():
    steps = lineage((60, CAT), (50, PYTHON))
    known, unknown = line_of(evidence(steps)), line_of(Unknown("events were lost", uid=1000, steps=steps))

    assert known.family != unknown.family
    assert unknown.line == known.line


def test_of_whom_nothing_is_known_is_one_line():
    assert line_of(Unknown("it was gone")) == line_of(Unknown("never seen")) == UNIDENTIFIED
