"""The command line: one thin file per command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from suite import __version__
from suite.cli import data, discover, doctor, export, forget, plan, report, run, status, sync, tune
from suite.cli.light import LightCommand, LightGroup
from suite.errors import SuiteError, TrainingError

_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}  # errors the user can fix: no traceback

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
app.command("plan", cls=LightCommand)(plan.plan)
app.command("tune", cls=LightCommand)(tune.tune)
app.command("status", cls=LightCommand)(status.status)
app.command("cancel", cls=LightCommand)(status.cancel)
app.command("forget", cls=LightCommand)(forget.forget)
app.command("report", cls=LightCommand)(report.report)
app.command("export", cls=LightCommand)(export.export)
app.command("sync", cls=LightCommand)(sync.sync)
app.add_typer(data.app, name="data")
app.command("list", cls=LightCommand)(discover.list_)
app.command("show", cls=LightCommand)(discover.show)
app.command("doctor", cls=LightCommand)(doctor.doctor)


def main() -> None:
    """Entry point of `suite`. Exit codes: 0 done, 1 some cells failed, 2 usage or missing data, 130 interrupted."""
    try:
        app()
    except TrainingError as error:
        _complain(error)
        sys.exit(1)
    except SuiteError as error:
        _complain(error)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        _complain(
            f"{error.strerror}: {error.filename or 'disk'}. Check free space and permissions; --runs chooses a folder."
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(error: Exception | str) -> None:
    print(f"error: {error}", file=sys.stderr)
