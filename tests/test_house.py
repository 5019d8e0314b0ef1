"""The rules of the house that a reader could break without noticing. Each check is also shown a planted violation."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.settings import Settings

ROOT = Path(__file__).parent.parent
ROOMS = ("app", "schema", "resolvers", "workers", "models")
LOCKS = ("requirements.lock", "requirements-dev.lock")


# ── imports go one way ──────────────────────────────────────────────────────────────────────────────────────────


def test_imports_go_one_way() -> None:
    code, report = _lint_imports(ROOT)
    assert code == 0, report


@pytest.mark.parametrize(
    ("room", "statement", "contract"),
    [
        ("models", "from workers import signing", "Imports go one way"),
        ("workers", "from app import settings", "Imports go one way"),
        ("resolvers", "import strawberry", "What is below the doors knows neither Strawberry nor Starlette"),
        ("workers", "from starlette.requests import Request", "What is below the doors knows neither"),
        ("schema", "import pydantic_settings", "Settings are read in app alone"),
    ],
)
def test_an_import_against_the_direction_is_reported(tmp_path: Path, room: str, statement: str, contract: str) -> None:
    for name in ROOMS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / room / "planted.py").write_text(f"{statement}\n")
    for imported in re.findall(r"from (workers|app) import (\w+)", statement):
        tmp_path.joinpath(*imported).with_suffix(".py").touch()

    code, report = _lint_imports(tmp_path)

    assert code == 1
    assert re.search(rf"^{contract}.* BROKEN$", report, re.MULTILINE), report
    assert f"{room}.planted" in report


def _lint_imports(folder: Path) -> tuple[int, str]:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=folder, capture_output=True, text=True, env={"PATH": os.defpath, "COLUMNS": "200"}
    )
    return done.returncode, done.stdout + done.stderr


# ── who may call out ────────────────────────────────────────────────────────────────────────────────────────────

OUTWARD = re.compile(
    r"httpx\.(?:AsyncClient|Client|AsyncHTTPTransport|HTTPTransport|get|post|put|request|stream)\b|\bopen_connection\b"
    r"|\bcreate_connection\b|\bsock_connect\b|\burlopen\b|urllib\.request|http\.client|\baiohttp\b"
    r"|^\s*(?:import|from) (?:requests|urllib3|websockets|niquests)\b",
    re.MULTILINE,
)
CALLERS = {"workers/transport.py": "vets each address", "app/cli/remote.py": "runs on the machine of who calls"}


def test_nothing_calls_out_but_the_transport_that_vets_addresses() -> None:
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    calling = {str(file.relative_to(ROOT)) for file in files if OUTWARD.search(file.read_text())}
    assert calling == CALLERS.keys()


@pytest.mark.parametrize(
    "planted",
    [
        "async with httpx.AsyncClient() as client:",
        "httpx.get(url)",
        "reader, writer = await asyncio.open_connection(host, port)",
        "from urllib.request import urlopen",
        "import http.client",
        "import requests",
        "    import aiohttp",
    ],
)
def test_a_client_of_another_kind_is_noticed(planted: str) -> None:
    assert OUTWARD.search(f"import os\n{planted}\n")


# ── the names of the rooms are free ─────────────────────────────────────────────────────────────────────────────


def test_no_installed_package_takes_the_name_of_a_room() -> None:
    assert taken_names(sys.path) == {}
    for room in (*ROOMS, "tests"):
        spec = importlib.util.find_spec(room)
        assert spec is not None
        assert spec.origin == str(ROOT / room / "__init__.py")


def test_an_installed_package_with_the_name_of_a_room_is_reported(tmp_path: Path) -> None:
    for distribution, top_level in (("schema", "schema"), ("some-workers", "workers\nother")):
        metadata = tmp_path / f"{distribution.replace('-', '_')}-0.7.8.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.7.8\n")
        (metadata / "top_level.txt").write_text(f"{top_level}\n")
    assert taken_names([str(tmp_path)]) == {"schema": "schema", "workers": "some-workers"}


def taken_names(path: list[str]) -> dict[str, str]:
    """The rooms whose name an installed distribution takes, and which one does."""
    return {
        name: distribution.name
        for distribution in distributions(path=path)
        for name in _top_level_names(distribution.read_text("top_level.txt"), distribution.files)
        if name in (*ROOMS, "tests")
    }


def _top_level_names(declared: str | None, files: Iterable[object] | None) -> set[str]:
    """As declared; newer distributions declare nothing and are read off their file list."""
    return set(declared.split()) if declared else {Path(str(file)).parts[0].removesuffix(".py") for file in files or ()}


# ── what is locked ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_lock_file_holds_an_address() -> None:
    locks = [file for file in tracked_files() if re.search(r"(\.lock|-lock\.json|-lock\.yaml)$", file.name)]
    assert {file.name for file in locks} >= set(LOCKS)
    assert [line for file in locks for line in addresses(file.read_text())] == []


def test_an_address_in_a_lock_file_is_reported() -> None:
    assert addresses('name==1 --hash=sha256:00\n"resolved": "https://example.org/x.tgz"') == [
        '"resolved": "https://example.org/x.tgz"'
    ]


def addresses(text: str) -> list[str]:
    """The lines that hold an address."""
    return [line for line in text.splitlines() if "://" in line]


def test_every_package_asked_for_is_locked_in_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    product, development = (locked_versions((ROOT / lock).read_text()) for lock in LOCKS)
    for wanted in project["project"]["dependencies"]:
        requirement = Requirement(wanted)
        assert product[canonicalize_name(requirement.name)] in requirement.specifier
    for wanted in project["dependency-groups"]["dev"]:
        requirement = Requirement(wanted)
        assert development[canonicalize_name(requirement.name)] in requirement.specifier


def test_what_is_tested_is_what_is_run() -> None:
    product, development = (locked_versions((ROOT / lock).read_text()) for lock in LOCKS)
    assert product.items() <= development.items()


def locked_versions(lock: str) -> dict[str, str]:
    """Package names and the one version of each that the lock file allows."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))


