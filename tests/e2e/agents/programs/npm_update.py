"""Puts another version of a package in its place, as npm does: ``npm_update.py PACKAGE SCRIPT LINK``.

The new package is made beside the old one, which gets another name, gives its name to the new one, and is removed; the
link to its script is made anew. The script differs by a comment, and there is a file more.
"""

import shutil
import sys
from pathlib import Path

package, script, link = (Path(each) for each in sys.argv[1:])
new, old = (package.with_name(f".{package.name}-{word}") for word in ("Xq3kD1vA", "f0ZbTn8c"))
shutil.copytree(package, new, symlinks=True)
with (new / script.relative_to(package)).open("a") as file:
    file.write("\n// another version")
(new / "CHANGES.md").write_text("# Another version\n")
target = link.readlink()
link.unlink()
package.rename(old)
new.rename(package)
link.symlink_to(target)
shutil.rmtree(old)
