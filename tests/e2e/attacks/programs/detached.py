"""Leaves the agent's family before it attacks: double fork, a session of its own, an exec: ``detached.py PROGRAM``."""

import os
import sys
import time

parent = os.getpid()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while os.getppid() in {parent, os.getsid(0)}:
            time.sleep(0.01)
        os.execv(sys.argv[1], ["claude"])
