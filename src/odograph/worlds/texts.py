"""Long and shared texts, stored once by their content: rows hold hashes. Knows the lake's table of texts, no world."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import StoreError
from ..locks import Lock
from ..tables.commits import Commits, opened_in
from ..tables.schema import arrow
from .layout import VALUES

_GROUP_BYTES = 8 << 20  # text in a row group: what reading one text may cost
_CACHED = 8  # row groups that stay in memory


class Texts:
    """The texts of a lake, and those that are not written yet."""

    def __init__(self, commits: Commits, reopen: Callable[[], Commits]) -> None:
        """`reopen` opens the same commits in another process."""
        self._commits = commits
        self._reopen = reopen
        self._seen = 0  # the last commit whose files are known
        self._places: dict[str, tuple[str, int]] = {}  # hash -> file, row group
        self._waiting: dict[str, str] = {}  # hash -> text
        self._hashes: dict[str, str] = {}  # text that waits -> hash
        self._groups: OrderedDict[tuple[str, int], dict[str, str]] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:  # frames that are lazy go to other processes
        import daft

        if daft.runners.get_or_create_runner().name != "ray":  # Daft looks whether it could, for each frame
            return _opened, (self._reopen,)
        with self._lock:
            return _opened, (self._reopen, dict(self._waiting))

    def hash(self, text: str) -> str:
        """The hash that stands for a text; `written` says when the lake has the text."""
        with self._lock:
            found = self._hashes.get(text)
            if found is None:
                found = hashlib.sha256(text.encode()).hexdigest()
                if found not in self._places:
                    self._hashes[text] = found
                    self._waiting[found] = text
            return found

    def new(self, hashes: Iterable[str]) -> dict[str, str]:
        """The texts of those hashes that the lake does not have."""
        with self._lock:
            self._catch_up()
            return {h: self._waiting[h] for h in hashes if h not in self._places and h in self._waiting}

    def written(self, texts: Iterable[str]) -> None:
        """Texts are in the lake now, and don't have to be held."""
        with self._lock:
            for text in texts:
                self._waiting.pop(self._hashes.pop(text, ""), None)
            self._catch_up()

    def many(self, hashes: Iterable[str]) -> dict[str, str]:
        """The texts of hashes. Raises StoreError where the lake does not have one."""
        found: dict[str, str] = {}
        places: dict[tuple[str, int], list[str]] = {}
        with self._lock:
            for hash in dict.fromkeys(hashes):
                if hash in self._waiting:
                    found[hash] = self._waiting[hash]
                else:
                    if hash not in self._places:
                        self._catch_up()
                    if hash not in self._places:  # a file of shared tables may be published later than one that came after it
                        self._catch_up(0)
                    if hash not in self._places:
                        raise StoreError(f"the text {hash} that a world refers to is in no file of {VALUES.name}")
                    places.setdefault(self._places[hash], []).append(hash)
            for place, wanted in sorted(places.items()):
                group = self._group(place)
                for hash in wanted:
                    found[hash] = group[hash]
        return found

    def array(self, hashes: Any) -> Any:
        """An Arrow array of the texts of an array of hashes."""
        pa = arrow()
        encoded = hashes.dictionary_encode()
        keys = encoded.dictionary.to_pylist()
        texts = self.many(keys)
        return pa.array([texts[key] for key in keys], pa.large_string()).take(encoded.indices)

    def hashes(self, texts: Any) -> Any:
        """An Arrow array of the hashes of an array of texts."""
        pa = arrow()
        encoded = texts.dictionary_encode()
        return pa.array([self.hash(text) for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)

    def _group(self, place: tuple[str, int]) -> dict[str, str]:
        if place not in self._groups:
            with opened_in(self._commits, place[0], VALUES) as file:
                rows = file.read(groups=[place[1]])
            self._groups[place] = dict(zip(rows.column("hash").to_pylist(), rows.column("value").to_pylist(), strict=True))
            while len(self._groups) > _CACHED:
                self._groups.popitem(last=False)
        self._groups.move_to_end(place)
        return self._groups[place]

    def _catch_up(self, since: int | None = None) -> None:
        """Learns which texts files hold that came since: since the last look, unless it is said."""
        for live in self._commits.files(VALUES.name, self._seen if since is None else since):
            with opened_in(self._commits, live.file.path, VALUES) as file:
                for number in range(file.groups):
                    for hash in file.read(["hash"], [number]).column("hash").to_pylist():
                        self._places.setdefault(hash, (live.file.path, number))
            self._seen = max(self._seen, live.added)


def groups_of(texts: dict[str, str]) -> Iterator[list[dict[str, str]]]:
    """The rows of the table of texts, in parts for its row groups."""
    part: list[dict[str, str]] = []
    size = 0
    for hash, text in texts.items():
        part.append({"hash": hash, "value": text})
        size += len(text)
        if size >= _GROUP_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _opened(reopen: Callable[[], Commits], waiting: dict[str, str] | None = None) -> Texts:
    found = Texts(reopen(), reopen)
    found._waiting.update(waiting or {})
    return found
