"""Exports on the Hugging Face Hub: a folder that was exported -> a repository, in one commit. Knows no format.

The work over the network is `huggingface_hub`'s; what is here decides what goes, what goes away, and says what went wrong.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Unpack
from typing import Literal as OneOf

from .api import Store
from .codec import loads
from .errors import InvalidInput, MissingExtra, NotFound, OdographError, UploadError
from .quality.exported import validate_export
from .store.filters import FilterArgs
from .training.folder import CARD, MANIFEST

_OURS = (MANIFEST, CARD, ".gitattributes")  # what an export or the Hub writes beside the data


class Dataset:
    """An export in a folder: `path`, the `manifest`, and `upload(repo)`. Raises NotFound if the folder has no export."""

    def __init__(self, path: str | Path) -> None:
        self.path: Path = Path(path)
        try:
            found = loads((self.path / MANIFEST).read_bytes())
        except (OSError, InvalidInput):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("files"), list):
            raise NotFound(f"no export in {str(path)!r}; a folder with the {MANIFEST} that an export writes was expected")
        self.manifest: dict[str, Any] = found

    def __repr__(self) -> str:
        return f"<Dataset {str(self.path)!r}: {self.manifest.get('rows')} rows, {self.manifest.get('to')}>"

    def upload(
        self,
        repo: str,
        *,
        private: bool = True,
        token: str | None = None,
        revision: str | None = None,
        message: str | None = None,
    ) -> str:
        """Uploads the export to the dataset repository `repo` ("org/name") of the Hub, in one commit. Returns the commit's URL.

        A missing repository is created: private, unless `private=False`. In an existing repository, only the dataset's files
        change. Files of an earlier upload that this export does not have are deleted, so no row is there twice. A repository
        with somebody else's data is refused. `token`: default $HF_TOKEN, else the token of `hf auth login`. `revision`: a
        branch, created if missing. $HF_ENDPOINT is the Hub. Raises InvalidInput, UploadError, MissingExtra (extra `hub`).
        """
        try:
            import huggingface_hub
            from huggingface_hub import constants, errors
        except ImportError:
            raise MissingExtra("uploading to the Hugging Face Hub", "hub") from None
        files = self._files()
        given = token or huggingface_hub.get_token()
        if not given:
            raise UploadError("no token for the Hugging Face Hub; give token=, set $HF_TOKEN, or run `hf auth login`")
        endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
        api = huggingface_hub.HfApi(endpoint=endpoint, token=given, library_name="odograph")
        name: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}
        try:
            url = api.create_repo(**name, private=private, exist_ok=True)
            name["repo_id"] = url.repo_id  # with the user's name, where none was given
            if revision is not None:
                api.create_branch(**name, branch=revision, exist_ok=True)
            gone = self._left_behind(api, name, revision, {path for path, _ in files})
            commit = api.create_commit(
                **name,
                operations=[
                    *(huggingface_hub.CommitOperationDelete(path_in_repo=path) for path in gone),
                    *(huggingface_hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=at) for path, at in files),
                ],
                commit_message=message or f"{self.manifest.get('rows')} rows by Odograph {self.manifest.get('odograph')}",
                commit_description=f"Content hash {self.manifest.get('content_hash')}",
                revision=revision,
            )
        except errors.HFValidationError as error:
            raise InvalidInput(f"{repo!r} is no name of a repository, such as 'org/name': {_first(error)}") from None
        except OdographError:
            raise
        except (errors.HTTPError, OSError, RuntimeError, ValueError) as error:
            chain: list[BaseException] = [error]  # what went wrong in a thread is the cause of what the library says
            while chain[-1].__cause__ is not None:
                chain.append(chain[-1].__cause__)
            for one in chain:
                if isinstance(one, errors.HfHubHTTPError):
                    raise UploadError(_refusal(one, repo, endpoint)) from error
            if any(isinstance(one, (errors.HTTPError, ConnectionError)) for one in chain):
                raise UploadError(f"{endpoint} can't be reached: {_first(chain[-1])}") from error
            raise UploadError(f"{repo!r} was not uploaded: {_first(chain[-1])}") from error
        return str(commit.commit_url)

    def _files(self) -> list[tuple[str, str]]:
        """(path in the repository, file) of all that is uploaded. Raises InvalidInput where it is not what was exported."""
        for wrong in validate_export(self.path):
            if wrong.code == "unreadable_export":
                at = str(self.path / wrong.path)
                raise InvalidInput(f"{at!r} can't be read, or is not as it was exported: {wrong.message}; export again")
        names = [file["path"] for file in self.manifest["files"]]
        names += [name for name in (CARD, MANIFEST) if (self.path / name).exists()]
        return [(name, str(self.path / name)) for name in names]

    def _left_behind(self, api: Any, name: dict[str, Any], revision: str | None, new: set[str]) -> list[str]:
        """The files of an earlier upload that this one has not. Raises InvalidInput where there is somebody else's data."""
        there = set(api.list_repo_files(**name, revision=revision))
        before: set[str] = set()
        if MANIFEST in there:
            url = api.hf_hub_download(**name, filename=MANIFEST, revision=revision)
            try:
                listed = loads(Path(url).read_bytes())["files"]
                before = {file["path"] for file in listed}
            except (InvalidInput, KeyError, TypeError):
                before = set()
        folders = {path.split("/")[0] + "/" for path in new}
        foreign = sorted(p for p in there - before - new if p not in _OURS and p.startswith(tuple(folders)))
        if foreign:
            raise InvalidInput(
                f"{name['repo_id']!r} has data that no export brought: {foreign[0]!r}"
                f"{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}; name another repository or revision"
            )
        return sorted((before & there) - new)


