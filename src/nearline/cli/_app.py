"""Commands and their options, and how errors end a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import nearline
from nearline._errors import NearlineError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in help texts are tables of nearline.toml
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Argument(metavar="[nearline.toml]", help="Describes data, model and backtest.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", is_eager=True)]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"nearline {nearline.__version__}")
        raise typer.Exit


@app.callback()
def nearline_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Keeps a served model fresh: per-entity Bayesian updates from a stream, in event order."""


@app.command()
def backtest(
    config: ConfigFile = Path("nearline.toml"),
    rows: Annotated[int | None, typer.Option(min=20, help="Replay only the first so many rows.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Where the HTML report goes, instead of [backtest] report.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Replay a stream, predict then learn, and compare ways of keeping the model up to date."""
    from nearline.cli import _backtest

    _backtest.run(config, rows, report, json)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0 runs until it is interrupted.")] = 90.0,
    rate: Annotated[float, typer.Option(min=1, help="Predictions per second.")] = 3_000.0,
    headless: Annotated[bool, typer.Option("--headless", help="Lines instead of a live table.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Instead: the backtest, on MovieLens-1M where NEARLINE_DATA has it.")
    ] = False,
    rows: Annotated[int | None, typer.Option(min=200, help="With --replay: events; fewer are faster.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the marketplace.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the report, the nearline.toml and the state.")] = Path(
        "nearline-demo"
    ),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Watch a running service learn: simulated members click on ads, tastes change, new ads appear."""
    if replay:
        from nearline.cli import _replay_demo

        _replay_demo.run(rows, seed, out, json)
        return
    from nearline.cli import _live_demo

    _live_demo.run(_live_demo.Plan(seconds, rate, seed), out, headless, json)


@app.command()
def check(
    config: ConfigFile = Path("nearline.toml"),
    data: Annotated[
        list[str] | None, typer.Argument(metavar="[DATA]...", help="Files or patterns, instead of [data].")
    ] = None,
    dead_letter: Annotated[
        Path | None, typer.Option(help="Write the refused rows here (Parquet), each with its reason.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check data against the schema: exit status 0 when every row can be learned, 1 when some are refused."""
    from nearline.cli import _check

    _check.run(config, data or [], dead_letter, json)


@app.command()
def tune(
    config: ConfigFile = Path("nearline.toml"),
    trials: Annotated[int | None, typer.Option(min=1, help="Settings to try, instead of [tune] trials.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the search, instead of [tune] seed.")] = None,
    on: Annotated[
        Literal["data", "ledger"] | None, typer.Option(help="Search on [data] or on what a service recorded.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put the best settings into the file, if they are worth it.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Search priors, half-lives and noise around what history teaches, and say whether that is worth it."""
    from nearline.cli import _tune

    _tune.run(config, trials, seed, on, write, json)


@app.command()
def fit(
    config: ConfigFile = Path("nearline.toml"),
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "fit from history",
    publish: Annotated[bool, typer.Option(help="Make it the live version, if the gate lets it.")] = True,
    on: Annotated[
        Literal["data", "ledger", "both"] | None,
        typer.Option(help="Learn [data], what the service recorded, or one after the other; instead of [fit] on."),
    ] = None,
    cutoff: Annotated[
        int | None,
        typer.Option(min=0, help="Examples of the ledger before this position are learned, or are in [data]."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a whole model (2.0.0) and publish it; a running service learns what came since, then serves it."""
    from nearline.cli import _fit

    _fit.run(config, why, publish, json, on, cutoff)


@app.command()
def refit(
    config: ConfigFile = Path("nearline.toml"),
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "re-fit from the ledger",
    publish: Annotated[bool, typer.Option(help="Make it the live version, if the gate lets it.")] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Re-fit the random effects on the live global fit, from the ledger (1.1.0), and publish it as `fit` does."""
    from nearline.cli import _refit

    _refit.run(config, why, publish, json)


@app.command()
def train(
    config: ConfigFile = Path("nearline.toml"),
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "trained on the ledger",
    publish: Annotated[bool, typer.Option(help="Make it the live version, if the gate lets it.")] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train the network on chosen rows of what the service recorded since, as the next version (2.0.0)."""
    from nearline.cli import _train

    _train.run(config, why, publish, json)


@app.command()
def why(
    prediction_id: Annotated[str, typer.Argument(help="As /predict answered.")],
    config: ConfigFile = Path("nearline.toml"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether the network was trained on a prediction, by which version, and with what probability."""
    from nearline.cli import _why

    _why.run(config, prediction_id, json)


@app.command()
def run(
    config: ConfigFile = Path("nearline.toml"),
    host: Annotated[str | None, typer.Option(help="Address, instead of [serve] host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port, instead of [serve] port.")] = None,
    debug: Debug = False,
) -> None:
    """Serve the live version and keep it fresh: record, join, learn, publish. Dashboard at /."""
    from nearline.cli import _run

    _run.run(config, host, port, True)


@app.command()
def serve(
    config: ConfigFile = Path("nearline.toml"),
    host: Annotated[str | None, typer.Option(help="Address, instead of [serve] host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port, instead of [serve] port.")] = None,
    debug: Debug = False,
) -> None:
    """Serve and record without learning; outcomes wait in the ledger for `nearline run`."""
    from nearline.cli import _run

    _run.run(config, host, port, False)


@app.command()
def versions(
    config: ConfigFile = Path("nearline.toml"),
    at: Annotated[str | None, typer.Option(help="Which version was live at this time?")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the versions, what is live, and who changed that when and why."""
    from nearline.cli import _versions

    _versions.show(config, at, json)


Why = Annotated[str, typer.Option(help="The reason, for the history.")]


@app.command()
def publish(
    version: Annotated[str, typer.Argument(help="global.batch.nearline, such as 1.0.900.")],
    config: ConfigFile = Path("nearline.toml"),
    why: Why = "published by hand",
    force: Annotated[bool, typer.Option("--force", help="Even if the gate refuses it; the history says so.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a version the live one if the gate lets it ([gate]); a running service follows without a restart."""
    from nearline.cli import _versions

    _versions.publish(config, version, why, force, json)


@app.command()
def gate(
    version: Annotated[str, typer.Argument(help="global.batch.nearline, such as 1.0.900.")],
    config: ConfigFile = Path("nearline.toml"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Would a version do better than what is served? Exit status 0 when it may be published, 1 when it is refused."""
    from nearline.cli import _gate

    _gate.run(config, version, json)


@app.command()
def rollback(
    config: ConfigFile = Path("nearline.toml"),
    to: Annotated[str | None, typer.Option(help="A version; the one before the live one by default.")] = None,
    why: Why = "rolled back by hand",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make an earlier version live again; a running service follows without a restart."""
    from nearline.cli import _versions

    _versions.rollback(config, to, why, json)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(help="A version.")],
    other: Annotated[str, typer.Argument(help="Another version.")],
    config: ConfigFile = Path("nearline.toml"),
    top: Annotated[int, typer.Option(min=0, help="So many of the largest changes per effect.")] = 5,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What differs between two versions: sizes, metrics, and the coefficients that moved most."""
    from nearline.cli import _versions

    _versions.diff(config, one, other, top, json)


def main() -> None:
    """Run the command line; an error that nearline foresees is one line on standard error and exit status 2."""
    from nearline.cli import _own

    _own.PROCESS = True
    try:
        app()
    except (NearlineError, MemoryError) as error:
        if "--debug" in sys.argv:
            raise
        from rich.console import Console
        from rich.text import Text

        said = str(error) if isinstance(error, NearlineError) else f"out of memory; see [training] memory_gb ({error})"
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {said}", style="red"))
        sys.exit(2)
