"""Where tables are that machines share: the object storage, and the catalog that says which files are live. Tells no secrets."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import msgspec

from ..errors import InvalidInput, MissingExtra, StoreError

#: The catalog whose settings `pyiceberg` adds from its own places (`~/.pyiceberg.yaml`, `PYICEBERG_CATALOG__ODOGRAPH__...`).
NAME = "odograph"
SCHEMES = ("s3://", "s3a://", "gs://", "abfs://", "abfss://", "file://")
_SQL = ("postgresql://", "postgresql+psycopg://", "postgres://", "sqlite://")
_SECRET = re.compile(r"secret|password|token|credential|key|sas|auth", re.IGNORECASE)
_LONGEST = 300  # characters of an error that are shown


class Shared(msgspec.Struct, frozen=True):
    """The place of shared tables. `catalog`: a URL, the name of a catalog that pyiceberg's own settings describe, or settings.

    Shown as its URL: the settings of the catalog may hold secrets.
    """

    where: str
    catalog: str | dict[str, str]
    namespace: str

    def __str__(self) -> str:
        return self.where

    def __repr__(self) -> str:
        return f"Shared({self.where!r})"

    @property
    def names(self) -> tuple[str, ...]:
        """The namespace, from the outermost."""
        return tuple(self.namespace.split("."))


def shared(where: str, catalog: str | dict[str, str] | None, namespace: str | None) -> Shared:
    """Checks what names shared tables. Raises InvalidInput."""
    from ..access import parts_of

    place = where.rstrip("/")
    parts = parts_of(place)
    if not place.startswith(SCHEMES) or not (parts.netloc or parts.path):
        raise InvalidInput(f"shared tables are at {', '.join(SCHEMES)}...; found {without_password(where)!r}")
    if set(place) & set("*?[]{}#"):
        raise InvalidInput(f"the URL of a store has none of * ? [ ] {{ }} #; found {without_password(place)!r}")
    if parts.username and not parts.password and place.startswith("abfs"):  # Azure's form; Arrow takes the container
        raise InvalidInput(
            "the URL of a store on Azure names its container, as abfs://container/runs; the account belongs to the settings of"
            " the catalog, as adls.account-name"
        )
    if parts.username or parts.password:
        raise InvalidInput("the URL of a store holds no password: passwords belong to the settings of the catalog")
    if not catalog:
        raise InvalidInput(
            f"{place} needs a catalog, which says which files are live: catalog='postgresql://host/database', a REST catalog's"
            " URL, or the name of a catalog in pyiceberg's settings; also $ODOGRAPH_CATALOG"
        )
    if isinstance(catalog, dict):
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in catalog.items()):
            raise InvalidInput("the settings of a catalog are a dict of texts, as for pyiceberg")
    elif not isinstance(catalog, str):
        raise InvalidInput(f"catalog is a text or a dict of pyiceberg's settings, not {type(catalog).__name__}")
    if namespace is None:
        namespace = re.sub(r"[^a-z0-9_]+", "_", (parts.path.strip("/") or parts.netloc).rpartition("/")[2].lower())
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", namespace):
        raise InvalidInput(f"a namespace has names of letters, digits, _ and -, joined by dots; found {namespace!r}")
    return Shared(place, catalog, namespace)


def catalog_of(place: Shared) -> Any:
    """The catalog. Raises MissingExtra, and what pyiceberg and the catalog raise."""
    name, settings = _settings(place)
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NotInstalledError
    except ImportError:
        raise MissingExtra("a store that machines share", "iceberg") from None
    try:
        return load_catalog(name, **settings)
    except (ImportError, NotInstalledError):  # what reaches PostgreSQL, for one
        raise MissingExtra(f"the catalog of {place}", "iceberg") from None


def _settings(place: Shared) -> tuple[str, dict[str, str]]:
    """The name and the settings that `load_catalog` takes."""
    io = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    given = place.catalog
    if isinstance(given, str):
        if given.startswith(_SQL):
            given = {"uri": given}
        elif given.startswith(("http://", "https://")):
            given = {"type": "rest", "uri": given}
        elif "://" in given:
            raise InvalidInput(
                f"no catalog at {without_password(given)!r}: a catalog is postgresql://, sqlite:///, the http(s):// of a REST"
                " catalog, or the name of a catalog in pyiceberg's settings"
            )
        else:
            return given, io
    settings = dict(given)
    name = settings.pop("name", NAME)
    uri = settings.get("uri", "")
    if uri.startswith(_SQL):
        scheme = "sqlite" if uri.startswith("sqlite") else "postgresql+psycopg"
        uri = f"{scheme}://{uri.partition('://')[2]}"
        settings = {"type": "sql", "warehouse": place.where, "pool_pre_ping": "true", **settings, "uri": uri}
    return name, io | settings


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    return re.sub(r"://[^/@\s]*@", "://***@", url)


def secrets_of(place: Shared) -> list[str]:
    """What in the settings of a catalog is not to be shown."""
    given = place.catalog
    found = [value for name, value in given.items() if _SECRET.search(name)] if isinstance(given, dict) else []
    for url in [given] if isinstance(given, str) else given.values():
        whole, password = re.search(r"://([^/\s]*)@", url), None
        if whole is not None:
            _, _, password = whole[1].partition(":")
        if password:
            found += [password, unquote(password)]
    return sorted({one for one in found if len(one) > 2}, key=len, reverse=True)


def said(error: BaseException, place: Shared) -> str:
    """What an error of a catalog or a storage says, on one line and without secrets."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    text = re.split(r"\[SQL: |\(Background on this error", text)[0].strip() or type(error).__name__
    for secret in secrets_of(place):
        text = text.replace(secret, "***")
    text = without_password(text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def unanswered(error: BaseException, place: Shared, doing: str) -> StoreError:
    """What is said where the catalog or the storage raised: what is safe, and what to do. `doing`: `be read`, `be written`."""
    gone = "; `odograph doctor` says whether a file is gone" if isinstance(error, FileNotFoundError) else ""
    return StoreError(
        f"{place} can't {doing}: {said(error, place)}; nothing that was recorded is lost: do the same again once the catalog and"
        f" the storage answer{gone}"
    )
