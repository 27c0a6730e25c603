"""Downloads: archives of datasets (fetch.py) and checkpoints that others published (checkpoint.py)."""

from suite.data.download.checkpoint import obtain_file

__all__ = ["obtain_file"]
