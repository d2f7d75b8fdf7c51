"""What happens to an enrolled agent: rows of one installation and login share one enrolment, one after the other."""

import time
from collections.abc import Iterator, Sequence

from tests.demo.check import StepFailedError
from tests.e2e.agents.place import Place
from tests.e2e.agents.row import DeedOutcome, DeedRow


def measure_deeds(place: Place, rows: Sequence[DeedRow]) -> Iterator[DeedOutcome]:
    """Yield what came of each row, as soon as it is done."""
    group: list[DeedRow] = []
    for row, following in zip(rows, (*rows[1:], None), strict=False):  # no rows, no pairs
        group.append(row)
        if following is None or following.enrolled_anew or following.login != row.login:
            yield from _group(place, group)
            group = []


def _group(place: Place, rows: list[DeedRow]) -> Iterator[DeedOutcome]:
    client, layout, way = rows[0].client, rows[0].layout, rows[0].way
    try:
        place.install(client, layout)
        place.log_in((client.ways | client.more_ways)[way]())
        place.enroll(client)
    except StepFailedError as error:
        yield from (DeedOutcome(row, problem=f"not enrolled: {error}") for row in rows)
        return
    try:
        for row in rows:
            yield _measure(place, row)
    finally:
        place.forget(client)


def _measure(place: Place, row: DeedRow) -> DeedOutcome:
    began_s = time.monotonic()
    result = problem = ""
    try:
        place.answers()
        result = row.act(place, row.client)
    except StepFailedError as error:
        problem = str(error)
    finally:
        place.end_processes()
    return DeedOutcome(row, result, problem, time.monotonic() - began_s)
