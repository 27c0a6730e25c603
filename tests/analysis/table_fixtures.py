"""A grid of two datasets and results made up by hand, small enough to check every number on paper."""

from suite.grid.spec import GridSpec
from suite.store.cells import ResultLine

GRID = GridSpec.model_validate(
    {
        "name": "toy",
        "title": "Toy, top-1 (%) after fine-tuning",
        "datasets": ["cub", "cars"],
        "reference_row": "byol",
        "rows": [
            {"name": "random", "label": "Random init", "method": "random", "stage2": False},
            {"name": "byol", "label": "BYOL", "method": "byol", "objective": "byol"},
            {"name": "mine", "label": "A&B_50% #1 [x]", "method": "mine", "objective": "byol"},
        ],
    }
)
PUBLISHED = {("random", "cub"): 58.51, ("byol", "cub"): 64.85, ("byol_cvsa", "cub"): 66.88}


def line(row: str, dataset: str, seed: int, value: float, **changes: object) -> ResultLine:
    """One line of results as the small profile would write it."""
    fields: dict[str, object] = {
        "grid": "toy", "row": row, "method": row, "dataset": dataset, "stage1": "none",
        "stage2": "no" if row == "random" else "yes", "profile": "small", "protocol": "finetune", "seed": seed,
        "metric": "top1", "value": value, "n": 500 if dataset == "cub" else 400, "key": f"{row}-{dataset}-{seed}",
    }  # fmt: skip
    return ResultLine.parse(fields | changes)


RESULTS = [
    line("random", "cub", 0, 40.0),
    line("random", "cub", 1, 41.0),
    line("byol", "cub", 0, 50.0),
    line("byol", "cub", 1, 53.0),
    line("mine", "cub", 0, 51.004),
    line("mine", "cub", 1, 51.988),
    line("random", "cars", 0, 30.0),
    line("mine", "cars", 0, 70.0),
    line("mine", "cars", 1, 72.0),
]
