"""Render the synthetic datasets of a profile into the cache."""

from __future__ import annotations

from pathlib import Path

from suite.data.synthetic.spec import SyntheticSpec
from suite.data.synthetic.write import VERSION, write_synthetic
from suite.jobs.identity import content_key
from suite.locks import FileLock


def synthetic_root(spec: SyntheticSpec, cache: Path) -> Path:
    """The folder of the synthetic datasets of a spec, whether or not it exists."""

    return cache / "synthetic" / f"{content_key(spec)[:12]}-v{VERSION}"


def render_synthetic(spec: SyntheticSpec, cache: Path) -> Path:
    """Render the datasets of a spec unless that has been done. Returns the data root."""

    root = synthetic_root(spec, cache)
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{root}.lock"):
        write_synthetic(root, spec)
    return root
