"""What the store knows about single jobs, in the form of the report page."""

from __future__ import annotations

import json
from collections.abc import Iterable

from analysis.page.model import JobDetail
from suite.store.store import Store

LOG_LINES, LOG_BYTES = 20, 8192  # length of the excerpt from the end of a log


def job_details(store: Store, keys: Iterable[str]) -> tuple[list[JobDetail], list[dict[str, str]]]:
    """Every job of `keys`, which are distinct, that has started, and the distinct environments that they ran in."""
    jobs: list[JobDetail] = []
    environments: list[dict[str, str]] = []
    for key in keys:
        state = store.status(key)
        if state == "new":
            continue
        environment = _environment(store, key)
        commit = environment.pop("commit", "")
        if environment and environment not in environments:
            environments.append(environment)
        result, failure = store.result(key), store.failure(key)
        jobs.append(
            JobDetail(
                key=key,
                name=store.name(key) if result is None else result.name,
                state=state,
                seconds=None if result is None else result.seconds,
                images_per_second=None if result is None else result.images_per_second,
                commit=commit,
                environment=environments.index(environment) + 1 if environment else None,
                files={} if result is None else result.files,
                suspicious=[] if result is None else result.suspicious,
                error="" if failure is None else failure.error,
                log=_log_tail(store, key),
            )
        )
    return jobs, environments


def training_seconds(store: Store, keys: Iterable[str]) -> float:
    """Training time of the distinct finished jobs among `keys`."""
    results = [store.result(key) for key in dict.fromkeys(keys)]
    return sum(result.seconds for result in results if result is not None)


def _environment(store: Store, key: str) -> dict[str, str]:
    """env.json on one level, everything as text."""
    path = store.folder(key) / "env.json"
    if not path.is_file():
        return {}
    flat: dict[str, str] = {}
    for name, value in json.loads(path.read_text("utf-8")).items():
        if isinstance(value, dict):
            flat |= {inner: str(text) for inner, text in value.items()}
        else:
            flat[name] = "" if value is None else str(value)
    return flat


def _log_tail(store: Store, key: str) -> str:
    path = store.folder(key) / "log.txt"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-LOG_LINES:])
