"""Writes another version of an executable, one that works as well: ``other_version.py SOURCE TARGET [in-place]``.

In an ELF file the last byte of e_ident differs, which is padding (elf(5)); in a script, a comment at its end. Done
twice, the first version is there again.
"""

import sys
from pathlib import Path

_PADDING = 15
_COMMENTS = {".py": b"\n# another version"}
_COMMENT = b"\n// another version"

source, target = Path(sys.argv[1]), Path(sys.argv[2])
content = source.read_bytes()
if content.startswith(b"\x7fELF"):
    content = content[:_PADDING] + bytes([content[_PADDING] ^ 1]) + content[_PADDING + 1 :]
else:
    comment = _COMMENTS.get(source.suffix, _COMMENT)
    content = content.removesuffix(comment) if content.endswith(comment) else content + comment
if "in-place" in sys.argv:
    with target.open("r+b") as file:
        file.write(content)
        file.truncate()
else:
    new = target.with_name(f"{target.name}.new")
    new.write_bytes(content)
    new.chmod(0o755)
    new.replace(target)
