"""Gemini CLI: where it keeps its credentials, which one it uses, and how it is wired to the broker.

Gemini's own precedence (observed with 0.61): ``security.auth.selectedType`` of ``~/.gemini/settings.json`` decides the
way. With an API key: GEMINI_API_KEY of the environment, then of the first ``.env`` file that is found from the project
upwards, then of ``~/.gemini/.env``; then ``~/.gemini/gemini-credentials.json``. With a Google login:
``~/.gemini/oauth_creds.json``.

Wiring: ``~/.gemini/.env`` gets the broker's address and a phantom. An address alone would make Gemini choose a way
that it then refuses, so ``selectedType`` is set as well; and ``advanced.ignoreLocalEnv``, since a project's ``.env``
would hide ours. A decoy lies where the secret was, and in ``oauth_creds.json``, which Gemini does not open then.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.gemini_clouds import VERTEX, take_vertex, vertex_edits
from agent_broker.enroll.gemini_keychain import GeminiKeychain, SealedFileError
from agent_broker.enroll.home_survey import HomeSurvey
from agent_broker.enroll.pointer import MISSING, Pointer
from agent_broker.enroll.profile import exports
from agent_broker.enroll.recipe import (
    Decoy,
    Edit,
    FoundSecret,
    RemoveMember,
    ReplaceFile,
    Row,
    SetMember,
    Survey,
    SurveyedFile,
    Wire,
)
from agent_broker.enroll.user_files import Content
from agent_broker.enroll.variables import Variable
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.likeness import FAR_FUTURE_MS, decoy_like, login_token_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.honeytoken.tokens import google_access_token, google_refresh_token
from agent_broker.vault.secret import Secret

_FOLDER = ".gemini"
_SETTINGS = ".gemini/settings.json"
_ENV = ".gemini/.env"
_LOGIN = ".gemini/oauth_creds.json"
_KEYCHAIN = ".gemini/gemini-credentials.json"
_SELECTED: Pointer = ("security", "auth", "selectedType")
_OLD_SELECTED: Pointer = ("selectedAuthType",)
_IGNORE_LOCAL: Pointer = ("advanced", "ignoreLocalEnv")
_KEY: Pointer = ("GEMINI_API_KEY",)
_ACCESS: Pointer = ("access_token",)
_TOKENS = ("access_token", "refresh_token", "id_token")
_WAYS = {
    "gemini-api-key": ("exported-api-key", "api-key", "stored-api-key"),
    "oauth-personal": ("oauth",),
    VERTEX: ("vertex-api-key", "google-adc"),
}
"""Which credentials each way of Gemini's uses, in its order."""
_TITLES = {
    "exported-api-key": "API key of GEMINI_API_KEY",
    "api-key": "API key",
    "stored-api-key": "stored API key",
    "oauth": "Google login",
    "vertex-api-key": "API key for Vertex AI",
    "google-adc": "login at Google for Vertex AI",
}
_REFUSED = {
    "compute-default-credentials": "the machine's own credentials",
    "cloud-shell": "Cloud Shell's credentials",
    "gateway": "a gateway",
}
_OVERRIDES = {
    "GEMINI_API_KEY": "is used in place of the phantom, so the real key stays in every process; remove it",
    "GOOGLE_API_KEY": "holds a credential that every process can read; remove it",
    "GOOGLE_CLOUD_ACCESS_TOKEN": "is used in place of the phantom, so it stays in every process; remove it",
    "GOOGLE_GEMINI_BASE_URL": "leads Gemini past the broker; remove it",
    "CODE_ASSIST_ENDPOINT": "leads Gemini past the broker; remove it",
    "GOOGLE_GENAI_USE_VERTEXAI": "makes Gemini talk to Vertex AI, past the broker; set it in ~/.gemini/.env",
    "GEMINI_CLI_HOME": "moves Gemini's files elsewhere; only ~/.gemini is enrolled",
}
_NEW_LOGIN_SCOPE = "https://www.googleapis.com/auth/cloud-platform openid"


EXPORTED = {"GEMINI_API_KEY": Variable("exported-api-key", "gemini-api-key")}
"""What Gemini reads from its environment, and that can be moved."""
OWN_LINES = frozenset({(_ENV, "GEMINI_API_KEY"), (_ENV, "GOOGLE_API_KEY")})
"""The keys of its own file."""


