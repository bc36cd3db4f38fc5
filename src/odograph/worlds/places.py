"""Where worlds are: in the lake of a store's folder, or in the tables of a store that machines share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..errors import InvalidInput
from ..store import opening
from ..store.backend import Place
from ..tables.shared import Shared


@dataclass
class StorageConfig:
    """Where worlds are: `uri` is a store's folder, or the URL of a store that machines share, such as "s3://bucket/runs".

    `namespace` parts the names of worlds in one store. `catalog`, of a store that machines share, is that of `odograph.open`
    (default: $ODOGRAPH_CATALOG). `uri` may also be a store's `backend.place`.
    """

    uri: str | Path | Place = "./odograph"
    namespace: str = "default"
    catalog: str | dict[str, str] | None = field(default=None, repr=False)  # may hold secrets


class Where(msgspec.Struct, frozen=True):
    """The folder of a store on this machine, the tables that machines share (None: all is in the folder), and the namespace."""

    folder: Path
    tables: Shared | None
    namespace: str

    def __str__(self) -> str:
        return f"{self.folder if self.tables is None else self.tables}, namespace {self.namespace!r}"

    @property
    def root(self) -> Path:
        """The folder of the files: of shared tables, of those that wait for their commit."""
        return self.folder / ("lake" if self.tables is None else "worlds")

    @property
    def key(self) -> tuple[str, ...]:
        """Tells storages apart, wherever this machine keeps its folder of a shared one."""
        if self.tables is None:
            return str(self.folder), self.namespace
        return self.tables.where, self.tables.namespace, self.namespace


def where_of(storage: StorageConfig | None) -> Where:
    """The place of a StorageConfig, as it is checked. Raises InvalidInput, TypeError."""
    given = StorageConfig() if storage is None else storage
    if not isinstance(given, StorageConfig):
        raise TypeError(f"a storage is a StorageConfig(uri, namespace), not {given!r:.100}")
    uri = given.uri
    if not isinstance(given.namespace, str):
        raise InvalidInput(f"the namespace of a StorageConfig is a text, not {given.namespace!r:.100}")
    if isinstance(uri, Place):
        return Where(Path(uri.folder).resolve(), uri.tables, given.namespace)
    if not isinstance(uri, (str, Path)) or not str(uri):
        raise InvalidInput(f"the uri of a StorageConfig is the folder of a store, or the URL of a shared one, not {uri!r}")
    if str(uri).lower().startswith(("http://", "https://")) or str(uri) == "memory:":
        raise InvalidInput(
            f"worlds are in a folder of this machine or in tables that machines share, not at {str(uri)!r}: of a store that is"
            " served, or in memory, odograph.open(...).world(name) is a world in the store's local folder"
        )
    if isinstance(uri, str) and "://" in uri:
        place = opening.opened(uri, catalog=given.catalog).place
        return Where(Path(place.folder), place.tables, given.namespace)
    if given.catalog is not None:
        raise InvalidInput(f"catalog= is for a store that machines share, such as 's3://bucket/runs'; {str(uri)!r} is a folder")
    return Where(Path(uri).expanduser().resolve(), None, given.namespace)
