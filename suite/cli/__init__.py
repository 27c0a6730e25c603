"""The command line: one thin file per command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
import sys

import typer

from suite.cli import data, export, plan, report, run, status, sync
from suite.errors import SuiteError, TrainingError

_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}  # the user's to mend, no traceback

app = typer.Typer(
    name="suite",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Benchmark self-supervised fine-grained recognition: CVSA beside its baselines.",
)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("status")(status.status)
app.command("cancel")(status.cancel)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("sync")(sync.sync)
app.add_typer(data.app, name="data")


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
