"""Upload a published folder to the Hugging Face Hub. Nothing else in the suite sends anything there."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from analysis.publish.record import FILE, Published
from suite.errors import StoreError, UsageError, unknown
from suite.redact import redact

TYPES = ("model", "dataset", "space")
_LIBRARIES = {"huggingface_hub", "httpx", "httpcore", "requests", "urllib3", "hf_xet"}


def check_target(repo: str, kind: str) -> None:
    """Raise UsageError where `repo` is not OWNER/NAME, `kind` is unknown or huggingface_hub is not installed."""
    owner, slash, name = repo.partition("/")
    if not (owner and slash and name) or "/" in name or "://" in repo:
        raise UsageError(f"--upload expects OWNER/NAME of a repository on the Hugging Face Hub, got '{redact(repo)}'.")
    if kind not in TYPES:
        raise unknown("type of repository", kind, TYPES)
    api_of_hub()


def upload(folder: Path, published: Published, repo: str, kind: str, private: bool, api: Any = None) -> str:
    """Upload the files that `published` lists, and published.json; other files in the folder stay here.

    The repository is created where there is none. The token is the one that huggingface_hub knows: `hf auth login`, or
    the variable HF_TOKEN.

    Args:
        folder: written by `publish`.
        published: its record.
        repo: OWNER/NAME.
        kind: ``model``, ``dataset`` or ``space``; a space shows index.html as a web page.
        private: of a repository that is created.
        api: a huggingface_hub.HfApi; default a new one.

    Returns:
        The address of the repository.

    Raises:
        StoreError: the Hub refuses, or cannot be reached. The folder is complete; the command may be repeated.
    """
    api = api_of_hub() if api is None else api
    sdk = {"space_sdk": "static"} if kind == "space" else {}
    try:
        url = api.create_repo(repo_id=repo, repo_type=kind, private=private, exist_ok=True, **sdk)
        api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=str(folder),
            allow_patterns=[glob.escape(name) for name in (*published.files, FILE)],
            commit_message=f"{published.title} (suite {published.suite})",
        )
    except Exception as error:
        origin = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
        if not isinstance(error, OSError) and not origin & _LIBRARIES:
            raise
        reason = next(iter(redact(str(error)).strip().splitlines()), type(error).__name__)
        raise StoreError(
            f"{repo} was not uploaded ({reason[:200]}). The folder {folder} is complete. Log in with `hf auth login` "
            "or set HF_TOKEN to a token that may write there, then give the command again."
        ) from None
    return str(url)


def api_of_hub() -> Any:
    """A new huggingface_hub.HfApi. Raises UsageError where the package is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UsageError("--upload needs the package huggingface_hub: pip install -e '.[hub]'") from None
    return HfApi()
