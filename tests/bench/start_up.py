"""How long each daemon takes from its start until it answers; warm page cache, an enrolled agent of full size."""

from tests.bench.figures import Figure, p50
from tests.bench.stage import Stage

_ROUNDS = 5


def run(stage: Stage) -> list[Figure]:
    monitor, broker = [], []
    for _ in range(_ROUNDS):
        stage.have(monitor=False, broker=False)
        monitor.append(stage.monitor.start())
        broker.append(stage.broker.start())
    return [
        Figure("start-monitor", p50(monitor), _detail(monitor)),
        Figure("start-broker", p50(broker), _detail(broker)),
    ]


def _detail(samples: list[float]) -> str:
    return f"median of {len(samples)}, worst {max(samples):.2f} s"
