"""A loopback provider that speaks the Anthropic API, remembers which credentials it saw, and fails on demand.

It is a world, not a mock: tests start it in their own loop (``async with MockProvider() as provider``) and
change ``provider.mode`` by assignment; demos run it as a process and change the mode file, which is read
again on every request. Server-sent events leave one by one, each in its own chunk.

    python mock_provider.py --port 18080 --log seen.jsonl --mode mode.json
"""

import argparse
import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from msgspec import Struct, field

AUTH_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "proxy-authorization", "cookie")
_HOLD_POLL_S = 0.02


class Mode(Struct, forbid_unknown_fields=True):
    """How the provider behaves; every default is a healthy provider."""

    answer: str = "MOCK-OK"
    tool_cmd: str = ""
    """The first turn of a conversation that offers a Bash tool asks it to run this."""
    reject: list[str] = field(default_factory=list)
    """Requests whose authentication headers contain one of these get 401."""
    status: int = 200
    """Any other: model requests are answered with this status."""
    location: str = ""
    """Sent as ``Location`` with a status that is not 200."""
    delay_s: float = 0.0
    """Before the answer's first byte."""
    event_delay_s: float = 0.0
    """Between two server-sent events."""
    replies: dict[str, str] = field(default_factory=dict)
    """A request with one of these texts in its target or body is answered with what it stands for, without a tool."""
    events: int = 1
    """Text events of one streamed answer, each carrying ``answer``."""
    break_after: int = -1
    """Not negative: the connection is cut after so many events of a stream."""
    hold_after: int = -1
    """Not negative: after so many events of a stream, the others wait until the file ``hold_for`` is there."""
    hold_for: str = ""
    token_status: int = 200
    """Of the OAuth token endpoint; any other: no tokens are given."""
    token_delay_s: float = 0.0
    token_lifetime_s: int = 28800
    new_access: str = ""
    """The access token that a refresh gives; empty: numbered ones."""
    date_s: int = 0
    """What the token endpoint says the time is (Date), Unix time; 0: the machine's."""
    rotate: bool = True
    """False: a refresh gives no new refresh token."""
    aws_keys: dict[str, list[str]] = field(default_factory=dict)
    """By access key id: secret key and session token, with which requests to Bedrock have to be signed."""
    google_accounts: dict[str, str] = field(default_factory=dict)
    """By a service account's name: its public key (PEM)."""
    google_logins: dict[str, list[str]] = field(default_factory=dict)
    """By refresh token: the client's id and secret."""


class Seen(Struct):
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    """Lower-case names; a repeated header's values are joined by a comma."""
    body_bytes: int
    json: object = None
    marks: tuple[str, ...] = ()
    """The texts of ``mode.replies`` that its target or body contains."""

    @property
    def auth(self) -> dict[str, str]:
        """The authentication headers alone."""
        return {name: self.headers[name] for name in AUTH_HEADERS if name in self.headers}


class MockProvider:
    """The provider; ``seen`` holds every request, newest last."""

    def __init__(self, *, mode_file: Path | None = None, log: Path | None = None) -> None:
        self.mode = Mode()
        self.seen: list[Seen] = []
        self.disconnects = 0
        """Answers that the client did not wait for."""
        self.finished = 0
        """Answers that were given to their end."""
        self._mode_file = mode_file
        self._log = log
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.scheme = "http"

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen on loopback; port 0 picks a free one."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.scheme = "https" if tls else "http"

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except (asyncio.CancelledError, ConnectionError):
            self.disconnects += 1
            raise
        self.finished += 1
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        seen = await self._record(request)
        mode = self._current_mode()
        if mode.delay_s:
            await asyncio.sleep(mode.delay_s)
        auth = " ".join(seen.auth.values())
        if any(value in auth for value in mode.reject):
            return _error(401, "authentication_error", "invalid x-api-key (mock 401)")
        path = request.path
        if path.endswith("/v1/oauth/token"):
            return await self._token(mode)
        if path.endswith("/v1/messages/count_tokens"):
            return web.json_response({"input_tokens": 10})
        if path.endswith("/v1/messages"):
            return await self._messages(request, seen, mode)
        if path in {"/", "/api/hello"}:
            return web.json_response({"message": "hello"})
        return _error(404, "not_found_error", "mock: not found")

    async def _record(self, request: web.Request, instead: Mapping[str, str] | None = None) -> Seen:
        """Keep a request; ``instead``: what is kept of headers whose values are not to be kept."""
        body = await request.read()
        try:
            parsed = json.loads(body) if body else None
        except ValueError:
            parsed = None
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]},{value}" if key in headers else value
        headers |= instead or {}
        whole = request.raw_path.encode() + body
        whole += unquote_to_bytes(whole)  # of a form, both as it came and as it is meant
        marks = tuple(mark for mark in self._current_mode().replies if mark.encode() in whole)
        seen = Seen(request.method, request.raw_path, headers, len(body), parsed, marks)
        self.seen.append(seen)
        if self._log:
            line = {"method": seen.method, "target": seen.target, "auth": seen.auth, "headers": headers}
            line["marks"] = seen.marks
            with self._log.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return seen

    def _current_mode(self) -> Mode:
        if self._mode_file and self._mode_file.exists():
            return msgspec.json.decode(self._mode_file.read_bytes(), type=Mode)
        return self.mode

    async def _token(self, mode: Mode) -> web.StreamResponse:
        await asyncio.sleep(mode.token_delay_s)
        if mode.token_status != 200:
            return _error(mode.token_status, "invalid_grant", "mock failure", mode.location)
        number = len(self.seen)
        tokens = {
            "token_type": "Bearer",
            "access_token": mode.new_access or f"mock-access-{number}",
            "expires_in": mode.token_lifetime_s,
            "scope": "user:inference user:profile",
        }
        headers = {"Date": formatdate(mode.date_s, usegmt=True)} if mode.date_s else {}
        rotated = {"refresh_token": f"mock-refresh-{number}"} if mode.rotate else {}
        return web.json_response({**tokens, **rotated}, headers=headers)

    async def _messages(self, request: web.Request, seen: Seen, mode: Mode) -> web.StreamResponse:
        if mode.status != 200:
            return _error(mode.status, "api_error", "mock failure", mode.location)
        body = seen.json if isinstance(seen.json, dict) else {}
        if seen.marks:
            mode = msgspec.structs.replace(mode, answer=mode.replies[seen.marks[0]], tool_cmd="")
        turn = Turn(body, mode, len(self.seen))
        if not body.get("stream"):
            return web.json_response(turn.whole())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        sent = 0
        async for event in turn.stream():
            if sent == mode.break_after and request.transport:
                request.transport.close()
                break
            await held_back(mode, sent)
            await response.write(event)
            sent += 1
        return response


