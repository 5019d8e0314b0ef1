"""python -m benchmarks [NAME …] [--quick] [--out DIRECTORY]"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import uvloop

from benchmarks import report
from benchmarks.end_to_end import dev_mode, end_to_end
from benchmarks.fairness import fairness
from benchmarks.fan_out import fan_out, matching
from benchmarks.graphql import graphql
from benchmarks.growth import growth
from benchmarks.latency import latency
from benchmarks.live import live
from benchmarks.machine import Ticks
from benchmarks.publishing import publishing
from benchmarks.result import Result, Scale
from benchmarks.stand import Stand, standing

ALL: dict[str, Callable[[Stand, Scale], Awaitable[Result]]] = {
    "end_to_end": end_to_end,
    "publishing": publishing,
    "latency": latency,
    "fan_out": fan_out,
    "matching": matching,
    "dev_mode": dev_mode,
    "growth": growth,
    "fairness": fairness,
    "graphql": graphql,
    "live": live,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(list(ALL)))
@click.option("--quick", is_flag=True, help="Rough figures, soon.")
@click.option(
    "--out", default="benchmarks/out", show_default=True, type=click.Path(path_type=Path), help="Where figures go."
)
def command(names: tuple[str, ...], quick: bool, out: Path) -> None:
    """Measure NAMES, or everything, and write bench.json, bench.md and plots."""
    uvloop.run(_measure(names or tuple(ALL), Scale.quick() if quick else Scale(), out))


async def _measure(names: tuple[str, ...], scale: Scale, out: Path) -> None:
    about, results = report.machine(), {}
    async with standing() as stand:
        about["postgresql"] = await stand.postgresql_version()
        for name in names:
            click.secho(f"{name} …", bold=True)
            began, before = time.perf_counter(), Ticks.now()
            result = results[name] = await ALL[name](stand, scale)
            result.stolen_percent = (Ticks.now() - before).stolen_percent
            click.echo("\n".join(report.table(result.rows)))
            for what, reached in result.targets:
                click.secho(f"{'reached' if reached else 'missed'}: {what}", fg="green" if reached else "yellow")
            took = time.perf_counter() - began
            click.echo(f"took {took:.0f} s, {result.stolen_percent:.1f} % of the processor stolen\n")
            report.write(out, results, about)
    click.echo(f"written to {out}/")


if __name__ == "__main__":
    command()