def _first(error: BaseException) -> str:
    """The first line of what an error says: libraries add advice of their own."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _refusal(error: Any, repo: str, endpoint: str) -> str:
    """One sentence for what the Hub answered."""
    status = error.response.status_code
    said = f" ({_first(Exception(error.server_message))})" if getattr(error, "server_message", None) else ""
    if status == 401:
        return f"{endpoint} does not know the token{said}; give another with token= or $HF_TOKEN"
    if status == 403:
        return f"the token may not write to {repo!r} on {endpoint}{said}; one with write access to it was expected"
    if status == 404:
        return f"no repository {repo!r} on {endpoint} that the token may see{said}"
    return f"{endpoint} answered {status}{said or ': ' + _first(error)}"


def export_to_huggingface(
    store: Store,
    out: str | Path = "hf-dataset",
    *,
    max_trajectories: int | None = None,
    format: OneOf["parquet", "jsonl"] = "parquet",
    include_metadata: bool = True,
    license: str = "unknown",
    splits: dict[str, float] | None = None,
    seed: int = 0,
    max_shard_size: int | None = None,
    max_shard_rows: int | None = None,
    **filters: Unpack[FilterArgs],
) -> Dataset:
    """Writes rows of prompt, response, reward, context and metadata for Hugging Face; `.upload("org/name")` uploads the rows.

    The function is `store.export(out, to="hf", ...)` under names that are common in training. The filters are those of
    `store.trajectories`: `min_reward`, `time_range="7d"`, ... `max_trajectories` is `limit`: the oldest trajectories that pass
    the filters. `format`: parquet or jsonl. `license`: the dataset's licence, an identifier such as "cc-by-4.0". `splits`,
    `seed` and the sizes of shards are as in `store.export`. Raises TypeError for an unknown filter, InvalidInput, MissingExtra
    (extra `lake` for Parquet).
    """
    if not isinstance(store, Store):
        raise TypeError(f"export_to_huggingface() takes a store, such as odograph.open('runs'), not {type(store).__name__}")
    options: dict[str, Any] = {"include_metadata": include_metadata, "license": license}
    if max_trajectories is not None:
        if filters.get("limit") is not None:
            raise TypeError("max_trajectories= and limit= mean the same: give one of them")
        filters["limit"] = max_trajectories
    shards: dict[str, Any] = {"max_shard_size": max_shard_size, "max_shard_rows": max_shard_rows}
    store.export(out, "hf", format=format, splits=splits, seed=seed, options=options, **shards, **filters)
    return Dataset(out)
