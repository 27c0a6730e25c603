"""What a cell measures of its fine-tuned network beside accuracy: where it looks, and how it goes by the background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from suite.grid.jobs import BackgroundSpec, FinetuneSpec, Job, LocalisationSpec, SaliencySpec
from suite.grid.recipe import Recipe, SaliencyArgs

Detectors = Mapping[str, tuple[str, str | None]]  # name -> version of the code, hash of the weights


def measurements(
    recipe: Recipe, finetune: FinetuneSpec, name: str, parents: tuple[Job, ...], detectors: Detectors, masked: bool
) -> Iterator[Job]:
    """The jobs that the recipe asks for.

    Args:
        recipe: of the cell.
        finetune: what the network was trained by.
        name: of the cell, for people.
        parents: the backbone's job, where there is one, and last the fine-tuning.
        detectors: per saliency detector, the version of its code and the hash of its weights.
        masked: whether the dataset comes with official masks.
    """
    if recipe.saliency is None:
        return
    saliency = saliency_spec(recipe.saliency, detectors)
    shared = {field: getattr(finetune, field) for field in ("data", "image_size", "backbone", "seed")}
    shared |= {"saliency": saliency, "finetune": parents[-1].key}
    if recipe.localisation is not None:
        oracle = recipe.saliency.model_copy(update={"detector": "masks"})
        masks = saliency_spec(oracle, detectors) if masked else None
        looks = LocalisationSpec(localisation=recipe.localisation, masks=masks, init=finetune.init, **shared)
        yield Job(looks, f"localisation {name}", parents)
    if recipe.background is not None:
        resize = finetune.train.eval_resize
        exchanges = BackgroundSpec(background=recipe.background, eval_resize=resize, **shared)
        yield Job(exchanges, f"background {name}", parents[-1:])


def saliency_spec(args: SaliencyArgs, detectors: Detectors) -> SaliencySpec:
    """The recipe's section with the detector's identity."""
    version, weights = detectors[args.detector]
    return SaliencySpec(**args.model_dump(), version=version, weights_sha256=weights)
