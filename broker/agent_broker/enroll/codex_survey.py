"""Codex CLI: where it keeps its credentials, which one it uses, and how it is wired to the broker.

Codex's own precedence (observed with 0.169): a provider's bearer token in ``config.toml``, then the variables
CODEX_API_KEY and CODEX_ACCESS_TOKEN, then ``~/.codex/auth.json`` in the way that its ``auth_mode`` says. What
``~/.codex/.env`` sets goes into Codex's environment, and so to its tools, but for CODEX_...: that is passed over. The
provider that Codex has built in takes no key from there; so such a key comes last.

Wiring: ``config.toml`` gets a model provider of ours, with the broker's address and a phantom as its bearer token.
``auth.json`` keeps its shape, with decoys in it, and its mode becomes ``apikey``: a login's decoy would be sent to
ChatGPT's other services at every start. A decoy of a JWT is a JWT: one that is none makes Codex drop the whole file.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.pointer import Pointer
from agent_broker.enroll.profile import exports
from agent_broker.enroll.recipe import (
    Decoy,
    Edit,
    FoundSecret,
    InjectionPath,
    SetMember,
    Survey,
    Wire,
)
from agent_broker.enroll.variables import Variable
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import decoy_like, login_token_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.honeytoken.tokens import openai_api_key
from agent_broker.vault.record import ACCOUNT_ATTRIBUTE
from agent_broker.vault.secret import Secret

PROVIDER = "agent-broker"
"""Our model provider's name in ``config.toml``."""

_FOLDER = ".codex"
_AUTH = ".codex/auth.json"
_CONFIG = ".codex/config.toml"
_ENV = ".codex/.env"
_MODE: Pointer = ("auth_mode",)
_KEY: Pointer = ("OPENAI_API_KEY",)
_TOKENS: Pointer = ("tokens",)
_ACCESS: Pointer = (*_TOKENS, "access_token")
_CHOICE: Pointer = ("model_provider",)
_OURS: Pointer = ("model_providers", PROVIDER)
_SECRETS = ("id_token", "access_token", "refresh_token")
"""Of the tokens; what else is there (the account) is no secret."""
_API_KEY, _LOGIN, _EXPORTED_KEY, _ENV_KEY = "api-key", "oauth", "exported-api-key", "dotenv-api-key"
_TITLES = {
    _API_KEY: "API key",
    _LOGIN: "ChatGPT login",
    _EXPORTED_KEY: "API key of CODEX_API_KEY",
    _ENV_KEY: "API key of ~/.codex/.env",
}
EXPORTED = {
    "CODEX_API_KEY": Variable(_EXPORTED_KEY, "openai-api-key"),
    "OPENAI_API_KEY": Variable(_ENV_KEY, "openai-api-key", only_in=_ENV),
}
"""What Codex reads from its environment, and that can be moved."""
_MODES = {"apikey": _API_KEY, "chatgpt": _LOGIN}
_PATHS = {_API_KEY: "/v1", _EXPORTED_KEY: "/v1", _ENV_KEY: "/v1", _LOGIN: "/backend-api/codex"}
"""Where Codex asks for models below a provider's address."""
_OVERRIDES = {
    "CODEX_API_KEY": "holds a credential that every process can read; remove it",
    "CODEX_ACCESS_TOKEN": "holds a credential that every process can read; remove it",
    "OPENAI_API_KEY": "holds a credential that every process can read; remove it",
    "CODEX_HOME": "moves Codex's files elsewhere; only ~/.codex is enrolled",
}
_SYSTEM_FILES = ("config.toml", "managed_config.toml", "requirements.toml")


