"""What an editor's indexer and file watcher does: stats all that is below a folder, twice, and opens the sources.

Hidden folders are watched and not indexed, as editors do by default.
"""

import os
import sys
from pathlib import Path

SOURCES = {".c", ".h", ".js", ".json", ".md", ".py", ".toml", ".ts"}


def walk(folder):
    for entry in os.scandir(folder):
        entry.stat(follow_symlinks=False)
        os.access(entry.path, os.R_OK)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        else:
            yield Path(entry.path)


opened = 0
for path in [*walk(sys.argv[1]), *walk(sys.argv[1])]:
    is_hidden = any(part.startswith(".") for part in path.relative_to(sys.argv[1]).parts)
    if path.suffix in SOURCES and not is_hidden:
        path.read_bytes()
        opened += 1
print(opened)
