"""`python -m app`, which the root script `hookline` wraps."""

import sys
from io import TextIOWrapper

from app.cli import hookline

if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no ✓ gets a question mark, not a traceback
    hookline(prog_name="hookline")