# ── what is committed ───────────────────────────────────────────────────────────────────────────────────────────


def test_no_tracked_file_names_a_place_on_this_machine_or_a_package_registry() -> None:
    private = private_places(ROOT)
    assert [
        f"{file.relative_to(ROOT)}: {found}" for file in tracked_files() for found in private.findall(_text_of(file))
    ] == []


def test_a_place_on_this_machine_and_a_package_registry_are_reported() -> None:
    private = private_places(Path("/dwelling/checkout"))
    registry = ".".join(("registry", "npmjs", "org"))
    text = f"see /dwelling/checkout/app and /dwelling/notes.md, from {registry}; not a/dwelling/ nor /dwellings/x"
    assert private.findall(text) == ["/dwelling/checkout", "/dwelling/", registry]


def private_places(root: Path) -> re.Pattern[str]:
    """Matches this checkout's folder and the one around it, and the hosts that packages are downloaded from."""
    places = [f"(?<![\\w.-]){re.escape(str(root))}\\b"]
    if root.parent not in {Path("/"), Path.home(), Path.home().parent, Path(tempfile.gettempdir())}:
        places.append(f"(?<![\\w.-]){re.escape(str(root.parent))}/")
    hosts = (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs", "org"), ("registry", "yarnpkg", "com"))
    return re.compile("|".join(places + [re.escape(".".join(host)) for host in hosts]))


def tracked_files() -> Iterator[Path]:
    """Every file of the next commit that is here."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return (ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file())


def _text_of(file: Path) -> str:
    return file.read_bytes().decode(errors="ignore")


# ── what is told ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_readme_describes_every_setting_and_no_other() -> None:
    not_of_a_process = {"HOOKLINE_URL", "HOOKLINE_API_KEY", "HOOKLINE_REQUIRE_SERVICES"}
    assert settings_in((ROOT / "README.md").read_text()) - not_of_a_process == settings_of(Settings)


def test_a_setting_that_the_readme_lacks_is_noticed() -> None:
    class Larger(Settings):
        planted: int = 1

    assert settings_of(Larger) - settings_of(Settings) == {"HOOKLINE_PLANTED"}
    assert settings_in("`HOOKLINE_ALLOW_HTTP`, not HOOKLINE_ nor XHOOKLINE_Y") == {"HOOKLINE_ALLOW_HTTP"}


def settings_of(settings: type[Settings]) -> set[str]:
    """The environment variables it reads."""
    return {f"HOOKLINE_{field.upper()}" for field in settings.model_fields}


def settings_in(text: str) -> set[str]:
    """The environment variables a text names."""
    return set(re.findall(r"\bHOOKLINE_[A-Z]\w*", text))


# ── the root script ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_root_script_runs_through_a_link_from_a_folder_that_has_an_app_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text("raise SystemExit('the wrong app')")
    (tmp_path / "link").symlink_to(ROOT / "hookline")
    done = subprocess.run([tmp_path / "link", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("dev", "serve", "worker", "migrate", "organizations", "keys", "events", "listen", "schema"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE), f"{command} is missing in:\n{done.stdout}"


def test_the_root_script_says_what_to_do_before_the_setup(tmp_path: Path) -> None:
    shutil.copy(ROOT / "hookline", tmp_path)
    done = subprocess.run([tmp_path / "hookline", "dev"], cwd="/", capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"Hookline is not set up yet. Run this first:  make -C '{tmp_path}' setup\n"
