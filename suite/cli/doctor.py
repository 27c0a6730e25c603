"""`suite doctor`: check the environment and print a fix for every problem."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from suite.cli import options


def doctor(
    data: options.Data = None,
    runs: options.Runs = None,
    json_: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """Check this machine and print a fix for every problem.

    Read-only. The exit code is 1 if something required is broken; missing optional parts do not count.
    """
    from dataclasses import asdict

    from suite.doctor import examine
    from suite.workspace import Workspace

    checks = examine(Workspace.of(data, runs))
    broken = [check for check in checks if check.state == "broken"]
    if json_:
        print(json.dumps({"sound": not broken, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            print(f"{check.state:9}{check.name:12} {check.text}")
            if check.fix:
                print(f"{'':21}fix: {check.fix}")
        missing = sum(check.state == "missing" for check in checks)
        print(f"{len(broken)} broken, {missing} missing (optional), {len(checks) - len(broken) - missing} ok.")
    raise typer.Exit(1 if broken else 0)
