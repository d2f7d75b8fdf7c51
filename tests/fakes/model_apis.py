"""The mock provider, speaking OpenAI's Responses API and Gemini's besides, and telling a test who calls.

python -m tests.fakes.model_apis --port 18080 --log seen.jsonl --mode mode.json
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from msgspec import structs

from tests.fakes.mock_provider import MockProvider, Mode, Seen, held_back, main

Who = Callable[[web.Request], Awaitable[object]]
_FIXED: dict[str, dict[str, object]] = {
    "whoami": {},
    "countTokens": {"totalTokens": 10},
    "models": {"object": "list", "data": [], "models": []},
    "tokeninfo": {"expires_in": 3600, "scope": "openid"},
    "userinfo": {"email": "dev@example.com"},
}
"""Answers by the last part of the path. ``whoami`` only says who calls."""

_CODE_ASSIST = {"currentTier": {"id": "standard-tier", "name": "mock"}, "cloudaicompanionProject": "mock-project"}
"""What a Google login may use: the answer to the first request of each start."""


class ModelProvider(MockProvider):
    """See the module.

    Attributes:
        callers: (path, what ``who`` said) of every request, oldest first.
    """

    def __init__(self, who: Who | None = None, *, mode_file: Path | None = None, log: Path | None = None) -> None:
        super().__init__(mode_file=mode_file, log=log)
        self.callers: list[tuple[str, object]] = []
        self._who = who

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._who:
            self.callers.append((request.path, await self._who(request)))
        if request.headers.get("upgrade"):
            return web.json_response({"error": {"message": "no websockets here"}}, status=426)
        fixed = _FIXED.get(request.path.rpartition("/")[2].rpartition(":")[2])
        if fixed is not None:
            return web.json_response(fixed)
        if request.path in {"/oauth/token", "/token"}:
            await self._record(request)
            return await self._token(self._current_mode())
        if request.path.endswith(("/responses", "/chat/completions")):
            return await self._openai(request)
        is_gemini = "enerateContent" in request.path or "/v1internal:" in request.path
        return await (self._gemini(request) if is_gemini else super()._answer(request))

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        seen = await self._record(request)
        mode = self._mode_for(seen)
        if request.path.endswith("/responses"):
            return await _stream(request, mode, openai_events(_body(seen), mode), named=True)
        answer = chat_completion(_body(seen), mode)
        if _body(seen).get("stream"):
            return await _stream(request, mode, chat_chunks(answer, mode.events), named=False)
        return web.json_response(answer)

    def _mode_for(self, seen: Seen) -> Mode:
        """Return how one request is answered: one with a text of ``replies`` as that says, without a tool."""
        mode = self._current_mode()
        return structs.replace(mode, answer=mode.replies[seen.marks[0]], tool_cmd="") if seen.marks else mode

    async def _gemini(self, request: web.Request) -> web.StreamResponse:
        """Answer for the model; Code Assist, where Google logins go, has everything in an envelope."""
        seen = await self._record(request)
        mode = self._mode_for(seen)
        if "enerateContent" not in request.path:
            return web.json_response(_CODE_ASSIST if request.path.endswith(":loadCodeAssist") else {})
        body, in_envelope = _body(seen), "/v1internal:" in request.path
        body = body.get("request", {}) if in_envelope else body
        if "streamGenerateContent" in request.path:
            answers = gemini_answers(body, mode)
            answers = [{"response": each, "traceId": "mock"} for each in answers] if in_envelope else answers
            return await _stream(request, mode, answers, named=False)
        answer = gemini_answer(body, mode)
        return web.json_response({"response": answer} if in_envelope else answer)


def chat_completion(body: dict, mode: Mode) -> dict:
    """Return one answer of OpenAI's older interface, which many agents speak: text or a call of a shell tool, whole."""
    message: dict = {"role": "assistant", "content": mode.answer}
    call = _chat_call(body, mode.tool_cmd) if mode.tool_cmd else None
    if call is not None:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", ""),
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }


def _chat_call(body: dict, command: str) -> dict | None:
    """Return a call of the shell tool that is offered; None: there is none, or it was called already."""
    names = {each.get("function", {}).get("name") for each in body.get("tools", []) if isinstance(each, dict)}
    name = next((each for each in ("bash", "run_shell_command") if each in names), "")
    if not name or any(each.get("role") == "tool" for each in body.get("messages", [])):
        return None
    arguments = {"command": command, "description": "mock", "is_background": False}
    return {"id": "call_mock1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def chat_chunks(answer: dict, events: int = 1) -> list[dict]:
    """Return the pieces of such an answer as it is streamed: the text so often, or a call, and its end."""
    head = {**answer, "object": "chat.completion.chunk"}
    choice = answer["choices"][0]
    delta = {**choice["message"]}
    if "tool_calls" in delta:
        delta["tool_calls"] = [{**each, "index": 0} for each in delta["tool_calls"]]
        events = 1
    piece = {"index": 0, "delta": delta, "finish_reason": None}
    return [
        *[{**head, "choices": [piece], "usage": None}] * events,
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]},
    ]


