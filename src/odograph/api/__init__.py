"""The floor that users hold: `open` gives a `Store`. What is recorded outside of any run goes to the store opened by default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ..capture import scope
from ..capture.run import LoneCall
from ..capture.scope import Scope
from ..redact import Redact
from ..store.backend import Place
from ..store.filters import FilterArgs
from ..store.journal import Durability
from ..store.opening import opened
from .facade import Store, reopened

if TYPE_CHECKING:
    from ..bulk import Progress
    from ..clusters import Runner
    from ..rewards.scoring import Scorer, ScoreReport

__all__ = ["Store", "default_store", "open", "score"]


def open(
    where: str | Path | Place | None = None,
    *,
    durability: Durability | None = None,
    redact: Redact | str | None = None,
    seal_at: int | None = None,
    shared: bool = False,
    catalog: str | dict[str, str] | None = None,
    namespace: str | None = None,
    local: str | Path | None = None,
    token: str | None = None,
) -> Store:
    """Opens the store in a folder (default: $ODOGRAPH_STORE, else ./odograph). The first record makes the folder.

    `memory:` is a store that is removed when the store is closed or the process ends. A pickled store is the same store in
    another process.

    `durability`, `redact` and `seal_at` belong to the store. The first opening that names one of them makes the folder and
    settles the value for every later opening, in any process. A later opening leaves the argument out; another value is refused.

    `durability="group"` (default) syncs to the disk every 50 ms; "sync" waits for the disk at every record. When a recording
    call returns, the operating system has the record in both cases.

    `redact` removes secrets from everything that is recorded, added or imported, before anything is written. True: the built-in
    rules. A list of patterns: these patterns and the built-in rules. A function: gets each text and returns the text to keep;
    if the function raises, the text is not kept. The function, or its name ('package:object', 'file.py:name'), must be
    importable in each process that writes. None (default): the store's own setting. False: asserts that the store has no
    redaction.

    `seal_at`: how many bytes the journal may hold before a process that records seals the journal in the background. Default:
    1 GiB; 0: never. Without the extra `lake` nothing is sealed.

    Only the owner can read the files, unless `shared` is set when the store is made; then the process's umask decides.

    `where` may be object storage that machines share, such as "s3://bucket/runs"; this needs the extra `iceberg`. `catalog` says
    which files are live (default: $ODOGRAPH_CATALOG): "postgresql://host/database", the URL of an Iceberg REST catalog, the name
    of a catalog in pyiceberg's own settings, or a dict of such settings. `namespace`: the namespace of the tables in the catalog
    (default: the last part of `where`). `local`: the folder for what this machine recorded and has not sealed yet (default: a
    folder in $ODOGRAPH_LOCAL, $XDG_STATE_HOME or ~/.local/state). Other machines see a trajectory once it is sealed.

    `where` may be the address of a store that `odograph serve` serves, such as "https://runs.example.org". `token` (default:
    $ODOGRAPH_TOKEN) is one of the server's. Records are written to the folder `local` first and sent to the server behind the
    run, so a server that is away costs nothing; see the page on serving. Raises InvalidInput, StoreError, TypeError.
    """
    if isinstance(where, Place):
        return reopened(where)
    team: dict[str, Any] = {"catalog": catalog, "namespace": namespace, "local": local, "token": token}
    return Store(opened(where, redact=redact, durability=durability, seal_at=seal_at, shared=shared, **team))


def score(
    store: Store,
    fn: Scorer,
    *,
    version: str | None = None,
    again: bool = False,
    concurrency: int | None = None,
    processes: int = 1,
    runner: Runner | None = None,
    progress: Progress = None,
    **filters: Unpack[FilterArgs],
) -> ScoreReport:
    """`store.score(fn, ...)`."""
    more: dict[str, Any] = {"concurrency": concurrency, "processes": processes, "runner": runner, "progress": progress}
    return store.score(fn, version=version, again=again, **more, **filters)


_default: Store | None = None


def default_store() -> Store:
    """The store that `open()` names, opened once. Calls outside of any run are recorded here."""
    global _default
    if _default is None:
        _default = open()
    return _default


def _outside(fields: dict[str, Any]) -> Scope:
    return LoneCall(default_store().record(model=fields.get("model"), tags=["call"]))


scope.outside = _outside
