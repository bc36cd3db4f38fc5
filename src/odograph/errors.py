"""The errors that Odograph raises. Each is one sentence: what was found, what was expected, what exists.

OdographError
  NotFound (KeyError)          no trajectory or file of that name
    UnknownName                no format or function of that name; also an InvalidInput
  InvalidInput (ValueError)    content or an argument that can't be used
  StoreError (OSError)         the store can't be read or written
    NewerStore                 it was written by a later version
  MissingExtra (ImportError)   a package that an optional part needs
  UploadError (OSError)        the Hugging Face Hub did not take an export
  RunError (RuntimeError)      a step of a task that could not be taken; it can be taken again
"""

from __future__ import annotations

from collections.abc import Iterable


def described(error: BaseException) -> str:
    """An error as `Class: message`; the class alone if the message is empty or can't be made."""
    try:
        said = str(error)
    except Exception:  # a class of somebody else's
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raises InvalidInput unless a value is a whole number from `least` on."""
    if type(value) is not int or value < least:
        raise InvalidInput(f"{name} is a whole number from {least}, not {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Raises InvalidInput unless a value is a number of seconds above 0."""
    if type(value) not in (int, float) or not value > 0:  # type: ignore[operator]
        raise InvalidInput(f"{name} is a number of seconds above 0, not {value!r}")


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: `; did you mean 'x'?` with the most similar name; "" if none is similar."""
    from difflib import get_close_matches  # a mistake may take its time, an import may not

    near = get_close_matches(found, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


class OdographError(Exception):
    """Any error of Odograph's own."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0]) if self.args else ""


class NotFound(OdographError, KeyError):
    """A trajectory, a format or a file that does not exist."""

    def __str__(self) -> str:
        return OdographError.__str__(self)


class InvalidInput(OdographError, ValueError):
    """Content or an argument that can't be used."""


class UnknownName(NotFound, InvalidInput):
    """A name that no format, reward function or other extension has."""


class StoreError(OdographError, OSError):
    """The store can't be read or written."""

    def __str__(self) -> str:
        return OdographError.__str__(self)


class NewerStore(StoreError):
    """The store was written by a later version of Odograph."""


class MissingExtra(OdographError, ImportError):
    """An optional part needs a package that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}': pip install 'odograph[{extra}]'")

    def __str__(self) -> str:
        return OdographError.__str__(self)


class UploadError(OdographError, OSError):
    """The Hugging Face Hub did not take an export, or was not reached."""

    def __str__(self) -> str:
        return OdographError.__str__(self)


class RunError(OdographError, RuntimeError):
    """A step of a task could not be taken: the model or the environment did not answer. It can be taken again."""

    def __str__(self) -> str:
        return OdographError.__str__(self)
