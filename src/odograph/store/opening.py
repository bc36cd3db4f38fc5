"""Which store a name means: a folder, `memory:`, tables that machines share, or a server. Where this machine keeps its part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import msgspec

from ..codec import content_hash
from ..errors import InvalidInput, StoreError
from ..redact import Redact
from ..tables.shared import Shared
from ..tables.shared import shared as shared_tables
from . import memory
from .backend import Backend, Place
from .journal import Durability
from .lines import is_folder
from .served import SCHEMES, Served, served
from .settings import Settings, stored_form

_place = msgspec.json.Decoder(Place)


def default_place() -> str:
    """The folder that `$ODOGRAPH_STORE` names, else ./odograph."""
    return os.environ.get("ODOGRAPH_STORE") or "odograph"


def opened(
    where: str | Path | None = None,
    *,
    redact: Redact | str | None = None,
    durability: Durability | None = None,
    seal_at: int | None = None,
    shared: bool = False,
    catalog: str | dict[str, str] | None = None,
    namespace: str | None = None,
    local: str | Path | None = None,
    token: str | None = None,
) -> Backend:
    """The store of a name. Raises InvalidInput, StoreError, TypeError."""
    if durability is not None and durability not in get_args(Durability):
        raise InvalidInput(f"durability is 'group' or 'sync', not {durability!r}")
    if seal_at is not None and (type(seal_at) is not int or seal_at < 0):
        raise InvalidInput(f"seal_at is a number of bytes, or 0 for never, not {seal_at!r}")
    settings = Settings(stored_form(redact), durability, seal_at)
    function = redact if callable(redact) else None
    if where == "":
        raise InvalidInput("an empty text names no store: give a folder or an address, or nothing for the default store")
    place = where if where is not None else default_place()
    if isinstance(place, str) and place == "memory:":
        return Backend(Place(str(memory.made()), settings, memory=True), function)
    if isinstance(place, str) and place.lower().startswith(SCHEMES):
        for name, given in (("catalog", catalog), ("namespace", namespace), ("seal_at", seal_at)):
            if given is not None:
                raise InvalidInput(f"{name}= is not for a served store: its server has this setting")
        remote = served(place, token)
        return Backend(Place(str(local or _waiting(remote)), settings, remote=remote), function)
    if token is not None:
        raise InvalidInput(f"token= is for a served store, at https://...; {str(place)!r} is not served")
    if isinstance(place, str) and "://" in place:
        tables = tables_of(place, catalog, namespace)
        return Backend(Place(str(local or _local(tables)), settings, shared=shared, tables=tables), function)
    for name, value in (("catalog", catalog), ("namespace", namespace), ("local", local)):
        if value is not None:
            raise InvalidInput(
                f"{name}= is for a store that machines share, such as 's3://bucket/runs', and local= for one that is served, too;"
                f" {str(place)!r} is a folder"
            )
    root = Path(place)
    if not is_folder(root) and root.exists():
        raise StoreError(f"{str(root)!r} is a file; a store is a folder")
    return Backend(Place(str(root), settings, shared=shared), function)


def tables_of(where: str, catalog: str | dict[str, str] | None, namespace: str | None) -> Shared:
    """The tables that machines share at a place, by a catalog (default: $ODOGRAPH_CATALOG). Raises InvalidInput."""
    return shared_tables(where, catalog or os.environ.get("ODOGRAPH_CATALOG"), namespace)


def reopened(place: Place | bytes) -> Backend:
    """The store of a place. The place may be JSON, as bytes."""
    return Backend(_place.decode(place) if isinstance(place, bytes) else place)


def _local(tables: Shared) -> Path:
    """This machine's folder of a shared store, for records that are not sealed yet."""
    return _state() / f"{tables.namespace}-{content_hash([tables.where, tables.namespace])[:8]}"


def _waiting(remote: Served) -> Path:
    """This machine's folder of a served store, where records wait until the server has them."""
    return _state() / "remote" / content_hash(remote.address)[:16]


def _state() -> Path:
    home = os.environ.get("ODOGRAPH_LOCAL") or os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "odograph"


def is_there(where: str | Path | None) -> bool:
    """Whether there is a store of that name, or a folder for one. Of a store that machines share only its catalog knows."""
    if isinstance(where, str) and "://" in where:
        return True
    return Path(where if where is not None else default_place()).is_dir()
