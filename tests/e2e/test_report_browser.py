"""The report of an incident, opened in a real browser: light, dark, on a phone, printed; with hostile names in it."""

import asyncio
import struct
import tempfile
from pathlib import Path

import pytest

from agent_broker.cli.report_page import report_page
from agent_broker.cli.story import story_of
from tests.fakes.browser import Browser, browser
from tests.fakes.control import NOON_NS
from tests.fakes.incidents import LINEAGE, acknowledged, hostile, opened_decoy

pytestmark = pytest.mark.e2e
PICTURES = Path(__file__).parents[2] / ".build/report"
PHONE = 390
DESK = 900

SCREENS = (("light", DESK, False), ("dark", DESK, True), ("phone", PHONE, False), ("phone-dark", PHONE, True))

COLOURS = "(() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; })()"
OVERFLOW = """Array.from(document.querySelectorAll('body, body *'))
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(e => e.tagName + '.' + e.className)"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
NODES = "Array.from(document.querySelectorAll('.tree .node')).map(e => Number(e.dataset.pid))"
LEFTS = "Array.from(document.querySelectorAll('.tree .node')).map(e => e.getBoundingClientRect().left)"
MOMENTS = "Array.from(document.querySelectorAll('.timeline .name')).map(e => e.innerText)"
TOPS = "Array.from(document.querySelectorAll('.timeline .moment')).map(e => e.getBoundingClientRect().top)"
DRAWN = """Array.from(document.querySelectorAll('.node + .node, .moment')).every(e =>
    getComputedStyle(e, '::before').position === 'absolute')"""
SMALLEST = """Math.min(...Array.from(document.querySelectorAll('p, dd, dt, li, code, h1, h2, h3'))
    .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
CONTRAST = """(() => {
  const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= 0.03928 ? x / 12.92 : Math.pow((x + 0.055) / 1.055, 2.4));
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor;
      if (b !== 'rgba(0, 0, 0, 0)') return b; } return 'rgb(255, 255, 255)'; };
  return Math.min(...Array.from(document.querySelectorAll('p, dd, dt, li, code, h1, h2, h3')).map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort();
    return (b + 0.05) / (a + 0.05); })); })()"""
READABLE = 4.5  # WCAG 2.2, 1.4.3: contrast of text


def seen(check, alert=None):
    """Run a check with a browser and the page's file."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "incident.html"
            page.write_text(report_page(alert or acknowledged(opened_decoy()), NOON_NS))
            async with browser(Path(folder)) as opened:
                await check(opened, page)

    PICTURES.mkdir(parents=True, exist_ok=True)
    asyncio.run(run())


async def measure(page: Browser) -> dict[str, object]:
    asked = {"sideways": SIDEWAYS, "overflow": OVERFLOW, "nodes": NODES, "moments": MOMENTS, "drawn": DRAWN}
    return {name: await page.ask(expression) for name, expression in asked.items()}


def test_it_is_whole_in_light_and_dark_and_on_a_phone() -> None:
    async def check(page: Browser, path: Path) -> None:
        light, dark_ones = set(), set()
        for name, width, dark in SCREENS:
            await page.show(path, width=width, dark=dark)
            assert await measure(page) == {
                "sideways": 0,
                "overflow": [],
                "nodes": [step.image.pid for step in reversed(LINEAGE)],
                "moments": [each.title for each in story_of(acknowledged(opened_decoy())).timeline],
                "drawn": True,
            }
            assert (await page.ask(TOPS)) == sorted(await page.ask(TOPS))
            assert (await page.ask(SMALLEST)) >= 12
            assert (await page.ask(CONTRAST)) >= READABLE
            (dark_ones if dark else light).add(tuple(await page.ask(COLOURS)))
            picture = await page.picture(PICTURES / f"{name}.png")
            assert struct.unpack(">I", picture[16:20]) == (width,)
        assert (len(light), len(dark_ones), len(light | dark_ones)) == (1, 1, 2)
        assert page.requested == [path.as_uri()] * 4
        assert page.console == []

    seen(check)


def test_the_tree_steps_to_the_right_as_far_as_there_is_room() -> None:
    async def check(page: Browser, path: Path) -> None:
        await page.show(path, width=DESK)
        lefts = await page.ask(LEFTS)
        assert lefts == sorted(lefts)
        assert len(set(lefts)) == len(LINEAGE)
        await page.show(path, width=PHONE)
        assert max(await page.ask(LEFTS)) < PHONE / 8

    seen(check)


def test_on_paper_it_is_black_on_white_whatever_the_screen_prefers() -> None:
    async def check(page: Browser, path: Path) -> None:
        await page.show(path, width=DESK, dark=True, media="print")
        assert await page.ask(COLOURS) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
        assert (await measure(page))["overflow"] == []
        printed = await page.call("Page.printToPDF")
        assert len(printed["data"]) > 10_000

    seen(check)


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_hostile_names_are_text_and_stay_in_the_page(width: int) -> None:
    async def check(page: Browser, path: Path) -> None:
        await page.show(path, width=width)
        assert await page.ask("document.scripts.length + document.images.length") == 0
        assert await page.ask("document.querySelectorAll('main').length") == 1
        found = await measure(page)
        assert (found["sideways"], found["overflow"], len(found["nodes"])) == (0, [], len(LINEAGE))
        text = await page.ask("document.body.innerText")
        assert "</script><script>alert(1)</script>" in text
        assert "{{7*7}}" in text
        assert not set("\u202e\x1b\x9b") & set(text)
        assert page.requested == [path.as_uri()]
        assert page.console == []
        await page.picture(PICTURES / f"hostile-{width}.png")

    seen(check, hostile())


def test_the_pages_policy_stops_a_script_even_if_one_got_in() -> None:
    """What escaping missed would not run: the policy is tried, not read."""

    async def check(page: Browser, path: Path) -> None:
        holed = path.with_name("holed.html")
        hole = "<script>document.title='ran'</script><img src='file:///x.png'><p style='color:red'>x</p></main>"
        holed.write_text(path.read_text().replace("</main>", hole))
        await page.show(holed, width=DESK)
        assert await page.ask("document.title") != "ran"
        assert await page.ask("document.images[0].naturalWidth") == 0
        refusals = [each for each in page.console if "Content Security Policy" in each]
        assert len(refusals) == 3, page.console  # of the script, the image, the style

    seen(check)
