"""Secrets in the carriers and shapes of today: a list of secrets, a list of what is none, and documentation's own keys."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import string
import uuid
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from odograph.redact import Redactor
from odograph.secret_shapes import RULES
from odograph.secrets import may_hold, secrets_in
from tests.cost import costs

_R = random.Random(11)
_ALNUM = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_LOWER = string.ascii_lowercase + string.digits


def made(size: int, letters: str = _ALNUM) -> str:
    """Made up at random here, so that no scanner finds a key in this file."""
    return "".join(_R.choice(letters) for _ in range(size))


# text, and the secret in it
FAKES = [
    *(
        (f"see {start}{rest} there", rest)
        for start, rest in (
            ("figd" + "_", made(40)),
            ("sbp" + "_", made(40, _HEX)),
            ("fw" + "_", made(24)),
            ("ATATT3" + "xFf", made(80)),
            ("glsa" + "_", made(32) + "_" + made(8, _HEX)),
            ("nvapi" + "-", made(64)),
            ("pcsk" + "_", made(60)),
            ("csk" + "-", made(48)),
            ("dor" + "_v1_", made(64, _HEX)),
            ("fo1" + "_", made(43)),
            ("glrt" + "-", "t1_" + made(27) + "." + made(9)),
            ("pnu" + "_", made(36)),
            ("shippo" + "_live_", made(40, _HEX)),
            ("sgp" + "_", made(40, _HEX)),
            ("sntryu" + "_", made(64, _HEX)),
            ("LTAI", made(20)),
            ("EZAK", made(54)),
            ("AKCp", made(69)),
            ("sha256" + "~", made(43)),
            ("tgp_v1" + "_", made(43)),
            ("jina" + "_", made(60)),
            ("e2b" + "_", made(40, _HEX)),
            ("fc" + "-", made(32, _HEX)),
            ("PMAK" + "-", made(24, _HEX) + "-" + made(34, _HEX)),
            ("NRAK" + "-", made(27, string.ascii_uppercase + string.digits)),
            ("dckr_pat" + "_", made(27)),
            ("HRKU" + "-", made(36)),
            ("pul" + "-", made(40, _HEX)),
            ("rubygems" + "_", made(48, _HEX)),
            ("pscale_tkn" + "_", made(40)),
            ("dp.pt" + ".", made(43)),
            ("xkeysib" + "-", made(64, _HEX) + "-" + made(16)),
            ("sq0atp" + "-", made(22)),
            ("xapp" + "-", "1-" + made(40)),
            ("phx" + "_", made(43)),
            ("CFPAT" + "-", made(43)),
            ("AQ" + ".", "Ab8" + made(50)),
            ("key" + "-", made(32, _HEX)),
            ("sc" + "_", made(14, _LOWER) + "." + made(5, _LOWER) + ".acc_" + made(16, _LOWER) + "." + made(60)),
            ("ext" + "_", made(8, _LOWER) + "." + made(4, _LOWER) + ".acc-" + made(12, _LOWER) + "." + made(40) + "=="),
            ("SG" + ".", made(66)),
            ("nfp" + "_", made(36)),
            ("shpss" + "_", made(32, _HEX)),
            ("SK", made(32, _HEX)),
            ("pat", made(14) + "." + made(64, _HEX)),
            ("ABIA", made(16, string.ascii_uppercase + "234567")),
            ("xoxd" + "-", made(60)),
            ("sl" + ".", "u." + made(130)),
            ("MTA", made(21) + "." + made(6) + "." + made(30)),
            ("oy2", made(43, _LOWER)),
            ("squ" + "_", made(40, _HEX)),
            ("access-production" + "-", str(uuid.UUID(int=_R.getrandbits(128)))),
            ("ATBB", made(32)),
            ("pk" + "_", made(8, string.digits) + "_" + made(32, string.ascii_uppercase + string.digits)),
            ("re" + "_", made(8) + "_" + made(24)),
            ("tskey-auth" + "-", made(16) + "-" + made(30)),
            ("dp.st" + ".", "dev." + made(43)),
            ("CCIPAT" + "_", made(22) + "_" + made(40, _HEX)),
            ("apify_api" + "_", made(36)),
            ("napi" + "_", made(64, _LOWER)),
            ("rnd" + "_", made(32)),
            ("sb_secret" + "_", made(31)),
            ("sk" + "_", made(48, _HEX)),
            ("lin_oauth" + "_", made(64, _HEX)),
            ("wandb_v1" + "_", made(60)),
            ("vcp" + "_", made(56)),
            ("bkua" + "_", made(40, _HEX)),
            ("AQVN", made(35)),
            ("EAAG", made(150)),
            ("AAAA", made(7) + ":" + made(140)),
            ("1" + "/", made(16, string.digits) + ":" + made(32, _HEX)),
            ("2" + "/", made(16, string.digits) + "/" + made(16, string.digits) + ":" + made(32, _HEX)),
            ("KEY", made(32, "0123456789ABCDEF") + "_" + made(22)),
            ("sdk" + "-", str(uuid.UUID(int=_R.getrandbits(128), version=4))),
            ("launchdarkly uses api" + "-", str(uuid.UUID(int=_R.getrandbits(128), version=4))),
            ("s" + ".", "aB7" + made(21)),
            ("hvr" + ".", made(95)),
            ("b.AAAAAQ", made(140)),
            ("secret" + "_", "aB7" + made(40)),
            ("ak" + "-", "aB7" + made(19)),
            ("rpa" + "_", made(42, string.ascii_uppercase + string.digits)),
            ("hcaik" + "_", made(58, _LOWER)),
            ("xaat" + "-", str(uuid.UUID(int=_R.getrandbits(128), version=4))),
            ("secret-live" + "-", made(36)),
            ("cio", "aB7" + made(29)),
            ("key" + "_", made(64, _HEX)),
            ("KGAT" + "_", made(32, _HEX)),
            ("sk" + "-", made(48, string.ascii_lowercase)),
            ("django-insecure" + "-", made(50, _LOWER + "!@#$%^&*(-_=+)")),
            *((f"{glued}{start}", f"aB7{made(size)}") for glued, start, size in (
                ("late-", "sk-", 45), ("my_", "ghp_", 33), ("token", "glpat-", 20), ("key", "sk-ant-api03-", 90), ("late-", "hf_", 31), ("my", "sk_live_", 21),
            )),
            ("dt0c01" + ".", made(24, string.ascii_uppercase) + "." + made(64, string.ascii_uppercase)),
        )
    ),
    *(
        (f"see {key}{'12' if key.endswith('-us') else ''} there", key)
        for key in (
            made(6) + "_" + made(29) + "_mmk",
            made(32, _HEX) + "-us",
            made(10, _HEX) + "msh" + made(15, _HEX) + "p1" + made(6, _HEX) + "jsn" + made(12, _HEX),
            made(76) + "AZDO" + made(4),
            made(3) + "8Q~" + made(33),
            made(14) + ".atlasv1." + made(67),
            *(f"{base64.b64encode(head).decode().rstrip('=')}.{rest}" for head, rest in (
                (b'{"alg":"ES256","kid":"k1"}', "." + made(86)),
                (b'{ "alg": "HS256" }', base64.b64encode(b'{ "sub": "ann" }').decode().rstrip("=") + "." + made(43)),
                (b'{"alg":"RSA-OAEP","enc":"A256GCM"}', ".".join(made(n) for n in (342, 16, 80, 22))),
                (b'{"user_id":7,"_fresh":true}', made(6) + "." + made(27)),
            )),
        )
    ),
    *(
        (text.format(key), key)
        for text in ("curl -s -u ann:{} https://x.io", "curl https://x.io \\\n  --user 'ann:{}'", "curl -H 'Authorization: Token {}' https://x.io", '{{"Authorization": "SSWS {}"}}', "X-Auth-Key: {}")
        for key in (made(37, _HEX),)
    ),
    *((f"GET https://api.x.com/v1?a=1&{name}={key}&alt=json", key) for name, key in ((n, made(40)) for n in ("key", "sig", "access_token", "X-Amz-Signature"))),
    *((text.format(key), key) for key in (base64.b64encode(b"admin:" + made(14).encode()).decode(),) for text in ("Authorization: Basic {}", '{{"authorization": "Basic {}"}}')),
    *((text.format(key), key) for text, key in ((t, "k92" + made(29)) for t in ("Cookie: theme=dark; session={}", "Authorization: Bearer {}", '{{"name": "API_KEY", "value": "{}"}}', "tool --api-key {} run", "API_TOKEN={}", "client_secret: {}"))),
    *(
        (text.format(key), key)
        for text, key in (
            ("ann:{}", "$apr1$" + made(8) + "$" + made(22)),
            ("ann:{}", "$2y$05$" + made(53)),
            ("ann:{}", "{SHA}" + base64.b64encode(bytes(range(20))).decode()),
            ("root:{}:19000:0:99999:7:::", "$6$" + made(16) + "$" + made(86)),
            ('{{"hash": "{}"}}', "$argon2id$v=19$m=65536,t=3,p=4$" + made(22) + "$" + made(43)),
            ("client-key-data: {}", base64.b64encode(b"-----BEGIN RSA PRIVATE KEY-----" + made(90).encode()).decode()),
            ("sshpass -p {} ssh ann@x.io", "k9" + made(12)),
            ("redis-cli -h x.io -a {} ping", "k9" + made(12)),
            ("mysql -u root -p{} app", "k9" + made(12)),
            ("db.x.io:5432:app:ann:{}", "k9" + made(12)),
            ("Server=x;Uid=app;Pwd={};", "k9" + made(12)),
            ("<SecretAccessKey>{}</SecretAccessKey>", "12" + made(38)),
            ("the password is {}", "k9" + made(12)),
            ("the token is {}", "k9" + made(30)),
            ("<token>{}</token>", "k9" + made(30)),
            ("FERNET_KEY={}", "aB7" + made(40)),
            ("export WEATHER_KEY='{}'", "12" + made(30, _HEX)),
            ("secret_key_base: {}", "12" + made(126, _HEX)),
        )
    ),
    *((text.format(key), key) for key in ("S3cr3t" + "Passw0rd", "Xk92mQ" + "pz!7vLw") for text in ("password: {}", "DB_PASSWORD={}", "mysql --password {}", "postgres://app:{}@db.local/x")),
    *((f"https://discord.com/api/webhooks/{made(18, string.digits)}/{key}", key) for key in (made(68),)),
    *((f'{{"auths": {{"x.io": {{{quote}auth{quote}: {quote}{key}{quote}}}}}}}', key) for key in (base64.b64encode(b"ann:" + made(20).encode()).decode(),) for quote in ('"', '\\"')),
    *((f"https://api.telegram.org/bot1234{digits}:{key}/x", key[2:]) for digits, key in ((made(6, string.digits), "AA" + made(33)),)),
    *((f"token {key}", key) for key in (base64.b64encode(("eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIx" + made(size) + "." + made(43)).encode()).decode().rstrip("=") for size in (20, 21, 22))),
    *((f"the app has {word}-{key}", f"{word}-{key}") for word in ("app", "dataset") for key in ("k9Qw3Er7Ty1Ui5Op7As9Df2G",)),
    *((f"https://hooks.slack.com/services/T{made(8)}/B{made(8)}/{key}", key) for key in (made(24),)),
    ("late_" + "ghp" + "_" + "aB7" + made(33), "ghp" + "_" + "aB7"),
    *((f"late_{key}", key) for key in ("ghp" + "_" + made(36, _LOWER),)),
    ("--password " + "Xk92mQpz", "Xk92mQpz"),
    *((f"token {key}", key) for key in (base64.b64encode(("eyJ" + "hbGciOiJkaXIifQ." + ".".join(made(30) for _ in range(4))).encode()).decode(),)),
    *((text + "k9Qw3Er7Ty1Ui5Op", "k9Qw3Er7Ty1Ui5Op") for text in ("Cookie: sid=", "api_key = ")),
    *((f"the bot has {key}", key) for size in (23, 24, 25) for key in ("M" + made(size) + "." + made(6) + "." + made(30),)),
]  # fmt: skip

INNOCENTS = [
    *(f"{name} {made(32, _HEX)}-{made(4, _HEX)}" for name in ("TASK", "en-us", "core_utils_something_long_enough", "before_filter")),
    *("sk_learn_some_long_name_of_a_module", "pk_test_" + made(24), "pattern.compile(expression_of_some_length)", "re_compiled_expressions_of_words"),
    *("machine learning login page password reset", '"auth": "Basic or Bearer of a user"', "NRJS-browser-agent-loader", "render_key rnd_seed_of_a_generator_1"),
    *(f"{name}{made(size, _HEX)}" for name in ("commit ", "sha256:", "md5 ", "etag: ", "cache_key: ", "0x") for size in (32, 40, 64)),
    *(f"{name}{uuid.UUID(int=_R.getrandbits(128), version=4)}" for name in ("", "id=", "Idempotency-Key: ", "https://x.com/?id=", "session_id: ")),
    *(f"{name}{made(24)}" for name in ("call_", "toolu_01", "msg_01", "chatcmpl-", "req_011", "pk_test_")),
    "data:image/png;base64,iVBORw0KGgo" + made(400),
    *("gpt-4o-2024-08-06", "Qwen/Qwen2.5-0.5B-Instruct", "claude-sonnet-4-20250514", "sk-learn-contrib-hdbscan-0.8.33-py3-none-any"),
    *("AKIAIOSF" + "ODNN7EXAMPLE", "OPENAI_API_KEY=sk-" + "1234567890abcdef" * 2, "OPENAI_API_KEY=your-api-key-here", "sk-" + "x" * 40),
    *("postgresql://postgres:postgres@localhost/test", "postgres://user:password@localhost:5432/db", "https://example.com:8080/path@v1", "postgres://svc4app:svc4app@db.local/x"),
    *("password: str = Field(...)", "login(username='admin', password='password123')", "token: Optional[str] = None", "max_tokens: 4096"),
    *("Authorization: Bearer [REDACTED]", "Authorization: Bearer {{ token }}", "Authorization: Basic authentication is", "the basic idea of it", "Bearer authentication-is-required"),
    *("csrf_token = generate_csrf_token(request)", "export GITHUB_TOKEN=$(gh auth token)", "--token your-token-goes-here-2024", "?code=hello-world", "?key=your-key-goes-here-2024x9", f"?token={made(16, string.ascii_letters)}"),
    *('{"name": "x-api-key", "value": "header"}' for _ in range(1)),
    *(f"{name}{made(32, _HEX)}" for name in ("CACHE_KEY=", "cache-key-", "GPG_KEY=", "task-", "self_hf_", "objects/1/", "key_", "KEY", "cio", "app-", "as-")),
    *(f"{name}{uuid.UUID(int=_R.getrandbits(128), version=4)}" for name in ("api-", "task-", "IDEMPOTENCY_KEY=")),
    *("this.s.getUint32AndFloat64Array1()", "s.removeEventListenerForKey(", "late-sk-learn-contrib-hdbscan-0.8.33-py3", "my_npm_config_registry_of_2024_11_28"),
    *("mysql -u root -p", "mysql -uroot -proot db", "sshpass -p password ssh x", "redis-cli -a $REDIS_PASSWORD ping", '"PWD=/home/user1/projects"', "localhost:5432:app:app:app"),
    *("the password is incorrect", "<password>secret</password>", "SSH_KEY=/home/u1/.ssh/id_ed25519_2", "FLAG_KEY=enable-new-checkout-2024-11", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t" + made(200)),
    *(base64.urlsafe_b64encode(_R.randbytes(30_000)).decode() for _ in range(2)),
    *(f"curl -u {words} https://x.io" for words in ("user:password", "$USER:$PASS", "<user>:<password>", "admin:admin", "name")),
    *("curl https://x.io; docker run\n-u 1000:1000x9 img", "docker run -u 1000:1000x9 img", "Authorization: Token <your token>", "authorization = AuthorizationPolicy.objects"),
    "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "Authorization: Token your-key-a1b2c3d4e5f6g7h8",
    "Authorization: Basic " + base64.b64encode(b"no colon is in here").decode(),
    *(f"machine x.io login ann password {word}" for word in ("minioadmin", "your-password")),
    *("facade" * 5 + "fa.WindowSettingsOf", "SETTINGS_KEY=WindowSettingsManagerOfTheLastDecade"),
    *("Cookie: sid=k9Qw3Er7Ty1Ui5O", "api_key = k9Qw3Er7Ty1Ui5O", "Cookie: theme=dark; lang=en-GB", "--hash=sha256:" + hashlib.sha256(b"x").hexdigest(), "session_key=agent:main:telegram:1234"),
]  # fmt: skip


def test_all_of_the_fakes_and_nothing_else_is_found() -> None:
    """Each of the fakes is redacted, whole; of the innocents, nothing is."""
    assert [text for text, key in FAKES if key in Redactor(True).text(text, Counter()) or not may_hold(text)] == []
    assert [text for text in INNOCENTS if secrets_in(text)] == []


def of_shape(parsed: Any, chance: random.Random) -> str:
    """A text that a parsed pattern describes, but for what the pattern asks to stand around it."""
    out = ""
    for op, given in parsed:
        if op is sre.LITERAL:
            out += chr(given)
        elif op in (sre.IN, sre.NOT_LITERAL, sre.ANY):
            of = given if op is sre.IN else [(sre.NEGATE, None), (sre.LITERAL, given or 10)]
            allowed = re.findall(f"[{''.join(SPELLED[kind](value) for kind, value in of)}]", string.printable[:95])
            out += chance.choice([c for c in allowed if c.isalnum()] or allowed)
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, below = given
            out += "".join(of_shape(below, chance) for _ in range(chance.randint(low, min(high, max(low, 40)))))
        elif op is sre.SUBPATTERN:
            out += of_shape(given[-1], chance)
        elif op is sre.BRANCH:
            out += of_shape(chance.choice(given[1]), chance)
        else:
            assert op in (sre.ASSERT, sre.ASSERT_NOT), op
    return out


SPELLED = {
    sre.NEGATE: lambda _: "^",
    sre.LITERAL: lambda code: re.escape(chr(code)),
    sre.RANGE: lambda ends: f"{chr(ends[0])}-{chr(ends[1])}",
    sre.CATEGORY: lambda kind: {
        sre.CATEGORY_SPACE: r"\s",
        sre.CATEGORY_NOT_SPACE: r"\S",
        sre.CATEGORY_WORD: r"\w",
        sre.CATEGORY_DIGIT: r"\d",
    }[kind],
}


def test_each_rule_finds_what_its_pattern_describes() -> None:
    """No quick look before the rules passes over one of them. What a pattern needs before it stands among the fakes."""
    chance = random.Random(5)

    def found(pattern: re.Pattern[str]) -> bool:
        parsed = parser.parse(pattern.pattern, pattern.flags)
        texts = (f"x {of_shape(parsed, chance)} " for _ in range(20))
        return any(pattern.search(text) and secrets_in(text) and may_hold(text) for text in texts)

    assert [r for r in RULES if not any(r.pattern.search(text) for text, _ in FAKES) and not found(r.pattern)] == []


#: What keys begin with, and names of code, of packages and of products, too.
_ORDINARY = [
    "xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "tvly-", "fw_", "xapp-", "ico-", "LTAI", "SK", "ABIA",
    "ACCA", "xoxc-", "xoxd-", "xoxe.xoxp-", "oy2", "NRII-", "NRJS-", "NRBR-", "NRAA-", "AQVN", "ATBB", "tskey-auth-",
    "tskey-api-", "tskey-client-", "rnd_", "esecret_", "pa-", "AKID", "vcp_", "vca_", "vci_", "vcr_", "vck_", "sess-", "s.",
    "secret_", "secret-", "ak-", "as-", "cio", "bu_", "nk-", "app-", "dataset-", "Bearer ",
]  # fmt: skip


@pytest.mark.parametrize("begins", _ORDINARY)
def test_a_name_of_words_is_no_key(begins: str) -> None:
    """A name that begins as a key does and goes on with words stays, whatever its length."""
    words = "WindowSettingsManagerOfTheLastDecadeWithNothingElse" * 2
    assert not any(
        secrets_in(f"see {begins}{case[:size]} ") for case in (words, words.lower(), words.upper()) for size in range(1, 80)
    )


def test_a_key_of_clickup_has_a_user_of_six_to_nine_digits() -> None:
    key = made(32, string.ascii_uppercase + string.digits)
    assert [n for n in range(3, 13) if secrets_in(f"pk_{made(n, string.digits)}_{key}")] == [6, 7, 8, 9]


def test_secrets_come_in_order_and_apart_and_as_what_they_are_for_certain() -> None:
    """Of a text with many secrets, each stands behind the one before; a key beside its name is told as the key."""
    found = secrets_in("\n".join(text for text, _ in FAKES))
    assert len(found) > 100
    assert all(one.stop <= after.start for one, after in pairwise(found))
    pem = f"-----BEGIN {'PRIVATE KEY'}-----{made(64)}-----END {'PRIVATE KEY'}-----"
    assert [s.kind for s in secrets_in(pem + "AKIA" + made(16, string.ascii_uppercase))] == ["private_key", "aws_access_key"]
    key = "ghp" + "_" + "aB7" + made(33)
    assert [(s.kind, s.certain) for s in secrets_in(f"api_key = 'v1-{key}'")] == [("github_token", True)]


@pytest.mark.parametrize(
    "text", ["AKIAIOSF" + "ODNN7EXAMPLE", "sk-" + "1234567890abcdef" * 2, "postgresql://postgres:postgres@localhost/t"]
)
def test_the_keys_of_manuals_are_no_secrets(text: str) -> None:
    """A session that reads a manual can be trained on."""
    assert secrets_in(text) == []


@pytest.mark.parametrize(
    "piece",
    [
        "Cookie: ",
        "?key=",
        "--a-",
        '"name":"x","value":"',
        "Basic ",
        "a",
        "password=",
        "-----BEGIN ",
        "1/",
        "mysql -p",
        ":$1$a",
        "_KEY=",
    ],
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    """Ten times the text takes about ten times as long, whatever it repeats."""

    def cost(size: int) -> float:
        text = piece * (size // len(piece))
        return costs(lambda: secrets_in(text))[1]

    cost(10_000)
    assert cost(300_000) < 40 * max(cost(30_000), 0.01)


#: Prefixes behind which words stand in documentation, and a secret only where it looks drawn at random.
OF_WORDS = (
    *(f"xox{c}-" for c in "abcdeprs"), "xoxe.xoxp-", "xapp-", "tvly-", "fw_", "ico-", "LTAI", "ABIA", "ACCA", "oy2", "NRII-", "NRJS-",
    "NRBR-", "NRAA-", "AQVN", "ATBB", "tskey-auth-", "tskey-api-", "tskey-client-", "rnd_", "esecret_", "pa-", "AKID",
    *(f"vc{c}_" for c in "pairk"), "sess-", "bu_", "nk-",
)  # fmt: skip


@pytest.mark.parametrize("literal", OF_WORDS)
def test_words_behind_a_prefix_are_no_secret(literal: str) -> None:
    """A placeholder has the length and the letters of a key, and stays."""
    words = "your-token-goes-here-instead-of-this-placeholder-text"
    whole = [words.replace("-", ""), words.replace("-", "").upper()]
    texts = [f"see {literal}{body} there" for body in (words, *(one[:n] for one in whole for n in (16, 20, 24, 32, 35, 40, 43)))]
    (rule,) = (one for one in RULES if one.literal == literal)
    found = [text for text in texts if rule.pattern.search(text)]
    assert found and not any(kind for text in found for kind in secrets_in(text))


def test_a_key_whose_slashes_json_escapes_may_be_there() -> None:
    """`may_hold` is asked of JSON, too, and JSON may write a slash in two ways: where the value has one, its first letters decide."""
    assert may_hold('{"k": "ABSK' + "Qk5TLTEyMw+\\/" * 12 + '"}')
    assert not may_hold('{"k": "ABSN' + "Qk5TLTEyMw+\\/" * 12 + '"}')
