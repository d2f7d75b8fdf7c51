"""``agent-broker doctor``: what is protected on this machine, and what is not. Works when both daemons are down."""

import asyncio
import os
from typing import Annotated

import typer
from rich.table import Table

from agent_broker.cli import application
from agent_broker.cli.broker import reader
from agent_broker.cli.diagnosis import Diagnosis, diagnose
from agent_broker.cli.finding import Finding
from agent_broker.cli.sight_text import read_yama_scope, yama_finding
from agent_broker.cli.terminal import cell, console, print_json
from agent_broker.cli.tier_text import left_in_kernel, next_tier, read_kernel_facts
from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.errors import AgentBrokerError, RefusedError, UnavailableError
from agent_broker.monitor.client import MonitorClient
from agent_broker.monitor.messages import MonitorStatus
from agent_broker.transport.control_records import DaemonStatus
from agent_broker.vault.root_key import describe_root_key

app = typer.Typer(add_completion=False)

STATUS_TIMEOUT_S = 3.0
_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("FAILED", "bold red")}
_TIER_STYLES = {"enforce": "bold reverse green", "observe+": "bold reverse yellow"}


@app.command()
def doctor(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check both daemons and say what is protected here, and what is not; exit code 4 if something needed is down."""
    state = application.of(context)
    config = _config(state)
    broker = _broker(state.layout)
    monitor = _monitor(state.layout, broker)
    denied = isinstance(monitor, MonitorStatus) and monitor.sight.ptrace == "denied"
    yama = yama_finding(read_yama_scope(), denied=denied)
    others = [yama, *_of_kernel(state.layout, monitor)]
    diagnosis = diagnose(broker, monitor, config, _root_key(state.layout, config, broker), *others)
    if json:
        print_json(diagnosis)
    else:
        _show(diagnosis)
    if not diagnosis.healthy:
        raise typer.Exit(UnavailableError.exit_code)


def _config(state: application.Application) -> Config | Finding:
    try:
        return state.config()
    except AgentBrokerError as error:
        return _failed("configuration", error)


def _broker(layout: Layout) -> DaemonStatus | Finding:
    try:
        with reader(layout) as broker:
            return broker.status(timeout_s=STATUS_TIMEOUT_S)
    except RefusedError:
        raise  # nothing is known to be down; this user may not ask
    except AgentBrokerError as error:
        return _failed("broker", error)


def _monitor(layout: Layout, broker: DaemonStatus | Finding) -> MonitorStatus | Finding:
    """The broker's word, or the monitor's own: root may ask it."""
    if isinstance(broker, DaemonStatus) and broker.monitor is not None:
        return broker.monitor
    if os.geteuid() != 0:
        return Finding(
            "monitor", "failed", "it does not answer the broker, or the broker is down", "sudo agent-broker doctor"
        )
    try:
        return asyncio.run(_ask_monitor(layout))
    except AgentBrokerError as error:
        return _failed("monitor", error)


def _of_kernel(layout: Layout, monitor: MonitorStatus | Finding) -> list[Finding]:
    if isinstance(monitor, MonitorStatus):
        found = next_tier(monitor, read_kernel_facts())
    else:
        found = left_in_kernel(layout.root)
    return [] if found is None else [found]


async def _ask_monitor(layout: Layout) -> MonitorStatus:
    async with MonitorClient(layout.monitor_socket) as client:
        try:
            return await asyncio.wait_for(client.status(), STATUS_TIMEOUT_S)
        except TimeoutError as error:
            raise UnavailableError("the monitor does not answer in time", next_step="restart it") from error


def _root_key(layout: Layout, config: Config | Finding, broker: DaemonStatus | Finding) -> Finding:
    if isinstance(broker, DaemonStatus):
        return Finding("root key", "ok", broker.root_key)
    if isinstance(config, Finding):
        return Finding("root key", "warning", "unknown: the configuration can't be read")
    return Finding("root key", "ok", describe_root_key(config.vault.root_key, key_file=layout.root_key_file))


def _failed(subject: str, error: AgentBrokerError) -> Finding:
    return Finding(subject, "failed", error.message, error.next_step)


def _show(diagnosis: Diagnosis) -> None:
    out = console()
    out.print(cell(f" TIER: {diagnosis.tier} ", _TIER_STYLES.get(diagnosis.tier, "bold reverse red")))
    out.print(cell(diagnosis.tier_means))
    out.print()
    found = Table.grid(padding=(0, 2))
    found.add_column(no_wrap=True)
    found.add_column(no_wrap=True)
    found.add_column(overflow="fold")
    for finding in diagnosis.findings:
        mark, style = _MARKS[finding.state]
        found.add_row(cell(mark, style), cell(finding.subject), cell(finding.text))
        if finding.next_step:
            found.add_row("", "", cell(f"next: {finding.next_step}"))
    out.print(found)
    out.print()
    out.print(cell("What this machine does not protect or see:"))
    missing = Table.grid(padding=(0, 1))
    for each in diagnosis.cannot_see:
        missing.add_row("-", cell(each))
    out.print(missing)
    out.print()
    out.print(cell("healthy", "bold green") if diagnosis.healthy else cell("not healthy: see FAILED above", "bold red"))
