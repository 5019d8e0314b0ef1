"""Runs a command that ends when its parent does, even when the parent is killed and can clean nothing up.

    python tethered.py USER COMMAND [ARGUMENT …]        USER: whom to run it as, or "" for whoever we are

A program of its own rather than a `preexec_fn`: forking a process that has threads is deprecated since Python 3.12.
Linux only in its effect; elsewhere the command simply runs.
"""

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(user: str, *command: str) -> None:
    """Becomes the command. The signal is SIGINT, at which PostgreSQL, Redis and Hookline all end promptly."""
    libc = ctypes.CDLL(None)  # loaded while we may still read our own Python's files
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)  # forgotten at a change of user, so after it
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