def openai_events(body: dict, mode: Mode) -> list[dict]:
    """Return the events of one answer: text, or a call of the shell tool under whichever name it is offered."""
    item = {
        "type": "message",
        "role": "assistant",
        "id": "msg_mock1",
        "status": "completed",
        "content": [{"type": "output_text", "text": mode.answer, "annotations": []}],
    }
    given = [each for each in body.get("input", []) if isinstance(each, dict)]
    if mode.tool_cmd and not any(str(each.get("type")).endswith("_output") for each in given):
        item = _openai_call(_openai_tools(body, given), mode.tool_cmd) or item
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 13,
    }
    response = {"id": "resp_mock", "object": "response"}
    return [
        {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [item], "usage": usage},
        },
    ]


def _openai_tools(body: dict, given: list[dict]) -> set[str]:
    tools = list(body.get("tools", []))
    for each in given:  # Codex carries the tools of its code mode in the input
        if each.get("type") == "additional_tools":
            tools += each.get("tools", [])
            tools += [inner for tool in each.get("tools", []) for inner in tool.get("tools", [])]
    return {tool.get("name") or tool.get("type") for tool in tools if isinstance(tool, dict)}


def _openai_call(names: set[str], command: str) -> dict | None:
    head = {"id": "fc_mock1", "call_id": "call_mock1"}
    shell = ["bash", "-lc", command]
    if "exec_command" in names:
        arguments = {"cmd": command, "yield_time_ms": 5000}
        return {**head, "type": "function_call", "name": "exec_command", "arguments": json.dumps(arguments)}
    if "shell_command" in names:
        arguments = {"command": command}
        return {**head, "type": "function_call", "name": "shell_command", "arguments": json.dumps(arguments)}
    if "shell" in names:
        return {**head, "type": "function_call", "name": "shell", "arguments": json.dumps({"command": shell})}
    if "exec" in names:
        code = f"const r = await tools.exec_command({{cmd: {json.dumps(command)}}}); text(JSON.stringify(r));"
        return {**head, "type": "custom_tool_call", "name": "exec", "input": code}
    return None


def gemini_answer(body: dict, mode: Mode) -> dict:
    """Return one answer: text, a call of the shell tool, or what a request for JSON expects."""
    parts = [part for content in body.get("contents", []) for part in content.get("parts", [])]
    names = {each.get("name") for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])}
    config = body.get("generationConfig", {})
    part: dict = {"text": mode.answer}
    if mode.tool_cmd and "run_shell_command" in names and not any("functionResponse" in each for each in parts):
        arguments = {"command": mode.tool_cmd, "description": "mock"}
        part = {"functionCall": {"name": "run_shell_command", "args": arguments}}
    elif config.get("responseMimeType") == "application/json" or "responseJsonSchema" in config:
        answer = {"reasoning": "mock", "next_speaker": "user", "model_choice": "flash", "complexity_score": 1}
        part = {"text": json.dumps({**answer, "complexity_reasoning": "mock"})}
    content = {"role": "model", "parts": [part]}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 13}
    candidates = [{"content": content, "finishReason": "STOP", "index": 0}]
    return {"candidates": candidates, "usageMetadata": usage, "modelVersion": "mock"}


def gemini_answers(body: dict, mode: Mode) -> list[dict]:
    """Return the parts of one streamed answer: a text of several events comes in as many, anything else in one."""
    whole = gemini_answer(body, mode)
    if "text" not in whole["candidates"][0]["content"]["parts"][0]:
        return [whole]
    unfinished = {key: value for key, value in whole["candidates"][0].items() if key != "finishReason"}
    return [{**whole, "candidates": [unfinished]}] * (mode.events - 1) + [whole]


def _body(seen: Seen) -> dict:
    return seen.json if isinstance(seen.json, dict) else {}


async def _stream(request: web.Request, mode: Mode, events: list[dict], *, named: bool) -> web.StreamResponse:
    """Send the events one by one, each in its own chunk."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for sent, each in enumerate(events):
        await held_back(mode, sent)
        name = f"event: {each['type']}\n" if named else ""
        await response.write(f"{name}data: {json.dumps(each)}\n\n".encode())
    return response


if __name__ == "__main__":
    main(ModelProvider)
