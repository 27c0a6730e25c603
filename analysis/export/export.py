"""`suite export`: a cell's network as a folder that others can load without the suite, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save
from torch import Tensor

from analysis.cells.evaluated import grid_of_store
from analysis.export.model_card import model_card
from methods.args import BackboneArgs
from methods.backbones.base import PublicModel, family_of
from methods.views.batch import MEAN, STD
from suite.atomic import write_bytes, write_text
from suite.data.catalogue import DATASETS
from suite.data.decoded.stores import image_facts
from suite.errors import StoreError, UsageError, unknown
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.imported import ImportSpec
from suite.kinds.pretrain import PretrainSpec
from suite.store.cells import CellRecord, result_lines
from suite.store.ledger import profile_of, read_cells
from suite.store.store import Store, sha256
from suite.weights import load_weights
from suite.workspace import Workspace

Stage = Literal["pretrained", "finetuned"]
WEIGHTS = "model.safetensors"


def export_cell(
    workspace: Workspace, grid_name: str, cell: str, profile: str | None, stage: Stage, out: Path
) -> list[Path]:
    """Write model.safetensors (the public library's key names), config.json and README.md into `out`.

    `cell` is row/dataset/seed, or row/dataset where one seed was run. `pretrained`: the backbone after the last stage
    of pretraining, without a head; `finetuned`: with the classifier.

    Raises:
        UsageError: no such cell; or a row without the network that `stage` names.
        StoreError: not finished, or its weights are missing or damaged.
    """
    grid = grid_of_store(workspace.runs, grid_name)
    profile = profile_of(workspace.runs, grid.name, profile)
    entry = find_cell(read_cells(workspace.runs, grid.name, profile), cell, grid.name)
    store = workspace.store
    if stage == "finetuned" and "finetune" not in entry.measured:
        raise UsageError(
            f"cell {cell} is frozen: it has no fine-tuned network. Export its backbone: --stage pretrained"
        )
    key = entry.measured["finetune"] if stage == "finetuned" else _pretrained(entry)
    source = "model.safetensors" if stage == "finetuned" else "backbone.safetensors"
    public = public_model(entry.recipe)
    tensors = public_keys(load_weights(store.weights(key, source)), public.head)
    write_bytes(out / WEIGHTS, save(tensors, metadata={"format": "pt", "suite_job": key}))
    config = {"label": grid.row(entry.row).label, **describe(workspace, entry, key, stage)}
    if stage == "finetuned":
        config["head"] = {"classes": len(tensors[f"{public.head}.bias"]), "names": class_names(workspace, key)}
    config["weights"] = {"file": WEIGHTS, "sha256": sha256(out / WEIGHTS), "tensors": len(tensors)}
    write_text(out / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    write_text(out / "README.md", model_card(config, public))
    return [out / WEIGHTS, out / "config.json", out / "README.md"]


_PLACE = ("grid", "profile", "row", "method", "dataset", "seed", "stage1", "stage2")


def find_cell(entries: list[CellRecord], cell: str, grid: str) -> CellRecord:
    """The recorded cell of that id. Raises UsageError, with the nearest one, where there is none or several."""
    found = {entry.id: entry for entry in entries}
    if cell in found:
        return found[cell]
    several = [name for name in found if name.rpartition("/")[0] == cell]
    if len(several) == 1:
        return found[several[0]]
    if several:
        raise UsageError(f"cell {cell} was run with several seeds; name one of {', '.join(sorted(several))}.")
    raise unknown("cell", cell, found, f"(grid {grid})")


def public_model(recipe: Mapping[str, Any]) -> PublicModel:
    """The equivalent of a recipe's backbone in a public library."""
    backbone = BackboneArgs.model_validate(recipe["backbone"])
    return family_of(backbone.arch).public_model(backbone)


def public_keys(tensors: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """A network's tensors by the key names of its public library.

    A backbone's names are that library's already. A fine-tuned network's have the prefix `backbone.`, which is removed,
    and `fc.`, which becomes the library's name of the classifier.
    """
    names = {name: name.removeprefix("backbone.") for name in tensors}
    return {
        names[name].replace("fc.", f"{head}.", 1) if name.startswith("fc.") else names[name]: tensor
        for name, tensor in tensors.items()
    }


def describe(workspace: Workspace, entry: CellRecord, key: str, stage: Stage) -> dict[str, Any]:
    """Everything known of a network, as config.json has it."""
    store, recipe = workspace.store, entry.recipe
    public = public_model(recipe)
    jobs = _lineage(store, entry, key)
    return {
        "cell": entry.id,
        **{name: getattr(entry, name) for name in _PLACE},
        "stage": stage,
        "key": key,
        "architecture": {**recipe["backbone"], public.library: public.constructor},
        "head": None,
        "input": {
            "image_size": recipe["image_size"],
            "resize_short_side": round(recipe["image_size"] * recipe["finetune"]["eval_resize"]),
            "mean": list(MEAN),
            "std": list(STD),
            "range": [0, 1],
        },
        "data": {name: facts.model_dump() | {"licence": DATASETS[name].licence} for name, facts in entry.data.items()},
        "metrics": [
            {name: getattr(line, name) for name in ("protocol", "metric", "key", "value", "n")}
            for line in result_lines(store, [entry])
            if stage == "pretrained" or line.protocol == "finetune"
        ],
        "suspicious": [reason for job in jobs if (done := store.result(job["key"])) for reason in done.suspicious],
        "changed_with_set": entry.set,
        "first_stage": entry.first_stage,
        "first_stage_checkpoint": entry.stage1_checkpoint and entry.stage1_checkpoint.model_dump(),
        "recipe": recipe,
        "stage1_recipe": entry.stage1_recipe,
        "jobs": jobs,
        "software": _software(store, key),
    }


def class_names(workspace: Workspace, key: str) -> list[str] | None:
    """Class names of a fine-tuned network's outputs; None where no image store in the cache records them."""
    spec = workspace.store.spec(key)
    if not isinstance(spec, FinetuneSpec):
        raise StoreError(f"job {key} is no fine-tuning, so it has no classifier.")
    facts = image_facts(workspace.cache, spec.data)
    return None if facts is None else facts.classes


def _pretrained(entry: CellRecord) -> str:
    """Key of the last stage before fine-tuning."""
    stages = [key for role, key in entry.roles.items() if role.startswith("stage ")]
    if not stages:
        if "finetune" not in entry.measured:
            raise UsageError(f"row '{entry.row}' has random weights and is frozen: it has no network to export.")
        raise UsageError(
            f"row '{entry.row}' is not pretrained, so it has no pretrained backbone; try --stage finetuned."
        )
    return str(stages[-1])


def _lineage(store: Store, entry: CellRecord, key: str) -> list[dict[str, Any]]:
    """The jobs that led to `key`, itself included: key, name and full spec."""
    keys = [job for role, job in entry.roles.items() if role.startswith("stage ") or job == key]
    specs = {job: store.spec(job) for job in keys}
    kept = [job for job in keys if job == key or isinstance(specs[job], PretrainSpec | ImportSpec)]
    return [{"key": job, "name": store.name(job), "spec": specs[job].model_dump(mode="json")} for job in kept]


def _software(store: Store, key: str) -> dict[str, Any]:
    path = store.folder(key) / "env.json"
    environment = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {name: environment[name] for name in ("python", "packages", "commit") if name in environment}