async def held_back(mode: Mode, sent: int) -> None:
    """Return when one more event may leave, after so many that were sent."""
    while 0 <= mode.hold_after <= sent and not Path(mode.hold_for).exists():
        await asyncio.sleep(_HOLD_POLL_S)


class Turn:
    """One answer of the model: text, or one call of the Bash tool."""

    def __init__(self, body: dict[str, object], mode: Mode, number: int) -> None:
        self._mode = mode
        self._tool = _bash_of(body)
        self._calls_tool = bool(mode.tool_cmd) and bool(self._tool) and not _has_tool_result(body)
        self._head = {
            "id": f"msg_mock_{number}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", "mock"),
            "stop_sequence": None,
        }

    @property
    def _stop(self) -> str:
        return "tool_use" if self._calls_tool else "end_turn"

    @property
    def _tool_input(self) -> dict[str, str]:
        return {"command": self._mode.tool_cmd, "description": "mock"}

    def whole(self) -> dict[str, object]:
        """Return the answer of a request that does not stream."""
        block: dict[str, object] = {"type": "text", "text": self._mode.answer * self._mode.events}
        if self._calls_tool:
            block = {"type": "tool_use", "id": "toolu_mock1", "name": self._tool, "input": self._tool_input}
        usage = {"input_tokens": 10, "output_tokens": 3}
        return {**self._head, "content": [block], "stop_reason": self._stop, "usage": usage}

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the encoded events, with the mode's delay between two."""
        for number, event in enumerate(self.events()):
            if number and self._mode.event_delay_s:
                await asyncio.sleep(self._mode.event_delay_s)
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()

    def events(self) -> list[dict[str, object]]:
        """Return the events of a streamed answer."""
        block: dict[str, object] = {"type": "text", "text": ""}
        delta: dict[str, object] = {"type": "text_delta", "text": self._mode.answer}
        if self._calls_tool:
            block = {"type": "tool_use", "id": "toolu_mock1", "name": self._tool, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(self._tool_input)}
        message = {**self._head, "content": [], "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
        count = 1 if self._calls_tool else self._mode.events
        return [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            *[{"type": "content_block_delta", "index": 0, "delta": delta}] * count,
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": self._stop, "stop_sequence": None},
                "usage": {"output_tokens": 3},
            },
            {"type": "message_stop"},
        ]


def _bash_of(body: dict[str, object]) -> str:
    """Return the name under which a Bash tool is offered; empty: none is."""
    tools = body.get("tools")
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return next((name for name in names if name in {"Bash", "bash"}), "")


def _has_tool_result(body: dict[str, object]) -> bool:
    messages = body.get("messages")
    return any(
        isinstance(block, dict) and block.get("type") == "tool_result"
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
    )


def _error(status: int, kind: str, message: str, location: str = "") -> web.Response:
    headers = {"Location": location} if location else {}
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return web.json_response(body, status=status, headers=headers)


async def serve(provider: MockProvider, port: int) -> None:
    """Serve until the process is ended; says where once it listens."""
    await provider.start(port)
    print(f"mock provider on {provider.base_url}", flush=True)
    await asyncio.Event().wait()


def main(make: Callable[..., MockProvider] = MockProvider) -> None:
    """Run the provider as a process until it is ended."""
    parser = argparse.ArgumentParser(description="loopback provider for tests and demos")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--mode", type=Path)
    arguments = parser.parse_args()
    asyncio.run(serve(make(mode_file=arguments.mode, log=arguments.log), arguments.port))


if __name__ == "__main__":
    main()