@dataclass(kw_only=True)
class GeminiSurvey(HomeSurvey):
    """One look at one home."""

    user: str
    host: str
    system_settings: Path
    decoys: dict[str, list[str]] = field(default_factory=dict)
    """By file: the values that lie in it."""
    vertex_decoys: tuple[Decoy, ...] = ()

    def survey(self) -> Survey:
        """Return what is there and what shall be done.

        Raises:
            MisuseError: see Recipe.survey.
        """
        self.files.check_folder(_FOLDER)
        settings = DocumentFile.load(self.files, _SETTINGS)
        env = DocumentFile.load(self.files, _ENV, "env")
        login = DocumentFile.load(self.files, _LOGIN)
        self._find(env, login)
        if self._chosen(settings, env) == VERTEX:
            self.vertex_decoys = take_vertex(self, env)
        keychain = self._find_keychain()
        self.secrets[:0] = self.take_exported(EXPORTED, [_ENV, _SETTINGS, _LOGIN])
        way = self._way(settings, env)
        active = self._active(way)
        self._wire_env(env, active)
        if keychain is not None:
            self._replace_keychain(*keychain)
        self._plant_login(login)
        self._wire_settings(settings, way)
        self._surroundings()
        decoys = tuple(Decoy(path, "gemini-login", digests_of(values)) for path, values in sorted(self.decoys.items()))
        return self.result(active, (*decoys, *self.vertex_decoys), (_FOLDER,))

    def _find(self, env: DocumentFile, login: DocumentFile) -> None:
        key = env.text(_KEY)
        if key:
            self._found("api-key", "gemini-api-key", key, (_ENV, _KEY))
        if login.text(_ACCESS) or login.text(("refresh_token",)):
            tokens = {name: login.value((name,)) for name in login.members()}
            value = Secret(json.dumps(tokens).encode())
            self.secrets.append(FoundSecret("oauth", "google-oauth", value, _LOGIN, (), "object"))
            texts = [login.text((name,)) for name in _TOKENS]
            self.needles += [Secret(text.encode()) for text in texts if text]

    def _find_keychain(self) -> tuple[Content, GeminiKeychain, str] | None:
        """Return the file, opened, and the key in it."""
        content = self.files.read(_KEYCHAIN)
        if content is None:
            return None
        try:
            keychain = GeminiKeychain(content.data, host=self.host, user=self.user)
        except SealedFileError as error:
            self.warnings.append(f"{self.files.absolute(_KEYCHAIN)}: {error.message}; it stays as it is")
            return None
        key = keychain.api_key()
        if key is None:
            return None
        self.secrets.append(
            FoundSecret(
                "stored-api-key", "gemini-api-key", Secret(key.encode()), _KEYCHAIN, ("default-api-key",), "fixed"
            )
        )
        self.needles.append(Secret(key.encode()))
        return content, keychain, key

    def _found(self, name: str, kind: str, value: str, where: tuple[str, Pointer]) -> None:
        file, path = where
        self.secrets.append(FoundSecret(name, kind, Secret(value.encode()), file, path, "text"))
        self.needles.append(Secret(value.encode()))

    def _chosen(self, settings: DocumentFile, env: DocumentFile) -> str:
        """Return Gemini's own word for how it is told to get its credential; empty: nothing says it."""
        for depth in (1, 2):
            settings.require_object(_SELECTED[:depth])
        settings.require_object(_IGNORE_LOCAL[:1])
        if settings.has(_OLD_SELECTED):
            raise MisuseError(
                f"{settings.name} is of an older version", next_step="start gemini once, which converts it; try again"
            )
        return settings.text(_SELECTED) or _way_of_env(env)

    def _way(self, settings: DocumentFile, env: DocumentFile) -> str:
        """Return the same, or what Gemini would choose of what was found."""
        way = self._chosen(settings, env)
        if way in _REFUSED:
            raise MisuseError(
                f"Gemini is set to use {_REFUSED[way]}, whose credential other programs share: it can't be moved",
                next_step="choose an API key or Google login in gemini (/auth), then try again",
            )
        found = {secret.name for secret in self.secrets}
        if not way:
            way = next((each for each, names in _WAYS.items() if found & set(names)), "")
        if way not in _WAYS or not found & set(_WAYS[way]):
            raise self._nothing_to_enroll()
        return way

    def _active(self, way: str) -> str:
        found = [secret.name for secret in self.secrets]
        active = next(name for name in _WAYS[way] if name in found)
        others = [name for name in found if name != active]
        self.warnings += [
            f"in use while enrolled: the {_TITLES[active]}; only kept: {_TITLES.get(each, each)}" for each in others
        ]
        return active

    def _nothing_to_enroll(self) -> MisuseError:
        return self.nothing(
            f"no credential of Gemini's was found in {self.files.absolute(_FOLDER)}",
            next_step=f"put GEMINI_API_KEY=... into {self.files.absolute(_ENV)}, or log in once (gemini, then /auth); "
            "then try again",
        )

    def _wire_env(self, env: DocumentFile, active: str) -> None:
        edits: list[Edit]
        if active in _WAYS[VERTEX]:
            edits = vertex_edits(env)
            edits += [RemoveMember(_KEY)] if env.has(_KEY) else []
        elif active == "oauth":
            edits = [
                SetMember(("GOOGLE_CLOUD_ACCESS_TOKEN",), Wire.PHANTOM),
                SetMember(("GOOGLE_GENAI_USE_GCA",), "true", follows=("GOOGLE_CLOUD_ACCESS_TOKEN",)),
                SetMember(("CODE_ASSIST_ENDPOINT",), Wire.INJECTION_URL),
            ]
            edits += [RemoveMember(_KEY)] if env.has(_KEY) else []
        else:
            edits = [SetMember(_KEY, Wire.PHANTOM), SetMember(("GOOGLE_GEMINI_BASE_URL",), Wire.INJECTION_URL)]
        held = "API key" if env.text(_KEY) or active == "vertex-api-key" else "no secret that is moved"
        self.change(env, edits, held, "wired to the broker: its address and a phantom")
        for name in ("GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"):
            if env.text((name,)) and active not in _WAYS[VERTEX]:
                self.warnings.append(f"{env.name}: {name} names another credential of Google's, which stays")

    def _replace_keychain(self, content: Content, keychain: GeminiKeychain, key: str) -> None:
        decoy = decoy_like(key)
        self.decoys[_KEYCHAIN] = [decoy]
        self.changed.append(SurveyedFile(_KEYCHAIN, content, (ReplaceFile(keychain.with_api_key(decoy)),)))
        will = "secret to the vault; a decoy of the same shape instead, watched"
        self.rows.append(Row(self.files.absolute(_KEYCHAIN), "API key", will))

    def _plant_login(self, login: DocumentFile) -> None:
        had = {name: login.text((name,)) for name in _TOKENS}
        if had["access_token"] or had["refresh_token"]:
            made = {name: login_token_like(value) for name, value in had.items() if value}
            held, will = "Google login", "secret to the vault; a decoy of the same shape instead, watched"
        else:
            made = {"access_token": google_access_token(), "refresh_token": google_refresh_token()}
            held, will = "no login", "a decoy is put there, watched"
        self.decoys[_LOGIN] = list(made.values())
        first: Pointer = (next(iter(made)),)
        edits: list[Edit] = [SetMember((name,), value) for name, value in made.items()]
        if not any(had.values()):
            edits += [
                SetMember(("scope",), _NEW_LOGIN_SCOPE, follows=first),
                SetMember(("token_type",), "Bearer", follows=first),
            ]
        edits.append(SetMember(("expiry_date",), FAR_FUTURE_MS, follows=first))
        self.change(login, edits, held, will)

    def _wire_settings(self, settings: DocumentFile, way: str) -> None:
        edits: list[Edit] = []
        will = []
        if settings.text(_SELECTED) != way:
            edits.append(SetMember(_SELECTED, way))
            will.append(f"security.auth.selectedType: {way}")
        if settings.value(_IGNORE_LOCAL) is MISSING:
            edits.append(SetMember(_IGNORE_LOCAL, value=True))
            will.append("advanced.ignoreLocalEnv: a project's .env is not read while enrolled")
        elif settings.value(_IGNORE_LOCAL) is not True:
            self.warnings.append(
                f"{settings.name} keeps advanced.ignoreLocalEnv off: in a project with a .env file Gemini does not see "
                "the broker; start it with agent-broker run gemini there"
            )
        if edits:
            self.change(settings, edits, "no secret", "; ".join(will))

    def _surroundings(self) -> None:
        """Warn of what would defeat the wiring, as far as it can be seen in files."""
        self.warnings.append(
            "a trusted project's .gemini/.env hides ~/.gemini/.env: Gemini does not see the broker there; "
            "start it with agent-broker run gemini in such a project"
        )
        shown = () if self.exports is None else tuple(EXPORTED)
        for export in exports(self.files, tuple(name for name in _OVERRIDES if name not in shown)):
            self.warnings.append(f"{export.place}: {export.name} {_OVERRIDES[export.name]}")
        try:
            system = self.system_settings.read_bytes()
        except OSError:  # not there, or not for us to see: nothing is known to beat the wiring
            return
        if b"selectedType" in system or b"enforcedType" in system:
            self.warnings.append(f"{self.system_settings} decides the way of login, which may beat the wiring")


def _way_of_env(env: DocumentFile) -> str:
    """Return what Gemini chooses by its variables if the settings don't say."""
    if env.text(("GOOGLE_GENAI_USE_GCA",)) == "true":
        return "oauth-personal"
    if env.text(("GOOGLE_GENAI_USE_VERTEXAI",)) == "true":
        return "vertex-ai"
    return "gemini-api-key" if env.text(_KEY) else ""
