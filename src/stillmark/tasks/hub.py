"""Data sets of the Hugging Face hub, at one revision. No code of a data set is run, and none stands in for another.

`datasets` reads them, or, where `files` are named, those are taken as they are (for data sets that a script of theirs
would read). Where the hub cannot be reached, `datasets` falls back to whatever copy it has, of any revision, with
no more than a line in its log: that is refused here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmark.errors import UserError
from stillmark.tasks.row_files import PART, read_file


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A data set on the hub. Without a revision, today's is resolved, used and recorded."""

    repository: str
    split: str
    revision: str | None
    configs: tuple[str, ...] = ("default",)
    files: tuple[str, ...] = ()  # of the repository, instead of its configurations


class OtherRevisionError(Exception):
    """The hub could not be reached, and the copy that is here is of another revision."""


def load_hub(hub: Hub, what: str, local_files: Sequence[str]) -> tuple[Iterator[dict[str, Any]], str]:
    """Rows and the revision that they are of. `local_files`: names under which they would be read from a folder."""
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(
            f"{what} comes from the hub, and `datasets` is not installed",
            hint=f"pip install datasets, or {local_alternative(local_files)}",
        ) from error
    try:
        revision = hub.revision or str(HfApi().dataset_info(hub.repository).sha)
        if hub.files:
            return rows_of_files(hub, revision), revision
        tables = []
        for config in hub.configs:
            builder = datasets.load_dataset_builder(hub.repository, config, revision=revision)
            if builder.hash != revision:
                raise OtherRevisionError(f"only a copy of revision {str(builder.hash)[:12]} is here")
            builder.download_and_prepare()
            tables.append((config, builder.as_dataset(split=hub.split)))
    except Exception as error:  # the hub's errors have no common base: each is about the network, or the name
        raise refusal(hub, what, local_files, error) from error
    return ({**row, PART: config} for config, table in tables for row in table), revision


def rows_of_files(hub: Hub, revision: str) -> Iterator[dict[str, Any]]:
    """Rows of the named files. All are fetched before the first is read."""
    from huggingface_hub import hf_hub_download

    paths = [
        hf_hub_download(hub.repository, name, repo_type="dataset", revision=revision) for name in hub.files
    ]
    return (row for path in paths for row in read_file(Path(path)))


def refusal(hub: Hub, what: str, local_files: Sequence[str], error: Exception) -> UserError:
    """One line on what went wrong, and what to do: the local file, or the terms to accept."""
    from huggingface_hub import constants

    chain = causes(error)
    statuses = {getattr(getattr(one, "response", None), "status_code", None) for one in chain}
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    local = local_alternative(local_files)
    page = f"{constants.ENDPOINT}/datasets/{hub.repository}"
    asked = f"{what}: {hub.repository}" + (f" at revision {hub.revision[:12]}" if hub.revision else "")
    if "GatedRepoError" in names or statuses & {401, 403}:
        return UserError(
            f"{asked} is gated, or not there for you: the hub answered that you may not read it",
            hint=f"accept its terms at {page} and set HF_TOKEN, or {local}",
        )
    if isinstance(error, OtherRevisionError):
        reason = f"the hub at {constants.ENDPOINT} cannot be reached, and {error}"
    elif names & {"ConnectionError", "ConnectError", "TimeoutException", "OfflineModeIsEnabled"}:
        reason = f"the hub at {constants.ENDPOINT} cannot be reached"
    else:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{asked} could not be had: {reason}", hint=local)


def causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def local_alternative(local_files: Sequence[str]) -> str:
    return f"put {' or '.join(local_files) or 'its rows'} into a folder and give --data FOLDER"
