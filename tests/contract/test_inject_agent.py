"""A whole agent through the endpoint: settings, probe, stream, tool call, answer; and the same without permission."""

import asyncio
import json
import os

import pytest

from tests.fakes.agent import VERSION, build_agent
from tests.fakes.inject import REAL_KEY, InjectWorld
from tests.fakes.mock_provider import MockProvider, Mode


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    return build_agent(tmp_path_factory.mktemp("bin") / "claude")


@pytest.fixture
async def world(tmp_path):
    async with MockProvider() as provider, InjectWorld(provider).serving(tmp_path) as served:
        served.monitor.agents = set()
        yield served


@pytest.fixture
def home(tmp_path, world):
    settings = {"model": "x", "env": {"ANTHROPIC_BASE_URL": world.base_url, "ANTHROPIC_AUTH_TOKEN": world.phantom}}
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude/settings.json").write_text(json.dumps(settings))
    return tmp_path


async def run(world, binary, home, *, enrolled=True, **environment):
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], **environment}
    process = await asyncio.create_subprocess_exec(
        binary, "-p", 'say "hi"\n', env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    if enrolled:
        world.monitor.agents.add(process.pid)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_the_agent_gets_its_answer_without_holding_the_key(world, binary, home):
    world.provider.mode = Mode(answer='He said "\u00e4h"\n', events=2)
    assert await run(world, binary, home) == (0, 'He said "?h"\nHe said "?h"\n\n')
    assert [seen.auth for seen in world.provider.seen] == [{"x-api-key": REAL_KEY}]
    assert world.provider.seen[0].json["messages"] == [{"role": "user", "content": 'say "hi"\n'}]


async def test_a_tool_call_runs_and_its_output_goes_back(world, binary, home):
    world.provider.mode = Mode(tool_cmd="printf 'a\\t\"b\"'; echo $CLAUDECODE >&2", answer="done")
    assert await run(world, binary, home) == (0, "done\n")
    result = world.provider.seen[-1].json["messages"][-1]["content"][0]
    assert (result["type"], result["content"]) == ("tool_result", 'a\t"b"1\n')


async def test_the_unix_socket_works_too(world, binary, home):
    assert await run(world, binary, home, ANTHROPIC_UNIX_SOCKET=world.unix_path) == (0, "MOCK-OK\n")
    assert {ask.channel for ask in world.issuer.asks} == {"inject unix"}


async def test_a_program_that_is_not_the_agent_sees_why_not(world, binary, home):
    code, output = await run(world, binary, home, enrolled=False)
    assert code == 1
    assert "API Error: 403" in output
    assert "the caller is not claude" in output
    assert world.provider.seen == []


async def test_a_tool_that_uses_the_phantom_is_refused_in_the_middle_of_the_agents_turn(world, binary, home):
    curl = (
        'python3 -c "import urllib.request as u, sys; '
        "r = u.Request(sys.argv[1] + '/v1/messages', b'{}', {'x-api-key': sys.argv[2]}); u.urlopen(r)\" "
        f"{world.base_url} {world.phantom} 2>&1 | tail -1"
    )
    world.provider.mode = Mode(tool_cmd=curl)
    assert (await run(world, binary, home))[0] == 0
    result = world.provider.seen[-1].json["messages"][-1]["content"][0]["content"]
    assert "HTTP Error 403" in result
    assert len(world.provider.seen) == 2


async def test_its_version(binary, world, home):
    process = await asyncio.create_subprocess_exec(binary, "--version", stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0].decode() == VERSION + "\n"


async def test_an_answer_that_breaks_off_ends_the_agent(world, binary, home):
    world.provider.mode = Mode(break_after=2)
    code, output = await run(world, binary, home)
    assert code == 1
    assert "broke off" in output
