"""The README.md of an exported network: a model card with front matter as Hugging Face's hub reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from suite.data.catalogue import DATASETS

MEANING = {
    "finetune": "top-1 after fine-tuning the whole network",
    "linear": "top-1 of a linear classifier on the frozen backbone",
    "knn": "top-1 of nearest neighbours on the frozen backbone",
}
_STEMS = {
    "half": "`conv1` is 3x3 with stride 2 and there is no max-pooling",
    "small": "`conv1` is 3x3 with stride 1 and there is no max-pooling",
}


def model_card(config: Mapping[str, Any]) -> str:
    """Front matter and text, from what config.json holds."""
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
        unlike=unlike_torchvision(config["architecture"]),
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


def unlike_torchvision(architecture: Mapping[str, Any]) -> list[str]:
    """How a network differs from torchvision's of that name; empty where its constructor fits."""
    if architecture["torchvision"] is not None:
        return []
    found = ["it has one basic block per stage"] if architecture["arch"] == "resnet10" else []
    if architecture["width"] != 64:
        found.append(f"its first stage has {architecture['width']} channels instead of 64")
    return found + [text for stem, text in _STEMS.items() if stem == architecture["stem"]]
