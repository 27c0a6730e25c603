"""The README.md of an exported network: a model card with front matter as Hugging Face's hub reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from methods.backbones.base import PublicModel
from suite.data.catalogue import DATASETS

MEANING = {
    "finetune": "top-1 after fine-tuning the whole network",
    "linear": "top-1 of a linear classifier on the frozen backbone",
    "knn": "top-1 of nearest neighbours on the frozen backbone",
}


def model_card(config: Mapping[str, Any], public: PublicModel) -> str:
    """Front matter and text, from the contents of config.json and the network's equivalent in a public library."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
        meaning=MEANING,
        loading=loading(config, public),
        public=public,
        synthetic=any(facts["synthetic"] for facts in config["data"].values()),
        subset=any(facts["subset"] for facts in config["data"].values()),
    )


def front_matter(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of huggingface.co/docs/hub/model-cards. The licence is `other`: the data's terms decide."""
    finetuned = config["stage"] == "finetuned"
    label = DATASETS[config["dataset"]].label
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": config["data"][config["dataset"]]["describe"], "type": config["dataset"]},
            "metrics": [{"type": "accuracy", "value": line["value"], "name": MEANING.get(line["protocol"], "")}],
        }
        for line in config["metrics"]
        if line["metric"] == "top1"
    ]
    return {
        "license": "other",
        "license_name": "terms-of-the-training-data",
        "library_name": "pytorch",
        "pipeline_tag": "image-classification" if finetuned else "image-feature-extraction",
        "tags": ["self-supervised-learning", "fine-grained", config["method"], config["architecture"]["arch"]],
        "datasets": list(config["data"]),
        "model-index": [{"name": f"{config['label']} on {label}, {config['stage']}", "results": results}],
    }


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
