"""An enrolment in a home where decoys were planted (needs root)."""

import dataclasses

from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.user_files import UserFiles
from agent_broker.identity.planted import PlantedDecoy
from tests.fakes.enroll_world import URL, EnrollWorld


def test_the_search_passes_over_planted_decoys(monkeypatch):
    """They are watched: an enrolment that opened them would be an alert."""
    world = EnrollWorld()
    passed_over = []
    scan = UserFiles.scan

    def look(files, order, *more):
        passed_over.append(order.skip)
        return scan(files, order, *more)

    monkeypatch.setattr(UserFiles, "scan", look)
    world.full()
    decoy = PlantedDecoy(str(world.home / ".env"), "env-file", world.owner.uid, "ann", "planted", 1, 0)
    site = dataclasses.replace(world.site(), planted=(decoy,))
    apply_plan(world.plan(), site, injection_url=URL)
    world.close()
    assert passed_over == [(".env",)]
