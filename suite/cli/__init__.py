"""The command line: one thin file per command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from suite import __version__
from suite.cli import (
    bench,
    compare,
    data,
    discover,
    doctor,
    evaluate,
    export,
    forget,
    leaderboard,
    merge,
    plan,
    publish,
    report,
    run,
    status,
    sync,
    tune,
)
from suite.cli.light import LightCommand, LightGroup
from suite.environment import secure_process
from suite.errors import SuiteError, TrainingError
from suite.filesystem import describe_os_error
from suite.paths import absolute_environment

app = typer.Typer(
    name="suite",
    cls=LightGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Benchmark self-supervised fine-grained recognition: CVSA beside its baselines.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"suite {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("run", cls=LightCommand)(run.run)
app.command("evaluate", cls=LightCommand)(evaluate.evaluate)
app.command("plan", cls=LightCommand)(plan.plan)
app.command("bench", cls=LightCommand)(bench.bench)
app.command("tune", cls=LightCommand)(tune.tune)
app.command("status", cls=LightCommand)(status.status)
app.command("cancel", cls=LightCommand)(status.cancel)
app.command("compare", cls=LightCommand)(compare.compare)
app.command("forget", cls=LightCommand)(forget.forget)
app.command("merge", cls=LightCommand)(merge.merge)
app.command("report", cls=LightCommand)(report.report)
app.command("export", cls=LightCommand)(export.export)
app.command("publish", cls=LightCommand)(publish.publish)
app.command("leaderboard", cls=LightCommand)(leaderboard.leaderboard)
app.command("sync", cls=LightCommand)(sync.sync)
app.add_typer(data.app, name="data")
app.command("list", cls=LightCommand)(discover.list_)
app.command("show", cls=LightCommand)(discover.show)
app.command("doctor", cls=LightCommand)(doctor.doctor)


def main() -> None:
    """Entry point of `suite`. Exit codes: 0 done, 1 some cells failed, 2 usage or missing data, 130 interrupted."""
    secure_process()
    try:
        absolute_environment()
        app()
    except TrainingError as error:
        _complain(error)
        sys.exit(1)
    except SuiteError as error:
        _complain(error)
        sys.exit(2)
    except OSError as error:
        if (sentence := describe_os_error(error)) is None:
            raise
        _complain(sentence)
        sys.exit(2)
    except UnicodeEncodeError as error:
        if error.encoding != sys.getfilesystemencoding().replace("-", "_") and error.encoding != "ascii":
            raise
        _complain(
            f"the name {error.object!r} cannot be written with this locale's encoding ({error.encoding}). Set "
            "PYTHONUTF8=1 and give the command again."
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(error: Exception | str) -> None:
    print(f"error: {error}", file=sys.stderr)
