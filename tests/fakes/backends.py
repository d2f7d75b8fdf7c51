"""The kernel side's backends, for the tests that hold for each."""

from agent_broker.kernel.bcc.sensor import BccSensor
from agent_broker.kernel.sensor import CoreSensor

BACKENDS = {"core": CoreSensor, "bcc": BccSensor}
