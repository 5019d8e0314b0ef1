"""JavaScript for tests: a folder with `package.json` and `package-lock.json`, and Node to run what is in it."""

import asyncio
import shutil
from pathlib import Path

from tests.services import missing

WITHIN_S = 300
"""For installing: a registry may be slow."""


async def run_node(folder: Path, script: str, *arguments: str) -> str:
    """What a script of the folder prints, with the packages of its lock file. Skips where Node is not installed."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        missing("Node.js", "apt-get install nodejs npm")
    await _install(folder)
    return await _output(folder, node, script, *arguments)


async def _install(folder: Path) -> None:
    """Once for each state of the lock file."""
    stamp, lock = folder / "node_modules" / ".installed", (folder / "package-lock.json").read_bytes()
    if not stamp.exists() or stamp.read_bytes() != lock:
        await _output(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        stamp.write_bytes(lock)


async def _output(folder: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{errors.decode()}"
    return output.decode()
