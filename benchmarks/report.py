"""What was found, written down: JSON for machines, Markdown for BENCHMARKS.md, plots for the eye."""

import platform
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.result import Result, Row

_PACKAGES = ("strawberry-graphql", "starlette", "uvicorn", "uvloop", "tortoise-orm", "asyncpg", "arq", "httpx")


def machine() -> dict[str, str]:
    """What was measured on."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _said("git", "rev-parse", "--short", "HEAD"),
        "machine": f"{_processor()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release()}",
        "load before": ", ".join(f"{load:.1f}" for load in psutil.getloadavg()),
        "python": platform.python_version(),
        "redis": _said("redis-server", "--version").removeprefix("Redis server ").split(" sha", 1)[0],
        **{name: version(name) for name in _PACKAGES},
    }


def write(out: Path, results: Mapping[str, Result], about: Mapping[str, str]) -> None:
    """Writes bench.json, bench.md and a plot for each measurement that has one."""
    out.mkdir(parents=True, exist_ok=True)
    found = {"about": about, "results": {name: _as_json(result) for name, result in results.items()}}
    (out / "bench.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    (out / "bench.md").write_text(markdown(results, about))
    _plot(out, results)


def markdown(results: Mapping[str, Result], about: Mapping[str, str]) -> str:
    """A section for each measurement."""
    lines = [f"- {name}: {value}" for name, value in about.items()]
    for result in results.values():
        lines += ["", f"## {result.title}", "", result.terms, "", *table(result.rows)]
        lines += ["", *(f"- {'reached' if reached else '**missed**'}: {what}" for what, reached in result.targets)]
        lines += [f"- {result.stolen_percent:.1f} % of the processor was stolen meanwhile"]
    return "\n".join(lines).rstrip() + "\n"


def table(rows: list[Row]) -> list[str]:
    """Rows as a Markdown table; one row alone is turned on its side."""
    if len(rows) == 1:
        rows = [{"what": name, "figure": figure} for name, figure in rows[0].items()]
    if len(rows[0]) > 8:  # too wide to read: a column for each row
        first, *names = rows[0]
        rows = [{first: name, **{str(row[first]): row[name] for row in rows}} for name in names]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return [f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in line)} |" for line in lines]


def _as_json(result: Result) -> dict[str, Any]:
    return {"title": result.title, "terms": result.terms, "rows": result.rows, "targets": result.targets,
            "stolen %": round(result.stolen_percent, 1), "details": result.details}  # fmt: skip


def _plot(out: Path, results: Mapping[str, Result]) -> None:
    try:
        import matplotlib
    except ImportError:
        return  # `make bench` installs it; the figures are whole without
    matplotlib.use("svg")
    from matplotlib import pyplot

    for name, draw in _PLOTS.items():
        if name in results:
            figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
            draw(axes, results[name].rows)
            axes.set_title(results[name].title, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            figure.savefig(out / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)


def _bars(label: str, *columns: str) -> Callable[[Any, list[Row]], None]:
    """Draws a group of bars for each row with figures, a colour for each column, and each bar's figure beside it."""

    def draw(axes: Any, rows: list[Row]) -> None:
        rows = [row for row in rows if all(row[column] != "" for column in columns)]
        height = 0.8 / len(columns)
        for number, column in enumerate(columns):
            places = [index + (number - (len(columns) - 1) / 2) * height for index in range(len(rows))]
            bars = axes.barh(places, [row[column] for row in rows], height * 0.9, label=column)
            axes.bar_label(bars, fmt=lambda figure: f"{figure:,.0f}" if figure >= 1000 else f"{figure:g}", padding=3)
        axes.set_yticks(range(len(rows)), [str(row[label]) for row in rows])
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.figure.legend(loc="outside lower center", ncols=len(columns), fontsize="small", frameon=False)

    return draw


def _fan_out(axes: Any, rows: list[Row]) -> None:
    for column in ("answered, ms", "all received, ms"):
        axes.plot([row["webhooks"] for row in rows], [row[column] for row in rows], marker="o", label=column)
    axes.set(xscale="log", yscale="log", xlabel="webhooks", ylabel="ms")
    axes.legend(fontsize="small")


def _latency(axes: Any, rows: list[Row]) -> None:
    rows = [{**row, "load": row["load"].replace(", slices", ",\nslices")} for row in rows]
    _bars("load", "p50 ms", "p99 ms")(axes, rows)


_PLOTS: dict[str, Callable[[Any, list[Row]], None]] = {
    "end_to_end": _bars("what", "published/s", "delivered/s"),
    "publishing": _bars("what", "events/s", "events/s a core of serve"),
    "latency": _latency,
    "fan_out": _fan_out,
    "matching": _bars("webhooks", "known type, ms", "new type, ms", "after a change, ms"),
    "graphql": _bars("what", "requests/s a core"),
    "live": _bars("what", "messages/s", "messages/s a core"),
    "growth": _bars("past deliveries", "delivered/s", "published/s"),
    "fairness": _bars("what", "p50 ms", "p99 ms"),
}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
