"""``config.toml``: what the operator may set, its defaults, and the checks of each value.

A missing file is the defaults. An unknown key, a wrong type or a value out of range refuses the whole file, with the
line. Root refuses a file that others could have written, since it decides where secrets are sent.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from agent_broker.config.alert_options import Alerts, alert_problems
from agent_broker.disk import require_root_owned
from agent_broker.errors import MisuseError
from agent_broker.monitor.pattern import pattern_problem
from agent_broker.monitor.provenance import Way
from agent_broker.toml_document import KeyPath, TomlDocument

MAX_FILE_BYTES = 1 << 20
FIRST_UNPRIVILEGED_PORT = 1024  # ip(7), ip_unprivileged_port_start

Account = str | Annotated[int, Meta(ge=0, lt=0xFFFF_FFFF)]
"""A user or group: its name, or its number (uid_t; the highest means "no change" to setresuid(2))."""


class Upstream(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the requests of one provider go."""

    base_url: str
    """Scheme, host and path prefix that a credential of this provider is bound to."""
    oauth_token_url: str = ""
    """Where its refresh token is spent; empty: the provider's own place."""


class Anthropic(Upstream, frozen=True, forbid_unknown_fields=True):
    """``[upstream.anthropic]``; defaults as the released Claude Code uses them."""

    base_url: str = "https://api.anthropic.com"
    oauth_token_url: str = "https://platform.claude.com/v1/oauth/token"  # noqa: S105 - an address, not a token


class OpenAI(Upstream, frozen=True, forbid_unknown_fields=True):
    """``[upstream.openai]``; defaults as the released Codex uses them."""

    base_url: str = "https://api.openai.com"
    chatgpt_base_url: str = "https://chatgpt.com"
    """Where the requests of a ChatGPT login go; paths as Codex sends them (``/backend-api/codex``)."""
    oauth_token_url: str = "https://auth.openai.com/oauth/token"  # noqa: S105 - an address, not a token


class Gemini(Upstream, frozen=True, forbid_unknown_fields=True):
    """``[upstream.gemini]``; defaults as the released Gemini CLI uses them."""

    base_url: str = "https://generativelanguage.googleapis.com"
    code_assist_base_url: str = "https://cloudcode-pa.googleapis.com"
    """Where the requests of a Google login go."""
    oauth_token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a token


class Vertex(Upstream, frozen=True, forbid_unknown_fields=True):
    """``[upstream.vertex]``: Google Cloud's Vertex AI."""

    base_url: str = ""
    """Empty: the host of the region that is recorded with the credential; paths begin with /v1 or /v1beta1."""
    oauth_token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a token


class Bedrock(Upstream, frozen=True, forbid_unknown_fields=True):
    """``[upstream.bedrock]``: Amazon Bedrock."""

    base_url: str = ""
    """Empty: the host of the region that is recorded with the credential; a VPC endpoint, say."""


class Sts(Upstream, frozen=True, forbid_unknown_fields=True):
    """``[upstream.sts]``: AWS's STS, which gives sessions for the keys of the aws command."""

    base_url: str = ""
    """Empty: STS of the profile's region; a VPC endpoint, say."""


class Entra(Upstream, frozen=True, forbid_unknown_fields=True):
    """``[upstream.entra]``: Microsoft's login, which gives tokens for Azure's service principals."""

    base_url: str = "https://login.microsoftonline.com"


class Upstreams(Struct, frozen=True, forbid_unknown_fields=True):
    """``[upstream.*]``."""

    anthropic: Anthropic = Anthropic()
    openai: OpenAI = OpenAI()
    gemini: Gemini = Gemini()
    vertex: Vertex = Vertex()
    bedrock: Bedrock = Bedrock()
    sts: Sts = Sts()
    entra: Entra = Entra()


class Daemon(Struct, frozen=True, forbid_unknown_fields=True):
    """``[daemon]``: whom the broker becomes after it bound its sockets."""

    user: Account = "agent-broker"
    group: Account = "agent-broker"
    """Of the broker; its members may read status and alerts, never secrets."""


class Inject(Struct, frozen=True, forbid_unknown_fields=True):
    """``[inject]``: the TCP side of the injection endpoint."""

    address: str = "127.0.0.1"
    """Loopback only."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 917
    """Below 1024 by default: no process of a user can bind it while the broker is down."""

    @property
    def can_be_squatted(self) -> bool:
        """Whether a process without privilege could bind the port while the broker is down."""
        return self.port >= FIRST_UNPRIVILEGED_PORT


class VaultOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[vault]``."""

    root_key: Literal["file", "systemd-creds", "secret-service"] = "file"
    """Which keyring backend holds the root key (vault.root_key)."""


class MonitorOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[monitor]``."""

    ring_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 8 << 20
    """Size of the kernel's event ring: a power of two (BPF_MAP_TYPE_RINGBUF wants it)."""


class SensorOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[sensor]``."""

    backend: Literal["core", "bcc"] = "core"
    """Who makes the kernel side's programs: compiled with the product, or here when the monitor starts (ADR 13)."""
    offsets: Literal["auto", "btf", "headers"] = "auto"
    """Where ``bcc`` learns the fields of kernel structures: the kernel's own types, or its headers; ``auto``: from the
    headers if it tells no types."""


class IncidentOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[incidents]``."""

    per_family: Annotated[int, Meta(ge=1, le=1000)] = 32
    """Programs of one agent, or of one user, with incidents of their own at a time; further ones share one
    (monitor.fold, PER_FAMILY)."""


class Decoys(Struct, frozen=True, forbid_unknown_fields=True):
    """``[decoys]``."""

    deny: bool = False
    """Default of ``enroll --deny-decoys``: refuse the open instead of serving the decoy."""


class Paths(Struct, frozen=True, forbid_unknown_fields=True):
    """``[paths]``: the credential paths (monitor.catalogue)."""

    enabled: bool = True
    deny: bool = False
    """Refuse the open to programs that may not, instead of only reporting it, where the tier can."""
    extra: tuple[str, ...] = ()
    """Further patterns, absolute or below each owner's home (``~/``); nobody but allowed programs may open them."""
    ignore: tuple[str, ...] = ()
    """Patterns that are not watched: one of the catalogue as it is written there, or one that covers files."""


class Freeze(Struct, frozen=True, forbid_unknown_fields=True):
    """``[freeze]``."""

    on_critical: bool = True
    """Freeze the offender's lineage on a critical incident."""
    stop: bool = False
    """And send SIGSTOP to the offender itself; ``monitor --on-critical`` decides otherwise."""
    stop_agent: bool = False
    """Also if the offender is an enrolled agent's main process."""


class GrantOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[grant]``."""

    lease_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    """How long a grant lives before the whole release rule is asked again."""


class JournalOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``[journal]``: of each of the two, that of decisions and that of alerts (audit.segments)."""

    segment_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 40)] = 16 << 20
    """A file of so many bytes is turned over."""
    keep: Annotated[int, Meta(ge=1, le=100_000)] = 64
    """Older files; the oldest beyond that is removed."""


class Updates(Struct, frozen=True, forbid_unknown_fields=True):
    """``[updates]``: which new versions of an enrolled agent are enrolled without a question (monitor.preapproval)."""

    approve: Literal["ask", "own-updater", "root-package-manager"] | tuple[Way, ...] = "ask"
    """One way or several; ``ask``: a person decides, with ``agent-broker approve``."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """What is approved unasked."""
        if isinstance(self.approve, tuple):
            return self.approve
        return () if self.approve == "ask" else (self.approve,)


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    upstream: Upstreams = Upstreams()
    daemon: Daemon = Daemon()
    inject: Inject = Inject()
    vault: VaultOptions = VaultOptions()
    monitor: MonitorOptions = MonitorOptions()
    sensor: SensorOptions = SensorOptions()
    incidents: IncidentOptions = IncidentOptions()
    decoys: Decoys = Decoys()
    paths: Paths = Paths()
    freeze: Freeze = Freeze()
    grant: GrantOptions = GrantOptions()
    journal: JournalOptions = JournalOptions()
    updates: Updates = Updates()
    alerts: Alerts = Alerts()


def load_config(path: Path) -> Config:
    """Return the configuration of a file; the defaults if there is none.

    Raises:
        MisuseError: the file can't be read, is too long, or says something that is not allowed (with the line).
        IntegrityError: root runs this and others than root could have written the file.
    """
    data = _read(path)
    return Config() if data is None else parse_config(data, str(path))


def parse_config(data: bytes, name: str) -> Config:
    """Return the configuration that ``data`` says; ``name`` is how messages call it.

    Raises:
        MisuseError: see load_config.
    """
    document = TomlDocument(data, name)
    config = document.decode(Config)
    for path, problem in _problems(config):
        raise document.misuse(path, f"{'.'.join(map(str, path))}: {problem}")
    return config


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            if os.geteuid() == 0:
                require_root_owned(path, os.fstat(file.fileno()))
                require_root_owned(path.parent, path.parent.lstat())
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MisuseError(f"{path} can't be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise MisuseError(f"{path} is longer than {MAX_FILE_BYTES} bytes")
    return data


def _problems(config: Config) -> list[tuple[KeyPath, str]]:
    """What types can't say, as (key, sentence without its value)."""
    problems: list[tuple[KeyPath, str]] = []
    for provider in config.upstream.__struct_fields__:
        upstream: Upstream = getattr(config.upstream, provider)
        for field in upstream.__struct_fields__:
            url: str = getattr(upstream, field)
            may_be_empty = field == "oauth_token_url" or isinstance(upstream, Vertex | Bedrock | Sts)
            if (url or not may_be_empty) and (problem := url_problem(url)):
                problems.append((("upstream", provider, field), problem))
    problems += alert_problems(config.alerts, url_problem)
    if not is_loopback(config.inject.address):
        problems.append((("inject", "address"), "must be a loopback address: phantoms are not for the network"))
    for key in ("extra", "ignore"):
        for number, pattern in enumerate(getattr(config.paths, key)):
            if problem := pattern_problem(pattern):
                problems.append((("paths", key, number), problem))
    if config.monitor.ring_bytes.bit_count() != 1:
        problems.append((("monitor", "ring_bytes"), "must be a power of two"))
    problems += [
        (("daemon", key), "must not be root: the broker needs no privilege")
        for key in ("user", "group")
        if getattr(config.daemon, key) in {0, "0", "root", ""}
    ]
    return problems


def url_problem(url: str) -> str:
    """Return what is wrong with an upstream's URL; empty if nothing. Plain http is for loopback only."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in {"http", "https"} or not host:
        return "must be an http or https URL with a host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or password"
    if parts.query or parts.fragment:
        return "must not have a query or fragment"
    if parts.scheme == "http" and not is_loopback(host):
        return "plain http is allowed to loopback addresses only: secrets would cross the network in clear"
    return ""


def is_loopback(host: str) -> bool:
    """Return whether a host is a literal loopback address; names are not, since resolvers decide what they are."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
