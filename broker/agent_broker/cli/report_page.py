"""The page of one alert: a single file that loads nothing and runs nothing.

Every value is escaped by the template engine (autoescape), after ``story`` made it printable and bounded; the page's
own policy lets a browser apply the one style sheet in it and nothing else, so not even a hole here would run.
"""

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from agent_broker import __version__
from agent_broker.audit.acks import Alert
from agent_broker.cli.story import story_of
from agent_broker.cli.terminal import when
from agent_broker.monitor.incident import SEVERITIES


def report_page(alert: Alert, now_ns: int) -> str:
    """Return the HTML page of an alert; ``now_ns`` (CLOCK_REALTIME) is when it is written."""
    pages = files("agent_broker.cli") / "pages"
    style = (pages / "incident.css").read_text(encoding="utf-8")
    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = engine.from_string((pages / "incident.html").read_text(encoding="utf-8"))
    return template.render(
        story=story_of(alert),
        tone=alert.severity if alert.severity in SEVERITIES else SEVERITIES[-1],
        style=Markup(style),  # noqa: S704 - our own file, and its hash is the page's policy
        style_sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        version=__version__,
        written=when(now_ns, to_the="minute"),
    )
