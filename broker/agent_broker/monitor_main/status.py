"""What the monitor says of itself when it is asked."""

import agent_broker
from agent_broker.monitor.messages import MonitorStatus
from agent_broker.monitor.sight import Sight, sight_without
from agent_broker.monitor.tiers import NONE
from agent_broker.monitor_main.parts import Parts


def status_of(parts: Parts, number: int, agents: int, ringer: str, registry: tuple[str, ...]) -> MonitorStatus:
    """Return the answer to a question for the status, after a look at what the kernel has told by now.

    Args:
        parts: of the monitor.
        number: of the question.
        agents: enrolled ones.
        ringer: why it can't be believed that marks are listened to; empty: it can.
        registry: what of the registry could not be put in force.
    """
    sensor, defence = parts.sensor, parts.defence
    in_work = parts.take_in()
    problems = ((ringer,) if ringer else ()) + (*parts.tier.problems, *parts.pin_problems, *registry)
    return MonitorStatus(
        id=number,
        epoch=parts.epoch,
        tier=NONE if defence.is_blind else parts.tier.name,
        version=agent_broker.__version__,
        processes=parts.store.live,
        images=parts.store.images,
        events=0 if sensor is None else sensor.consumed,
        lost_events=0 if sensor is None else sensor.losses().total,
        incidents_made=parts.publish.made,
        incidents_in_work=in_work,
        incidents_unacknowledged=len(parts.spool.unacknowledged()),
        spool_dropped=parts.spool.dropped,
        agents=agents,
        decoys_watched=parts.watch.decoys_watched,
        credentials_watched=parts.watch.credentials_watched,
        problems=(*problems, *parts.watch.problems, *defence.problems),
        sight=Sight() if sensor is None else sight_without(sensor.missing),
        blind=defence.blind,
        proven_age_ns=defence.proven_age_ns,
        backend=parts.backend,
        offsets="" if sensor is None else sensor.offsets,
        why_not_denied="" if sensor is None else sensor.why_not_denied,
    )
