"""The page of an alert: it holds nothing that a browser would run or load, whoever chose the names in it."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_broker.cli.report_page import report_page
from agent_broker.cli.story import MAX_CHARS, TITLES, story_of
from agent_broker.monitor.frameworks import KINDS
from tests.fakes.control import NOON_NS, image, lineage
from tests.fakes.incidents import acknowledged, backup, hostile, opened_credential, opened_decoy

ALERTS = [opened_decoy(), opened_credential(), backup(), acknowledged(opened_decoy()), hostile()]
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
TEXT = st.text(max_size=200) | st.sampled_from(
    ["</style>", "<script>", "-->", "]]>", "{{7*7}}", "{% raw %}", "&#60;b&#62;"]
)


class Page(HTMLParser):
    """What a browser would make of it: elements with their attributes, and the text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.style = [], "", ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, _tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "style":
            self.style += data
        else:
            self.text += data


def page_of(alert):
    return Page(report_page(alert, NOON_NS))


KNOWN = {tag for tag, _ in page_of(opened_decoy()).elements} | {"pre"}
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "aria-label", "data-pid",
}  # fmt: skip


@pytest.mark.parametrize("alert", ALERTS)
def test_it_loads_nothing_and_runs_nothing(alert):
    page = page_of(alert)
    assert {tag for tag, _ in page.elements} <= KNOWN
    assert {name for _, attributes in page.elements for name in attributes} <= ATTRIBUTES
    assert not re.search(r"url\(|@import|expression|https?:", page.style)
    policy = next(each["content"] for _, each in page.elements if each.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_hostile_names_are_text_printable_and_bounded():
    text = report_page(hostile(), NOON_NS)
    assert not OBEYED.search(text)
    page = Page(text)
    assert "</script><script>alert(1)</script>\\u202egnp.exe" in page.text
    assert "{{7*7}}" in page.text
    assert "10,0" in page.text  # how long it was
    assert len(text) < 300_000
    longest = max(map(len, re.findall(r"x+", page.text)))
    assert longest <= 2 * MAX_CHARS


@settings(deadline=None, max_examples=60)
@given(TEXT, TEXT, TEXT, TEXT)
def test_no_text_adds_an_element(what, path, program, argument):
    plain = page_of(opened_decoy(lineage=lineage(image("/bin/a", "b"))))
    page = page_of(opened_decoy(what=what, path=path or "x", lineage=lineage(image(f"/bin/{program}", argument))))
    kinds = {tag for tag, _ in page.elements}
    assert kinds <= {tag for tag, _ in plain.elements}
    assert page.style == plain.style
    assert not OBEYED.search(page.text)


@pytest.mark.parametrize("alert", ALERTS)
def test_it_says_all_that_the_story_says(alert):
    story, page = story_of(alert), page_of(alert)
    said = " ".join(page.text.split())
    for piece in (
        story.title,
        *story.sentences,
        story.next_step,
        *(node.name for node in story.tree),
        *(node.command for node in story.tree),
        *(moment.title for moment in story.timeline),
        *(text for _, text in story.facts),
        *story.changes,
        *(name for _, named in story.frameworks for _, name in named),
    ):
        assert " ".join(piece.split()) in said
    nodes = [each for tag, each in page.elements if tag == "li" and "node" in each.get("class", "").split()]
    assert [int(each["data-pid"]) for each in nodes] == [step.image.pid for step in reversed(alert.lineage)]
    assert sum("offender" in each["class"] for each in nodes) == 1


def test_of_a_program_that_nobody_saw_start_the_name_is_said_once():
    steps = lineage(image("/bin/scan", "deep"), image("systemd", observed=False))
    page = page_of(opened_decoy(lineage=steps, offender=None))
    tree = page.text[page.text.index("Lineage") : page.text.index("Timeline")]
    assert tree.count("systemd") == 1
    assert (tree.count("scan deep"), tree.count("/bin/scan"), tree.count("program")) == (1, 1, 1)


def test_without_a_lineage_it_says_so():
    page = page_of(opened_decoy(lineage=(), offender=None, process_sha256=None))
    assert "The lineage is not known" in page.text
    assert "unknown: the executable could not be read" in page.text


def test_every_kind_has_a_title_and_its_identifiers_names():
    assert set(KINDS) <= set(TITLES)
    for kind, frameworks in KINDS.items():
        story = story_of(opened_decoy(kind=kind, frameworks=frameworks))
        unnamed = [identifier for _, named in story.frameworks for identifier, name in named if not name]
        assert unnamed == [], kind


def test_a_settled_alert_that_grew_is_open_again():
    settled = acknowledged(opened_decoy(severity="warning"))
    assert story_of(settled).acked
    worse = msgspec.structs.replace(settled, severity="critical")
    assert not story_of(worse).acked
    assert any("open again" in each for each in story_of(worse).sentences)