@dataclass(kw_only=True)
class CodexSurvey(HomeSurvey):
    """One look at one home."""

    system_folder: Path
    decoys: list[str] = field(default_factory=list)

    def survey(self) -> Survey:
        """Return what is there and what shall be done.

        Raises:
            MisuseError: see Recipe.survey.
        """
        self.files.check_folder(_FOLDER)
        config = DocumentFile.load(self.files, _CONFIG, "toml")
        auth = DocumentFile.load(self.files, _AUTH)
        self._require_usual_provider(config)
        self._find(auth)
        taken = self.take_exported(EXPORTED, [_AUTH, _CONFIG])
        self.secrets[:0] = [each for each in taken if each.file != _ENV]
        self.secrets += sorted((each for each in taken if each.file == _ENV), key=lambda each: each.name != _ENV_KEY)
        active = self._active(auth, config)
        self._plant_decoys(auth, active)
        self._wire(config, active)
        self._surroundings(config)
        return self.result(active, (Decoy(_AUTH, "codex-login", digests_of(self.decoys)),), (_FOLDER,))

    def _require_usual_provider(self, config: DocumentFile) -> None:
        config.require_object(("model_providers",))
        if config.has(_OURS):
            raise MisuseError(
                f"{config.name} has a model provider {PROVIDER} already", next_step="remove it, then try again"
            )
        choice = config.text(_CHOICE)
        if choice not in {None, "openai"}:
            raise MisuseError(
                f"{config.name}: model_provider is not OpenAI's own, and its credential is not one that can be moved",
                next_step='remove model_provider (or set it to "openai"), then try again',
            )

    def _find(self, auth: DocumentFile) -> None:
        auth.require_object(_TOKENS)
        key = auth.text(_KEY)
        if key:
            self.secrets.append(FoundSecret(_API_KEY, "openai-api-key", Secret(key.encode()), _AUTH, _KEY, "text"))
            self.needles.append(Secret(key.encode()))
        tokens = auth.value(_TOKENS)
        if isinstance(tokens, dict) and auth.text(_ACCESS):
            account = auth.text((*_TOKENS, "account_id")) or ""
            attributes = {ACCOUNT_ATTRIBUTE: account} if account else {}
            login = Secret(json.dumps(tokens).encode())
            self.secrets.append(FoundSecret(_LOGIN, "openai-oauth", login, _AUTH, _TOKENS, "object", attributes))
            texts = [auth.text((*_TOKENS, name)) for name in _SECRETS]
            self.needles += [Secret(text.encode()) for text in texts if text]

    def _active(self, auth: DocumentFile, config: DocumentFile) -> str:
        """Return what Codex itself would use."""
        mode = auth.text(_MODE)
        if mode is not None and mode not in _MODES:
            raise MisuseError(
                f"{auth.name}: its auth_mode is not one that can be moved (known: {', '.join(_MODES)})",
                next_step="log in again (codex login), then try again",
            )
        found = {secret.name: secret.file for secret in self.secrets}
        active = _MODES[mode] if mode and _AUTH in found.values() else next(iter(found), "")
        if found.get(_EXPORTED_KEY, _ENV) != _ENV:  # CODEX_API_KEY beats auth.json
            active = _EXPORTED_KEY
        if active not in found:
            raise self._nothing_to_enroll(config)
        others = [name for name in found if name != active]
        self.warnings += [
            f"in use while enrolled: the {_TITLES[active]}; only kept: {_TITLES.get(each, each)}" for each in others
        ]
        return active

    def _nothing_to_enroll(self, config: DocumentFile) -> MisuseError:
        if config.text(("cli_auth_credentials_store",)) in {"keyring", "auto"}:
            return MisuseError(
                f"Codex keeps its login in the desktop's keyring ({config.name}), which can't be moved",
                next_step='set cli_auth_credentials_store = "file", log in again (codex login), then try again',
            )
        return self.nothing(
            f"no credential of Codex's was found in {self.files.absolute(_AUTH)}",
            next_step="log in with Codex once (codex login), then try again",
        )

    def _plant_decoys(self, auth: DocumentFile, active: str) -> None:
        key = auth.text(_KEY)
        decoy_key = decoy_like(key) if key else openai_api_key()
        edits: list[Edit] = [SetMember(_KEY, decoy_key)]
        self.decoys.append(decoy_key)
        for name in _SECRETS:
            token = auth.text((*_TOKENS, name))
            if token:
                decoy = login_token_like(token)
                self.decoys.append(decoy)
                edits.append(SetMember((*_TOKENS, name), decoy))
        if auth.text(_MODE) != "apikey":
            edits.append(SetMember(_MODE, "apikey", follows=_KEY))
        held = ", ".join(_TITLES[secret.name] for secret in self.secrets if secret.file == _AUTH) or "no login"
        will = "secret to the vault; a decoy of the same shape instead, watched"
        if active == _LOGIN:
            will += "; its mode is apikey while enrolled"
        self.change(auth, edits, held, will)

    def _wire(self, config: DocumentFile, active: str) -> None:
        ours: dict[str, str | Wire | InjectionPath] = {
            "name": "OpenAI",
            "base_url": InjectionPath(_PATHS[active]),
            "wire_api": "responses",
            "experimental_bearer_token": Wire.PHANTOM,
        }
        token: Pointer = (*_OURS, "experimental_bearer_token")
        edits: list[Edit] = [SetMember(_CHOICE, PROVIDER)]
        for name, value in ours.items():
            path: Pointer = (*_OURS, name)
            edits.append(SetMember(path, value, follows=None if path == token else token))
        self.change(config, edits, "no secret that is moved", "wired to the broker: its address and a phantom token")

    def _surroundings(self, config: DocumentFile) -> None:
        """Warn of what would defeat the wiring, as far as it can be seen in files."""
        for name in ("openai_base_url", "chatgpt_base_url"):
            if config.has((name,)):
                self.warnings.append(
                    f"{config.name} sets {name}; while enrolled, requests go to the upstream that the operator "
                    "configured ([upstream.openai]) instead: make sure that it is the same"
                )
        profiles = config.value(("profiles",))
        for name, profile in profiles.items() if isinstance(profiles, dict) else ():
            if isinstance(profile, dict) and "model_provider" in profile:
                self.warnings.append(f"{config.name}: the profile {name!r} chooses a model provider past the broker")
        providers = config.value(("model_providers",))
        for name, provider in providers.items() if isinstance(providers, dict) else ():
            if isinstance(provider, dict) and provider.get("experimental_bearer_token"):
                self.warnings.append(f"{config.name}: the token of the model provider {name!r} stays in the file")
        shown = () if self.exports is None else (name for name, each in EXPORTED.items() if not each.only_in)
        for export in exports(self.files, tuple(_OVERRIDES.keys() - set(shown))):
            self.warnings.append(f"{export.place}: {export.name} {_OVERRIDES[export.name]}")
        for file in _SYSTEM_FILES:
            if b"model_provider" in _read(self.system_folder / file):
                self.warnings.append(f"{self.system_folder / file} mentions model_provider, which may beat the wiring")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # not there, or not for us to see: nothing is known to beat the wiring
        return b""
