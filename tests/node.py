"""JavaScript for tests: a folder with `package.json` and `package-lock.json`, and Node to run what is in it."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.services import missing

WITHIN_S = 300
"""For installing: a registry may be slow."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    output: str
    errors: str


async def run_node(folder: Path, script: str, *arguments: str) -> str:
    """What a script of the folder prints, with the packages of its lock file. Skips where Node is not installed."""
    await install_packages(folder)
    return await _output(folder, "node", script, *arguments)


async def install_packages(folder: Path) -> None:
    """Once for each state of the lock file. Skips where Node is not installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("Node.js", "apt-get install nodejs npm")
    stamp, lock = folder / "node_modules" / ".installed", (folder / "package-lock.json").read_bytes()
    if not stamp.exists() or stamp.read_bytes() != lock:
        await _output(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        stamp.write_bytes(lock)


async def run(folder: Path, *command: str, env: Mapping[str, str] | None = None) -> Ended:
    """Runs a command in the folder to its end, with `env` on top of our own environment."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), errors.decode())


async def _output(folder: Path, *command: str) -> str:
    ended = await run(folder, *command)
    assert ended.code == 0, f"{command} ended with {ended.code}:\n{ended.errors}"
    return ended.output
