"""Secrets in text: API keys, tokens, private keys, passwords. Knows text; what holds it is `redact`'s matter.

Two kinds: what has the shape of a provider's key is a secret for certain; a random-looking value beside a name such as `api_key`
is one in all likelihood. A random-looking value alone is neither: agents' text is full of hashes, ids and images.

The shapes are those of `secret_shapes`.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterator
from math import log2
from typing import NamedTuple

from .secret_shapes import BEGINS, RULES, Rule


class Secret(NamedTuple):
    """Where a secret stands in a text, and of which kind it is. `certain`: by its shape, not only by its name and randomness."""

    start: int
    stop: int
    kind: str
    certain: bool


#: Names beside which a random-looking value is a secret.
_NAMES = ("password", "passwd", "passphrase", "secret", "token", "apikey", "api_key", "api-key", "access_key", "access-key",
          "accesskey", "auth_key", "auth-key", "authkey", "subscription-key", "signing_key", "master_key", "app_key",
          "secret_key", "secret-key", "secretkey", "private_key", "encryption_key", "encryption-key",
          "encryptionkey", "fernet_key", "credential", "authorization")  # fmt: skip
_NAMED = re.compile(
    r"""(?:_?id|s|_base)?(?:[\\"'\]]{0,4}\s{0,4}(?::=|=>|[:=])\s{0,4}|>|\s{1,4}is\s{1,4})(?:(\\?["'])([^\s"'\\]{8,200})|([A-Za-z0-9_+/=.~!#%^&*@$-]{8,200}))"""
)
_KEY_NAME = re.compile(rf"(?:{'|'.join(_NAMES)})s?$", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"example|placeholder|redacted|your|change.?me|dummy|x{4}|\*{3}|\.{3}|[(){}<>\[\]]|\$(?=[A-Za-z_{(])|^env|^none$|^pass(?:word)?[0-9]{0,4}$",
    re.I,
)
#: Every name holds one of these: a text with none of them has no name to look for.
_STEMS = ("pass", "secret", "token", "key", "credential", "authorization")


#: Rules whose literal ends in a mark of punctuation share one pass over the text; it says whether any of them is worth a look.
_MARKED = tuple(r for r in RULES if (r.literal[-1] in "-_." or r.mark) and r.kind != "flag")
_MARK = re.compile(rf"[-_.](?=[A-Za-z0-9_.=-]{{10}})(?:{'|'.join(r.mark or f'(?<={re.escape(r.literal)})' for r in _MARKED)})")
_OTHERS = tuple(r for r in RULES if r not in _MARKED)
#: So do those whose literals begin with the same rare letter.
_SAME = {head: tuple(r for r in _OTHERS if r.literal.startswith(head) and r.literal != "://") for head in "AE:$"}
_GATES = (
    (_MARK, _MARKED),
    *(
        (re.compile(f"{re.escape(h)}(?:{'|'.join(re.escape(r.literal[1:]) for r in rules)})"), rules)
        for h, rules in _SAME.items()
    ),
)
_FREE = tuple(r for r in _OTHERS if not any(r in rules for rules in _SAME.values()))
#: Passwords are short; the other shapes have at least so many letters.
_BRIEF = tuple(r for r in _FREE if r.kind.endswith("_password") or r.kind in ("basic_auth", "curl_user", "flag"))
_LEAST = 20
#: Literals that are in texts of all kinds, of values that no JSON writes in another way.
_COMMON = frozenset(r.literal for r in _OTHERS if len(r.literal) < 4 and r.literal.isalnum()) | {"-us", "$2", ":$", ":{S", "/"}


def _worth(text: str) -> Iterator[Rule]:
    """The rules that may find something."""
    for rule in _BRIEF if len(text) < _LEAST else _FREE:
        if rule.literal in text:
            yield rule
    if len(text) >= _LEAST:
        for gate, rules in _GATES:
            if gate.search(text):
                for rule in rules:
                    if rule.literal in text:
                        yield rule


def secrets_in(text: str) -> list[Secret]:
    """The secrets of a text, in order and without overlaps. Never raises for a text."""
    found: list[Secret] = []
    for rule in _worth(text):
        for match in rule.pattern.finditer(text):
            group = rule.pattern.groups
            value = match[group]
            if _is_example(value) or (rule.random and not looks_random(value)):
                continue
            if rule.glued and BEGINS.match(text, match.start()) is None and not _is_glued(rule, match):
                continue
            judged = _JUDGED.get(rule.kind)
            if judged is None or judged(match):
                found.append(
                    Secret(match.start(group), match.end(group), _SAID.get(rule.kind, rule.kind), rule.kind not in _SAID)
                )
    lower = text.lower()
    if len(lower) == len(text):  # else positions differ: of such letters there are three
        for name in _named_in(lower):
            at = lower.find(name)
            while at >= 0:
                at += len(name)
                value_of = _NAMED.match(text, at)
                if value_of is not None:
                    group = 2 if value_of[2] is not None else 3
                    if _is_value_of(name, value_of[group]):
                        found.append(Secret(value_of.start(group), value_of.end(group), "named_secret", False))
                at = lower.find(name, at)
    if len(found) < 2:
        return found
    found.sort(key=lambda s: (s.start, -s.stop))
    apart: list[Secret] = []
    for secret in found:
        if apart and secret.start < apart[-1].stop:
            last = apart[-1]
            certain = last if last.certain or not secret.certain else secret
            apart[-1] = Secret(last.start, max(last.stop, secret.stop), certain.kind, certain.certain)
        else:
            apart.append(secret)
    return apart


_LONG_RUN = re.compile(r"[A-Za-z0-9_-]{16}")
#: Documentation's own keys: `AKIAIOSFODNN7EXAMPLE`, `sk-1234567890abcdef...`, one character again and again.
_EXAMPLE = re.compile(r"example|1234567890(?:abc|1234)|0123456789(?:abc|0123)|abcdefghijkl|deadbeefdeadbeef|(.)\1{7}", re.I)
#: Passwords that a manual's connection string has, and a container's own defaults.
_WEAK = ("admin", "guest", "minio", "minioadmin", "mysql", "neo4j", "pass", "passwd", "password", "postgres", "pwd", "rabbitmq",
         "redis", "root", "secret", "test", "user")  # fmt: skip


def _is_example(value: str) -> bool:
    return len(value) <= 100 and _EXAMPLE.search(value) is not None


def _is_basic(match: re.Match[str]) -> bool:
    """Whether the text is base64 of `user:password`."""
    try:
        said = base64.b64decode(match[1]).decode()
    except ValueError:
        return False
    return ":" in said and said.isprintable()


def _is_cookie(match: re.Match[str]) -> bool:
    values = (part.partition("=")[2].strip() for part in match[1].split(";"))
    return any(len(v) >= 16 and looks_random(v) and not _PLACEHOLDER.search(v) for v in values)


def _is_password(match: re.Match[str]) -> bool:
    user = match[0].partition("://")[2].partition(":")[0]
    value = match[1].lower()
    return value != user.lower() and value not in _WEAK and not _PLACEHOLDER.search(value)


def _is_curls(match: re.Match[str]) -> bool:
    """Whether `user:password` is of a call of curl: the flag stands in the same command."""
    before = match.string[max(0, match.start() - 2000) : match.start()].replace("\\\n", " ").rpartition("\n")[2]
    user, value = match[1].lower(), match[2].lower()
    return "curl " in before and value != user and value not in _WEAK and not _PLACEHOLDER.search(value)


def _is_jwt(match: re.Match[str]) -> bool:
    """Whether it is none of a manual; and of base64, whether it holds a JWT."""
    value = match[0]
    if not value.startswith("ZXlK"):
        return not _MANUALS_JWT.search(value)
    try:
        said = base64.b64decode(value + "=" * (-len(value) % 4)).decode("ascii")
    except ValueError:
        return False
    return said.count(".") in (2, 4)


#: The signatures of jwt.io's example.
_MANUALS_JWT = re.compile("SflKxwRJSMeKKF2QT4fwpM|TJVA95OrM7E2cBab30RMHr|KMUFsIDTnFmyG3nMiGM6H9")

#: What a match of these kinds must be besides.
_JUDGED: dict[str, Callable[[re.Match[str]], bool]] = {
    "basic_auth": _is_basic,
    "cookie": _is_cookie,
    "jwt": _is_jwt,
    "bearer_token": lambda m: not _MANUALS_JWT.search(m[1]),
    "authorization": lambda m: looks_random(m[1]) and not _PLACEHOLDER.search(m[1]),
    "curl_user": _is_curls,
    "url_password": _is_password,
    "environment": lambda m: _is_drawn(m[1]) and not _PLACEHOLDER.search(m[1]),
    "url_parameter": lambda m: looks_random(m[1]) and _LONG_RUN.search(m[1]) is not None and not _PLACEHOLDER.search(m[1]),
    "named_value": lambda m: is_named_secret(m[1], m[2]),
    "flag": lambda m: is_named_secret(m[1], m[2]),
    **dict.fromkeys(("command_password", "connection_password"), lambda m: _is_mixed(m[1])),
    "launchdarkly_token": lambda m: "aunch" in m.string[max(0, m.start() - 300) : m.end() + 300],
    "netrc_password": lambda m: m[1].lower() not in _WEAK and not _PLACEHOLDER.search(m[1]),
}
#: Kinds that only a name and randomness speak for.
_SAID = dict.fromkeys(("named_value", "flag", "environment"), "named_secret")


def is_named_secret(name: str, value: str) -> bool:
    """Whether the value of a field is a secret by the field's name and its own randomness."""
    found = _KEY_NAME.search(name) if len(name) <= 100 else None
    return found is not None and 8 <= len(value) <= 4000 and " " not in value and _is_value_of(found[0].lower(), value)


def may_hold(text: str) -> bool:
    """Whether a text may hold a secret: quick, and yes too often. Also of JSON, whatever its strings hold escaped."""
    if any(rule.literal not in _COMMON or rule.pattern.search(text) for rule in _worth(text)):
        return True
    lower = text.lower()
    return any(name != "token" or _TOKEN.search(lower) is not None for name in _named_in(lower))


def _named_in(lower: str) -> list[str]:
    return [name for stem in _STEMS if stem in lower for name in _NAMES if stem in name and name in lower]


#: Of a token's name and a value that is no small number: usage counts are in every answer.
_TOKEN = re.compile(r"token(?:_?id|s)?(?:\W{0,8}?[:=]\W{0,8}?|>|\s{1,4}is\s{1,4})[a-z0-9_+/=.~!#%^&*-]{16}")


def _is_value_of(name: str, value: str) -> bool:
    if _is_example(value):
        return False
    if name.startswith("pass"):
        return _is_mixed(value)
    return len(value) >= 16 and looks_random(value) and _PLACEHOLDER.search(value) is None


def _is_mixed(value: str) -> bool:
    """Whether it may be a password: letters and digits, and no placeholder."""
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and len(set(value)) > 4
    return mixed and _PLACEHOLDER.search(value) is None


def looks_random(value: str) -> bool:
    """Whether a value looks drawn at random: letters and digits mixed, and a Shannon entropy of 3 bits a character or more."""
    digits = sum(c.isdigit() for c in value)
    return 2 <= digits < len(value) and entropy(value) >= 3.0


def _is_drawn(value: str, many: int = 32) -> bool:
    """Whether part of a value looks drawn at random for sure: digits and letters of both cases, or very many characters."""
    return any(looks_random(run) and (len(run) >= many or not run.islower()) for run in _RUN.findall(value))


def _is_glued(rule: Rule, match: re.Match[str]) -> bool:
    """Whether a match in the midst of a word is a key behind some name, and no part of a long value in base64."""
    inside = _LONG_WORD.match(match.string, match.start()) is not None
    return not inside and _is_drawn(match[0][len(rule.literal) :], 32 if len(rule.literal) > 3 else 400)


_RUN = re.compile("[A-Za-z0-9]{12,}")
_LONG_WORD = re.compile("(?<=[A-Za-z0-9_-]{32})")


def entropy(value: str) -> float:
    """Shannon entropy of the characters of a text, in bits a character (C. E. Shannon, 1948)."""
    size = len(value)
    return -sum(n / size * log2(n / size) for n in Counter(value).values())
