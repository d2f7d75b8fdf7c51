"""What the broker adds to a request that it injects a credential into, and how fast it streams an answer.

The client is an enrolled agent on two kept connections, one straight to the provider with a key of its own, one through
the broker with the phantom; requests take turns. Both answers come from the same mock provider, a Python process.
"""

import json
from pathlib import Path

from tests.bench.figures import Figure, ms, p50, p99
from tests.bench.stage import REAL_KEY, Stage

_WARM_UP = 50
_REQUESTS = 1000
_STREAMS = 5
_STREAM_BYTES = 64 << 20
_EVENT_BYTES = 64 << 10

_REQUEST = """POST /v1/messages HTTP/1.1\r
Host: 127.0.0.1:{port}\r
Content-Type: application/json\r
anthropic-version: 2023-06-01\r
x-api-key: {key}\r
Content-Length: {length}\r
\r
{body}"""


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=True, broker=True)
    stage.provider.behave("{}")
    pairs = request_pairs(stage, stream=False)
    exchange(stage, _WARM_UP, pairs)
    direct, brokered = _times(exchange(stage, _REQUESTS, pairs))
    stage.provider.behave(json.dumps({"answer": "x" * _EVENT_BYTES, "events": _STREAM_BYTES // _EVENT_BYTES}))
    pairs = request_pairs(stage, stream=True)
    exchange(stage, 1, pairs)
    straight, through = _rates(exchange(stage, _STREAMS, pairs))
    stage.provider.behave("{}")
    return [
        _added("inject-p50", p50(direct), p50(brokered)),
        _added("inject-p99", p99(direct), p99(brokered)),
        Figure(
            "inject-stream",
            p50(through) / p50(straight),
            f"{p50(through):.0f} / {p50(straight):.0f} MB/s, events of {_EVENT_BYTES >> 10} KiB",
        ),
    ]


def _added(key: str, direct_ns: float, brokered_ns: float) -> Figure:
    return Figure(key, (brokered_ns - direct_ns) / 1e6, f"{ms(brokered_ns)} / direct {ms(direct_ns)}")


def request_pairs(stage: Stage, *, stream: bool) -> list[str | Path]:
    """Return (port, file of the request) for the direct way and for the broker's."""
    ways = {"direct": (stage.provider.port, REAL_KEY), "brokered": (stage.inject_port, stage.phantom)}
    body = json.dumps({"model": "mock", "stream": stream, "messages": [{"role": "user", "content": "hello " * 50}]})
    pairs: list[str | Path] = []
    for name, (port, key) in ways.items():
        file = stage.folder / f"{name}.http"
        file.write_text(_REQUEST.format(port=port, key=key.decode(), length=len(body), body=body), newline="")
        pairs += [str(port), file]
    return pairs


def exchange(stage: Stage, count: int, pairs: list[str | Path]) -> list[list[int]]:
    return stage.as_owner(stage.driver("exchanger"), str(count), *pairs, timeout_s=100)


def _times(lines: list[list[int]]) -> tuple[list[int], list[int]]:
    return [line[0] for line in lines], [line[2] for line in lines]


def _rates(lines: list[list[int]]) -> tuple[list[float], list[float]]:
    """MB a second."""
    return [line[1] * 1e3 / line[0] for line in lines], [line[3] * 1e3 / line[2] for line in lines]
