"""Puts a version of a program where its installer would: ``put_version.py SOURCE PLACE LINK BEFORE_S END``.

It has run for BEFORE_S seconds when it begins, and ends when END is there: so it can't be refused for being unknown.
"""

import shutil
import sys
import time
from pathlib import Path

source, place, link = map(Path, sys.argv[1:4])
before_s, end = float(sys.argv[4]), Path(sys.argv[5])
time.sleep(before_s)
shutil.copyfile(source, place)
place.chmod(0o755)
new = link.with_name(f"{link.name}.new")
new.symlink_to(place)
new.replace(link)
while not end.exists():
    time.sleep(0.05)
