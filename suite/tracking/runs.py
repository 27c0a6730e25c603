"""What MLflow has of the runs that a mirror made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

LAYOUT = "3"  # of a run's tags and inputs; runs of earlier versions have none and are completed by the next sync

SYNCED = "suite.synced_step"
RESULT = "suite.result"  # digest of the result.json that is there
ENTRY = "suite.entry"  # digest of the cell.json that is there
_LAYOUT = "suite.layout"
LAYOUT_TAG = {_LAYOUT: LAYOUT}  # written once the run has everything that the layout asks for


@dataclass
class MirroredRun:
    """What MLflow has of a job or a cell."""

    run_id: str
    start: int  # milliseconds; the origin of its metrics' times
    artifacts: str = ""  # address of its files
    status: str = "RUNNING"
    synced: int | None = None  # last step whose metrics are there; None: not even the parameters are
    jobs: str | None = None  # of a cell
    files: str | None = None  # digest of the job's result or of the cell's entry, once its files are there
    layout: str | None = None

    @classmethod
    def of(cls, run: Any) -> MirroredRun:
        """From a run that MLflow returned.

        A finished job's run gets all its tags at its creation. Until its status says so, nothing else may be there.
        """
        tags, status = run.data.tags, run.info.status
        begun = RESULT in tags and status == "RUNNING"
        return cls(
            run_id=run.info.run_id,
            start=run.info.start_time,
            artifacts=run.info.artifact_uri or "",
            status=status,
            synced=int(tags[SYNCED]) if SYNCED in tags and not begun else None,
            jobs=tags.get("suite.jobs"),
            files=None if begun else tags.get(RESULT) or tags.get(ENTRY),
            layout=tags.get(_LAYOUT),
        )


def find_runs(client: MlflowClient, experiment: str) -> Iterator[tuple[str, Any]]:
    """The runs that a mirror made in an experiment, each with its tag `suite.key`, `suite.cell` or `suite.trial`."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            names = (run.data.tags.get(f"suite.{kind}") for kind in ("key", "cell", "trial"))
            if (name := next(filter(None, names), None)) is not None:
                yield name, run
        token = page.token
        if not token:
            return
