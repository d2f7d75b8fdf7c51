"""A real agent is updated by the real npm, by its user and by a child of its own, as its updater does."""

from collections.abc import Callable

from msgspec import Struct

from tests.demo.check import require
from tests.e2e.agents.gemini import Gemini
from tests.e2e.agents.place import Place, Turn
from tests.e2e.noise.row import Stated

PACKAGE = "@google/gemini-cli"
CLIENT = Gemini()
LAYOUT, WAY = next(iter(CLIENT.layouts)), next(iter(CLIENT.ways))


class Scene(Struct, frozen=True):
    """The place with the agent, and the registries of its next versions, by version."""

    place: Place
    registries: dict[str, str]

    def command(self, version: str) -> str:
        """Return what a person types, and what Gemini's own updater starts."""
        prefix = self.place.world.home / ".npm-global"
        return (
            f"npm install --global --prefix {prefix} --no-audit --no-fund --registry {self.registries[version]} "
            f"{PACKAGE}@{version}"
        )

    def turn(self) -> Turn:
        """Let the agent take one."""
        return self.place.turn(CLIENT)


class Step(Stated, frozen=True, kw_only=True):
    """What is done; the steps are done in their order."""

    act: Callable[[Scene], None]


VERSIONS = ("99.0.1", "99.0.2")


def _works(scene: Scene) -> None:
    turn = scene.turn()
    require(turn.code == 0, "the agent to end well", turn.said[-2000:])


def _by_user(scene: Scene) -> None:
    scene.place.run("/bin/sh", "-c", scene.command(VERSIONS[0]))
    _require_version(scene, VERSIONS[0])


def _unapproved(scene: Scene) -> None:
    turn = scene.turn()
    require(turn.code != 0, "the agent to be refused", turn.said[-2000:])


def _approved(scene: Scene) -> None:
    whose = ("--user", scene.place.world.user.pw_name)
    scene.place.broker("approve", CLIENT.name, *whose, "--yes")
    _works(scene)


def _by_itself(scene: Scene) -> None:
    scene.place.answers(tool_cmd=scene.command(VERSIONS[1]))
    scene.turn()
    scene.place.answers()
    _require_version(scene, VERSIONS[1])


def _require_version(scene: Scene, version: str) -> None:
    package = scene.place.program.resolve().parents[1] / "package.json"
    require(f'"{version}"' in package.read_text(), f"npm to have installed {version}", package)
    scene.place.settle()


STEPS = (
    Step("Gemini CLI, enrolled, takes a turn", act=_works),
    Step("npm install --global updates it, typed by its user", act=_by_user),
    # of the broker, which refuses it, and of its own ~/.gemini/.env, which it opens first
    Step("it starts updated and unapproved", 2, "warning", act=_unapproved),
    Step("it is approved and takes a turn", act=_approved),
    # npm can't be told from another tool of its that puts code into the package that it is running
    Step("npm install --global updates it, started by itself in a turn that goes on", 1, "critical", act=_by_itself),
    Step("it is approved again and takes a turn", act=_approved),
)
