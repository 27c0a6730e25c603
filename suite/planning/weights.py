"""Warn in the plan if a run needs the weights of a saliency detector that this machine does not have."""

from __future__ import annotations

from suite.data.saliency.detectors import DETECTORS
from suite.data.saliency.maps import SaliencyMaps
from suite.data.saliency.u2netp import FILE, existing_weights
from suite.errors import DataError
from suite.kinds.registry import kind_of
from suite.planning.plan import Plan

_DETECTOR = "u2netp"


def missing_weights(plan: Plan) -> str | None:
    """One sentence on U^2-Net-p's weights where pending jobs need maps that they have yet to compute; else None.

    Complete maps need no weights. `suite run` downloads the weights, so that this matters on a machine without a
    network.
    """
    if existing_weights(plan.data_root, plan.workspace.cache) is not None:
        return None
    needs = {
        (need.data.name, need.split): (job.name, kind_of(job.spec).trains)
        for job in sorted(plan.pending, key=lambda job: kind_of(job.spec).trains)  # a job that trains is named last
        for need in kind_of(job.spec).maps(job.spec)
        if need.saliency.detector == _DETECTOR
    }
    incomplete = []
    for (name, split), reader in needs.items():
        maps = SaliencyMaps.of(plan.datasets[name], DETECTORS[_DETECTOR], plan.workspace.cache)
        try:
            complete = maps.folder.is_dir() and not maps.missing(plan.datasets[name].split(split))
        except DataError:  # an image cannot be read; the run names it
            complete = False
        if not complete:
            incomplete.append(reader)
    if not incomplete:
        return None
    trained = [name for name, trains in incomplete if trains]
    without = (
        f"'{trained[0]}' trains on them (--set saliency.detector=spectral needs no weights)"
        if trained
        else "or leave out the measurements that need them: --set localisation=null --set background=null"
    )
    return (
        f"weights: {FILE} (saliency maps, 4.6 MB) is not on this machine; `suite run` downloads it. Without a network, "
        f"copy the file into $SUITE_MODELS or {plan.data_root / 'models'}; {without}."
    )
