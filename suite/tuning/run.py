"""One `suite tune`: open the study, run its trials, write the profile with the best values."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.atomic import write_json, write_text
from suite.execute.context import RunPaths
from suite.execute.display import LiveTable, PlainLines
from suite.execute.engine import Engine, Options, Summary
from suite.execute.imports import import_checkpoints
from suite.execute.mlflow_process import BackgroundMirror
from suite.execute.prepare import prepare
from suite.execute.preparing import PreparationStopped, prepare_visibly
from suite.execute.run import checkpoint_minutes
from suite.jobs.identity import Job
from suite.progress import PreparationLines
from suite.store.active import ActiveRun
from suite.tracking.address import tracking_uri
from suite.tuning.request import Tuning
from suite.tuning.study import TuningStudy, opened
from suite.tuning.tuner import Tuner

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class TuningOutcome:
    """The state of a study after a run."""

    tuning: Tuning
    trials: list[dict[str, Any]]
    best: int | None
    held_out: int  # images that the best trial was measured on, over all of its cells; 0 without a best trial
    profile: Path | None
    trained: int
    failed: int  # trials, in this run
    interrupted: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 all trials done, 1 some failed, 130 interrupted."""
        return 130 if self.interrupted else int(self.failed > 0)

    def next_command(self, grid: str, selectors: Sequence[str]) -> str:
        """The command that trains with the best values; empty if no profile was written."""
        if self.profile is None:
            return ""
        return shlex.join(["suite", "run", "--grid", grid, "--profile", str(self.profile), *selectors])


def tune(tuning: Tuning, engine: Engine) -> TuningOutcome:
    """Run the remaining trials of the study on `engine`."""
    began, request = time.monotonic(), tuning.request
    workspace, store = tuning.plan.workspace, tuning.plan.workspace.store
    lines = LiveTable(0) if sys.stderr.isatty() else PlainLines(0)
    paths = RunPaths(workspace.runs, workspace.cache, tuning.plan.plugins)
    executor = engine.executor(paths, checkpoint_minutes(), tuning.online)
    files = {digest: file for file, digest in tuning.plan.checkpoints.values()}
    summary, trained = Summary(), 0
    experiment = f"tune/{tuning.name}"
    facts = {"grid": experiment, "profile": tuning.plan.profile.name, "jobs": []}
    with (
        opened(
            tuning.folder, tuning.facts, tuning.space, request.sampler, request.pruner, request.seed, tuning.first
        ) as study,
        ActiveRun(workspace.runs, **facts) as here,
    ):
        running = False

        def make_ready(jobs: Sequence[Job]) -> None:
            lines.total += len(jobs)
            import_checkpoints(jobs, files, store)
            data = tuning.plan.datasets, tuning.plan.data_root, workspace.cache
            if running:  # Ctrl-C and `suite cancel` are handled by the loop that runs the jobs
                prepare(jobs, *data, PreparationLines())
            else:
                prepare_visibly(jobs, *data, here)

        tuner = Tuner(study, request.trials, tuning.jobs, make_ready, store, lines, lines.say)
        try:
            first = tuner.next_jobs()
        except (KeyboardInterrupt, PreparationStopped):
            print("Stopped while the data were prepared; finished maps and images are kept.", file=sys.stderr)
            first, summary.interrupted = [], True
        if first:
            running = True
            with BackgroundMirror(store, tracking_uri(workspace.runs), experiment), lines:
                options = Options(
                    next_jobs=tuner.next_jobs, is_unneeded=tuner.is_unneeded, asked_to_stop=here.asked_to_stop
                )
                summary = executor.run(first, tuner, options)
                trained = len(summary.done) - summary.elsewhere
        study.write()
        write_json(study.folder / "importances.json", study.importances())
        best = study.best()
        return TuningOutcome(
            tuning,
            study.facts(),
            None if best is None else best.number,
            0 if best is None else tuning.jobs(study.params(best)).held_out(store),
            None if best is None else _write_profile(tuning, study, best),
            trained,
            tuner.failures,
            summary.interrupted,
            time.monotonic() - began,
        )


def _write_profile(tuning: Tuning, study: TuningStudy, best: FrozenTrial) -> Path | None:
    """`best.yaml` of the study."""
    base = tuning.plan.profile
    params = study.params(best)
    values = ", ".join(f"{field} {value}" for field, value in params.items())
    counts = Counter(trial.state.name.lower() for trial in study.trials())
    trials = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    header = (
        f"Profile {base.name} with the best values of study {tuning.name}.\n"
        f"{values}: trial {best.number} of {len(study.trials())} ({trials}), sampler {tuning.request.sampler}, "
        f"seed {tuning.request.seed}.\n"
        f"{tuning.facts['metric']} {best.value:.2f} %, mean over {', '.join(cell.id for cell in tuning.cells)}:\n"
        "on held-out images of the training split. The test split took no part. As the best of many it is optimistic."
    )
    note = f"{base.note + '; ' if base.note else ''}{values} tuned on held-out training images"
    text = tuning.profile(params, note, header)
    path = study.folder / "best.yaml"
    if text is None:
        path.unlink(missing_ok=True)
        return None
    write_text(path, text)
    return path
