"""The README.md of an exported network: a model card with front matter as Hugging Face's hub reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from methods.backbones.base import PublicModel
from suite.data.catalogue import DATASETS

MEANING = {
    "finetune": "top-1 after fine-tuning the whole network",
    "linear": "top-1 of a linear classifier on the frozen backbone",
    "knn": "top-1 of nearest neighbours on the frozen backbone",
    "linear_sgd": "top-1 of a linear classifier trained by SGD on the frozen backbone, last epoch",
}
# The numbers that a reader looks for first. Where a network lacks one, another takes its place.
MAIN = (
    ("finetune", "top1"),
    ("linear", "top1"),
    ("knn", "top1"),
    ("localisation", "act_pointing"),
    ("background", "mixed_rand"),
)
_NAMES = {
    ("localisation", "act_pointing"): "highest activation of the backbone inside the object's box",
    ("background", "mixed_rand"): "top-1 on the background of another class",
}

log = logging.getLogger(__name__)


def model_card(config: Mapping[str, Any], public: PublicModel) -> str:
    """Front matter and text, from the contents of config.json and the network's equivalent in a public library."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    main, other = main_and_other(config["metrics"])
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined,
        autoescape=False,  # the output is Markdown
    )  # fmt: skip
    return environment.get_template("model_card.md.j2").render(
        c=config,
        front=yaml.safe_dump(front_matter(config), sort_keys=False, allow_unicode=True).rstrip(),
        label=DATASETS[config["dataset"]].label,
        labels={name: info.label for name, info in DATASETS.items()},
        main=main,
        other=other,
        named=_named,
        loading=loading(config, public),
        public=public,
        synthetic=any(facts["synthetic"] for facts in config["data"].values()),
        subset=any(facts["subset"] for facts in config["data"].values()),
    )


def front_matter(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of huggingface.co/docs/hub/model-cards. The licence is `other`: the data's terms decide.

    The results are added by huggingface_hub (extra `hub`); without it the card has none for machines, and a warning
    says so.
    """
    fields: dict[str, Any] = {
        "license": "other",
        "license_name": "terms-of-the-training-data",
        "library_name": "pytorch",
        "pipeline_tag": "image-classification" if config["stage"] == "finetuned" else "image-feature-extraction",
        "tags": ["self-supervised-learning", "fine-grained", config["method"], config["architecture"]["arch"]],
        "datasets": list(config["data"]),
    }
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError:
        log.warning("The card has no results for the Hugging Face Hub. To add them: pip install -e '.[hub]'")
        return fields
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=config["dataset"],
            dataset_name=config["data"][config["dataset"]]["describe"],
            dataset_split="test",
            metric_type="accuracy",
            metric_name=MEANING.get(line["protocol"], line["protocol"]),
            metric_value=line["value"],
        )
        for line in config["metrics"]
        if line["metric"] == "top1"
    ]
    name = f"{config['label']} on {DATASETS[config['dataset']].label}, {config['stage']}"
    named: dict[str, Any] = {"model_name": name, "eval_results": results} if results else {}
    data: Any = ModelCardData(**fields, **named)
    return dict(data.to_dict())


def _named(line: Mapping[str, Any]) -> str:
    protocol, metric = line["protocol"], line["metric"]
    if metric == "top1" and protocol in MEANING:
        return MEANING[protocol]
    return _NAMES.get((protocol, metric), f"{protocol}, {metric}")


def main_and_other(metrics: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """At most five numbers that stand in the card, and the others, which it folds."""
    places = {place: number for number, place in enumerate(MAIN)}
    ordered = sorted(metrics, key=lambda line: places.get((line["protocol"], line["metric"]), len(MAIN)))
    return ordered[: len(MAIN)], ordered[len(MAIN) :]


def loading(config: Mapping[str, Any], public: PublicModel) -> str:
    """Python statements that build the network and load its weights; with the suite's own code where they have to."""
    file, classes = config["weights"]["file"], (config["head"] or {}).get("classes")
    statements = public.backbone if classes is None else public.classifier.replace("{classes}", str(classes))
    if statements:
        return f'{statements}\nmodel.load_state_dict(load_file("{file}"))'
    settings = {name: value for name, value in config["architecture"].items() if name != public.library}
    lines = [
        "from methods.args import BackboneArgs  # of the benchmark suite",
        *([] if classes is None else ["from methods.backbone import Classifier"]),
        "from methods.backbones.registry import build_backbone",
        "",
        f"args = BackboneArgs.model_validate({json.dumps(settings)})",
    ]
    if classes is None:
        lines += [
            "model = build_backbone(args)  # features: model.pooled(images)",
            f'model.load_state_dict(load_file("{file}"))',
        ]
    else:
        head = public.head
        lines += [
            f"model = Classifier(build_backbone(args), {classes})",
            f'tensors = load_file("{file}")',
            f'model.fc.load_state_dict({{"weight": tensors.pop("{head}.weight"), "bias": tensors.pop("{head}.bias")}})',
            "model.backbone.load_state_dict(tensors)",
        ]
    return "\n".join(lines)
