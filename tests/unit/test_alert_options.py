"""[alerts.*] of config.toml, and the sinks that it makes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.audit.sinks.port import SinkStatus, is_wanted
from agent_broker.cli.sink_text import sink_findings
from agent_broker.config.accounts import BrokerAccount
from agent_broker.config.alert_options import Alerts
from agent_broker.config.document import parse_config
from agent_broker.config.layout import Layout
from agent_broker.daemon.sinks import make_sinks
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from tests.fakes.receivers import an_incident

ACCOUNT = BrokerAccount(uid=64_123, gid=64_124)


def alerts(text):
    return parse_config(text.encode(), "config.toml").alerts


def refused(text):
    with pytest.raises(MisuseError) as raised:
        alerts(text)
    return raised.value.message


def test_nothing_is_on_by_default(tmp_path):
    assert alerts("") == Alerts()
    assert make_sinks(Layout(tmp_path), Alerts(), ACCOUNT) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[alerts]\nbacklog = 1\n", "config.toml:2: alerts.backlog: expected a whole number >= 100"),
        (
            "[alerts.journald]\nenable = true\n",
            "config.toml:2: unknown key enable in [alerts.journald]; did you mean enabled?",
        ),
        (
            "[alerts.otlp]\nseverity = 'high'\n",
            "config.toml:2: alerts.otlp.severity: must be one of: critical, info, warning",
        ),
        ("[alerts.ocsf]\npath = 'log'\n", "config.toml:2: alerts.ocsf.path: must be an absolute path without .."),
        (
            "[alerts.apprise]\nurls_file = '/etc/../x'\n",
            "config.toml:2: alerts.apprise.urls_file: must be an absolute path without ..",
        ),
        (
            "[alerts.otlp]\nheaders_file = 'x'\n",
            "config.toml:2: alerts.otlp.headers_file: must be an absolute path without ..",
        ),
        (
            "[alerts.otlp]\nendpoint = 'http://collector.example:4317'\n",
            "config.toml:2: alerts.otlp.endpoint: plain http is allowed to loopback addresses only: ",
        ),
        (
            "[alerts.otlp]\nendpoint = 'https://u:hunter2@collector.example'\n",
            "config.toml:2: alerts.otlp.endpoint: must not hold a user or password",
        ),
        (
            "[alerts.otlp]\nendpoint = 'https://collector.example/v1/logs'\n",
            "config.toml:2: alerts.otlp.endpoint: must be scheme, host and port only: gRPC has no path",
        ),
        ("[alerts.otlp]\nendpoint = 'collector:4317'\n", "config.toml:2: alerts.otlp.endpoint: must be an http or"),
        (
            "[alerts.otlp]\nendpoint = 'http://127.0.0.1:4317'\nheaders_file = '/h'\n",
            "config.toml:3: alerts.otlp.headers_file: needs an https endpoint or a port below 1024",
        ),
        (
            "[alerts.otlp]\nendpoint = 'http://127.0.0.1'\nheaders_file = '/h'\n",
            "config.toml:3: alerts.otlp.headers_file: needs an https endpoint or a port below 1024",
        ),
        ("[alerts.ocsf]\nmax_bytes = 1\n", "config.toml:2: alerts.ocsf.max_bytes: expected a whole number >= 1048576"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_unquoted(text, expected):
    message = refused(text)
    assert message.startswith(expected)
    assert "hunter2" not in message


def test_headers_go_over_tls_or_to_a_port_that_only_root_can_take():
    for endpoint in ("https://collector.example", "http://127.0.0.1:1023"):
        assert alerts(f"[alerts.otlp]\nendpoint = '{endpoint}'\nheaders_file = '/h'\n").otlp.headers_file == "/h"


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_each_sink_that_is_asked_for_is_made(tmp_path):
    urls = private(tmp_path / "urls", "json://127.0.0.1:1/\nform://127.0.0.1:1/\n")
    headers = private(tmp_path / "headers", "a: b\n")
    found = make_sinks(
        Layout(tmp_path),
        alerts(
            "[alerts.journald]\nenabled = true\nseverity = 'critical'\n"
            f"[alerts.ocsf]\npath = '{tmp_path}/log/alerts.jsonl'\n"
            f"[alerts.otlp]\nendpoint = 'http://[::1]:999'\nheaders_file = '{headers}'\n"
            f"[alerts.apprise]\nurls_file = '{urls}'\n"
        ),
        ACCOUNT,
    )
    assert [(sink.name, sink.severity) for sink in found] == [
        ("journald", "critical"),
        ("ocsf", "info"),
        ("otlp", "info"),
        ("apprise-1", "warning"),
        ("apprise-2", "warning"),
    ]
    found[0]._socket.close()
    facts = (tmp_path / "log").stat()
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (64_123, 64_124, 0o750)


def test_a_folder_that_is_there_keeps_its_owner(tmp_path):
    text = f"[alerts.ocsf]\npath = '{tmp_path}/log/alerts.jsonl'\n"
    (tmp_path / "log").mkdir()
    make_sinks(Layout(tmp_path), alerts(text), ACCOUNT)
    assert (tmp_path / "log").stat().st_uid == os.geteuid()
    text = f"[alerts.ocsf]\npath = '{tmp_path}/none/log/alerts.jsonl'\n"
    with pytest.raises(UnavailableError, match="log can't be made: No such file"):
        make_sinks(Layout(tmp_path), alerts(text), ACCOUNT)


def test_files_with_secrets_that_others_can_read_stop_the_start(tmp_path):
    headers = private(tmp_path / "headers", "a: b\n", 0o644)
    text = f"[alerts.otlp]\nendpoint = 'http://[::1]:999'\nheaders_file = '{headers}'\n"
    with pytest.raises(IntegrityError, match="others than root can read it"):
        make_sinks(Layout(tmp_path), alerts(text), ACCOUNT)
    with pytest.raises(MisuseError, match="ca_file can't be read"):
        make_sinks(
            Layout(tmp_path), alerts(text.replace("headers_file", "ca_file").replace("/headers", "/no")), ACCOUNT
        )


def test_who_asks_for_no_sink_loads_no_library():
    program = (
        "import sys, agent_broker.daemon.main; print([n for n in sys.modules if n in {'apprise', 'opentelemetry'}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("severity", "wanted"),
    [
        ("info", [True, True, True, True]),
        ("warning", [False, True, True, True]),
        ("critical", [False, False, True, True]),
    ],
)
def test_what_is_wanted(severity, wanted):
    found = [is_wanted(an_incident(0, each), severity) for each in ("info", "warning", "critical", "apocalyptic")]
    assert found == wanted


def test_doctor_tells_of_a_sink_that_is_down_or_dropped():
    well, down, lossy = sink_findings(
        [
            SinkStatus("journald", "ok", 0, 3, 0),
            SinkStatus("otlp", "waiting", 7, 1, 0, "the collector answered UNAVAILABLE"),
            SinkStatus("ocsf", "ok", 0, 3, 2),
        ]
    )
    assert (well.subject, well.state, well.text) == ("sink journald", "ok", "3 alerts delivered")
    assert (down.state, down.text) == (
        "warning",
        "1 alert delivered, up to 7 waiting: the collector answered UNAVAILABLE",
    )
    assert down.next_step
    assert (lossy.state, lossy.text) == ("warning", "3 alerts delivered; 2 dropped; agent-broker alerts has them")
