"""The recipes that are data: those that ship, and those that root added. None is ever read from a user's home."""

import os
import stat
from importlib import resources
from pathlib import Path

from agent_broker.disk import replace_file, require_root_owned, sync_folder
from agent_broker.enroll.recipe_file import MAX_FILE_BYTES, KeyKinds, RecipeFile, parse_recipe
from agent_broker.errors import MisuseError, UnavailableError

_MODE = 0o644


class RecipeStore:
    """The recipes of one machine."""

    def __init__(self, folder: Path, kinds: KeyKinds) -> None:
        """Say where root's are, and which kinds of credential they may name."""
        self._folder = folder
        self._kinds = kinds

    def shipped(self) -> dict[str, RecipeFile]:
        """Return the recipes of this version, by name."""
        files = (resources.files("agent_broker.enroll") / "recipes").iterdir()
        found = [self._parse(each.read_bytes(), each.name) for each in files if each.name.endswith(".toml")]
        return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: recipe.name)}

    def added_names(self) -> tuple[str, ...]:
        """Return the names of what root added, without a look into it."""
        return tuple(sorted(path.stem for path in self._folder.glob("*.toml"))) if self._folder.is_dir() else ()

    def added(self, name: str) -> RecipeFile | None:
        """Return one recipe that root added; None: there is none. A broken one of another name is no hindrance.

        Raises:
            IntegrityError: the folder or the file could have been written by others than root.
            MisuseError: it is not a recipe; with its line.
        """
        if name not in self.added_names():
            return None
        require_root_owned(self._folder, self._folder.lstat())
        path = self._folder / f"{name}.toml"
        recipe = self._parse(_read(path, root_owned=True), str(path))
        if recipe.name != name:
            raise MisuseError(f"{path} is the recipe of {recipe.name}", next_step=f"rename it to {recipe.name}.toml")
        return recipe

    def read(self, path: Path) -> tuple[RecipeFile, bytes]:
        """Return a recipe that is to be added, and its bytes.

        Raises:
            MisuseError: it can't be read, or is not a recipe; with its line.
        """
        data = _read(path)
        return self._parse(data, str(path)), data

    def add(self, recipe: RecipeFile, data: bytes) -> Path:
        """Keep a recipe durably; return where. One of the same name is replaced.

        Raises:
            IntegrityError: the folder could have been written by others than root.
            UnavailableError: the disk refused.
        """
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"{self._folder} can't be made: {error.strerror}") from error
        require_root_owned(self._folder, self._folder.lstat())
        path = self._folder / f"{recipe.name}.toml"
        replace_file(path, data, mode=_MODE)
        return path

    def remove(self, name: str) -> bool:
        """Delete a recipe durably, whatever is in it; return whether there was one."""
        if name not in self.added_names():
            return False
        (self._folder / f"{name}.toml").unlink()
        sync_folder(self._folder)
        return True

    def _parse(self, data: bytes, name: str) -> RecipeFile:
        return parse_recipe(data, name, self._kinds)


def _read(path: Path, *, root_owned: bool = False) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if root_owned:
                require_root_owned(path, facts)
            if not stat.S_ISREG(facts.st_mode):
                raise MisuseError(f"{path} is not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise MisuseError(f"{path} can't be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise MisuseError(f"{path} is longer than {MAX_FILE_BYTES} bytes, which a recipe never is")
    return data
