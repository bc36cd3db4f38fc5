"""Secrets in text: API keys, tokens, private keys, passwords. Knows text; what holds it is `redact`'s matter.

Two kinds: what has the shape of a provider's key is a secret for certain; a random-looking value beside a name such as `api_key`
is one in all likelihood. A random-looking value alone is neither: agents' text is full of hashes, ids and images.

Each rule begins with a literal, which C looks for at a gigabyte a second; nothing here backtracks over more than one value.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable
from math import log2
from typing import NamedTuple


class Secret(NamedTuple):
    """Where a secret stands in a text, and of which kind it is. `certain`: by its shape, not only by its name and randomness."""

    start: int
    stop: int
    kind: str
    certain: bool


class _Rule(NamedTuple):
    kind: str
    literal: str
    pattern: re.Pattern[str]
    #: Whether the value must look random besides.
    random: bool = False
    #: What stands around the last mark of the literal, where the literal itself is in texts of all kinds.
    mark: str | None = None


_B64 = "[A-Za-z0-9_-]"
_ALNUM = "[A-Za-z0-9]"
_AUTHRESS = r"(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.accMARK[a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120}"
#: A scheme and its value: `Token`, `ApiKey`, `Bot`, `SSWS`. Basic and Bearer have rules of their own.
_AUTHORIZATION = (
    r"uthorization\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?(?!Basic|Bearer)[A-Za-z][A-Za-z-]{1,20}\s{1,4}([A-Za-z0-9._~+/=-]{16,400})"
)
_CURL_USER = r"(?<![A-Za-z0-9-])-(?:u|-user|-proxy-user)(?:=|[ \t]{1,4})?\\?[\"']?([^\s:\"'\\]{1,100}):([^\s\"'\\]{3,200})"
_KEY = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"


#: What ends in a letter or digit and ends a word all the same: escapes of JSON in a text, of URLs, and colours of a terminal.
_ESCAPES = (r"\\[bfnrt]", r"\\u[0-9a-fA-F]{4}", "%[0-9a-fA-F]{2}", r"\x1b\[[0-9]m", r"\x1b\[[0-9]{2}m", r"\x1b\[[0-9];[0-9]{2}m")


def _prefixed(kind: str, literal: str, rest: str, random: bool = False) -> _Rule:
    """A key that begins with a literal, itself at the beginning of a word."""
    mark = re.escape(literal)
    begins = "|".join([f"(?<![A-Za-z0-9_-]{mark})", *(f"(?<={escape}{mark})" for escape in _ESCAPES)])
    return _Rule(kind, literal, re.compile(f"{mark}(?:{begins}){rest}"), random)


_RULES = (
    _Rule(
        "private_key",
        "-----BEGIN ",
        # to its end, or, where the text was cut, as far as it goes on like a key; a mere mention has no body
        re.compile(rf"-----BEGIN {_KEY}(?:(?=.{{24}})(?:[^-]|-(?!----))+-----END {_KEY}|[A-Za-z0-9+/=\s\\]{{32,}})", re.S),
    ),
    _prefixed("anthropic_key", "sk-ant-", _B64 + "{20,}"),
    _prefixed("api_key", "sk-", _B64 + "{20,}", random=True),  # OpenAI, OpenRouter, DeepSeek, LiteLLM, Langfuse
    _prefixed("aws_access_key", "AKIA", "[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _prefixed("aws_access_key", "ASIA", "[A-Z0-9]{16}(?![A-Za-z0-9])"),
    *(_prefixed("github_token", f"gh{c}_", _ALNUM + "{36,}") for c in "pousr"),
    _prefixed("github_token", "github_pat_", "[A-Za-z0-9_]{36,}"),
    _prefixed("gitlab_token", "glpat-", _B64 + "{20,}"),
    _prefixed("huggingface_token", "hf_", _ALNUM + "{30,}"),
    _prefixed("google_key", "AIza", _B64 + "{35}"),
    _prefixed("google_token", "ya29.", _B64 + "{20,}"),
    _prefixed("google_secret", "GOCSPX-", _B64 + "{20,}"),
    *(_prefixed("slack_token", f"xox{c}-", "[A-Za-z0-9-]{16,}", random=True) for c in "abeprs"),
    _Rule(
        "slack_webhook", "hooks.slack.com/", re.compile(r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,}")
    ),
    *(_prefixed("stripe_key", f"{c}k_{w}_", _ALNUM + "{16,}") for c in "sr" for w in ("live", "test", "prod")),
    _prefixed("stripe_key", "whsec_", _ALNUM + "{24,}"),
    _prefixed("groq_key", "gsk_", _ALNUM + "{40,}"),
    _prefixed("xai_key", "xai-", _ALNUM + "{40,}"),
    _prefixed("replicate_token", "r8_", _ALNUM + "{30,}"),
    _prefixed("perplexity_key", "pplx-", _ALNUM + "{40,}"),
    _prefixed("tavily_key", "tvly-", _B64 + "{20,}", random=True),
    _prefixed("langsmith_key", "lsv2_", "(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    _prefixed("npm_token", "npm_", _ALNUM + "{36}"),
    _prefixed("pypi_token", "pypi-", _B64 + "{50,}"),
    _prefixed("sendgrid_key", "SG.", rf"(?:{_B64}{{16,64}}\.{_B64}{{16,}}|[A-Za-z0-9=_.-]{{66}}(?![A-Za-z0-9=_.-]))"),
    _prefixed("databricks_token", "dapi", "[a-f0-9]{32}"),
    _prefixed("digitalocean_token", "dop_v1_", "[a-f0-9]{64}"),
    _prefixed("shopify_token", "shpat_", "[a-fA-F0-9]{32}"),
    _prefixed("vault_token", "hvs.", _B64 + "{24,}"),
    _prefixed("linear_key", "lin_api_", _ALNUM + "{32,}"),
    _prefixed("notion_token", "ntn_", _ALNUM + "{40,}"),
    _prefixed("sentry_token", "sntrys_", "[A-Za-z0-9+/=_-]{40,}"),
    _prefixed("age_key", "AGE-SECRET-KEY-1", "[A-Z0-9]{50,}"),
    _prefixed("google_key", "AQ.", _B64 + "{40,}"),
    _prefixed("google_token", "1//0", _B64 + "{40,}"),
    _prefixed("figma_token", "figd_", _B64 + "{36,}"),
    _prefixed("supabase_token", "sbp_", "[a-f0-9]{40}"),
    _prefixed("fireworks_key", "fw_", _ALNUM + "{22,}", random=True),
    _prefixed("atlassian_token", "ATATT3", _B64 + "{50,}"),
    _prefixed("grafana_token", "glsa_", _ALNUM + "{32}_[A-Fa-f0-9]{8}"),
    _prefixed("grafana_token", "glc_", "[A-Za-z0-9+/]{32,}"),
    _prefixed("nvidia_key", "nvapi-", _B64 + "{40,}"),
    _prefixed("pinecone_key", "pcsk_", "[A-Za-z0-9_]{40,}"),
    _prefixed("cerebras_key", "csk-", _ALNUM + "{40,}"),
    _prefixed("together_key", "tgp_v1_", _B64 + "{40,}"),
    _prefixed("jina_key", "jina_", _B64 + "{40,}"),
    _prefixed("e2b_key", "e2b_", "[a-f0-9]{40}"),
    _prefixed("firecrawl_key", "fc-", "[a-f0-9]{32}"),
    _prefixed("postman_key", "PMAK-", "[a-f0-9]{24}-[a-f0-9]{34}"),
    _prefixed("newrelic_key", "NRAK-", "[A-Z0-9]{27}"),
    _prefixed("docker_token", "dckr_pat_", _B64 + "{24,}"),
    _prefixed("heroku_key", "HRKU-", _B64 + "{30,}"),
    _prefixed("pulumi_token", "pul-", "[a-f0-9]{40}"),
    _prefixed("rubygems_key", "rubygems_", "[a-f0-9]{48}"),
    _prefixed("planetscale_token", "pscale_tkn_", r"[A-Za-z0-9_.=-]{32,}"),
    _prefixed("planetscale_token", "pscale_pw_", r"[A-Za-z0-9_.=-]{32,}"),
    _prefixed("doppler_token", "dp.pt.", _ALNUM + "{40,}"),
    _prefixed("brevo_key", "xkeysib-", "[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    _prefixed("square_token", "sq0atp-", _B64 + "{22}"),
    _prefixed("square_token", "sq0csp-", _B64 + "{43}"),
    _prefixed("slack_token", "xapp-", "[A-Za-z0-9-]{30,}", random=True),
    _prefixed("posthog_key", "phx_", _ALNUM + "{40,}"),
    _prefixed("hubspot_token", "pat-na1-", "[a-f0-9]{8}-[a-f0-9-]{27}"),
    _prefixed("mailgun_key", "key-", "[a-f0-9]{32}(?![a-f0-9])"),
    _prefixed("contentful_token", "CFPAT-", _B64 + "{40,}"),
    _prefixed("mapbox_token", "sk.eyJ", rf"{_B64}{{40,}}\.{_B64}{{16,}}"),
    _prefixed("1password_key", "A3-", "[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}(?![A-Z0-9])"),
    _prefixed("adobe_secret", "p8e-", _ALNUM + "{32}"),
    *(_prefixed("digitalocean_token", f"do{c}_v1_", "[a-f0-9]{64}") for c in "or"),
    _prefixed("flyio_token", "fo1_", _B64 + "{43}"),
    _prefixed("flyio_token", "fm2_", "[A-Za-z0-9+/]{100,}"),
    *(
        _prefixed("gitlab_token", f"gl{word}-", "[A-Za-z0-9_.-]{20,}")
        for word in ("rt", "dt", "ptt", "ft", "soat", "agent", "imt", "cbt", "ffct", "oas")
    ),
    _prefixed("huggingface_token", "api_org_", "[A-Za-z]{34}(?![A-Za-z])"),
    _prefixed("infracost_key", "ico-", _ALNUM + "{32}", random=True),
    *(_prefixed("intra42_secret", f"s-s4t2{word}-", "[a-f0-9]{64}") for word in ("ud", "af")),
    _prefixed("octopus_key", "API-", "[A-Z0-9]{26}(?![A-Z0-9])"),
    _prefixed("planetscale_token", "pscale_oauth_", r"[A-Za-z0-9_=.-]{32,}"),
    _prefixed("prefect_token", "pnu_", _ALNUM + "{36}"),
    _prefixed("readme_key", "rdme_", "[a-z0-9]{70}"),
    _prefixed("scalingo_token", "tk-us-", _B64 + "{48}"),
    _prefixed("sentry_token", "sntryu_", "[a-f0-9]{64}"),
    *(_prefixed("settlemint_token", f"sm_{c}at_", _ALNUM + "{16}") for c in "aps"),
    *(_prefixed("shippo_token", f"shippo_{word}_", "[a-fA-F0-9]{40}") for word in ("live", "test")),
    _prefixed("sourcegraph_token", "sgp_", "(?:(?:[a-fA-F0-9]{16}|local)_)?[a-fA-F0-9]{40}"),
    _prefixed("alibaba_key", "LTAI", _ALNUM + "{20}(?![A-Za-z0-9])", random=True),
    _prefixed("artifactory_key", "AKCp", _ALNUM + "{69}"),
    _prefixed("artifactory_token", "cmVmd", _ALNUM + "{59}(?![A-Za-z0-9])"),
    _prefixed("clickhouse_key", "4b1d", _ALNUM + "{38}(?![A-Za-z0-9])", random=True),
    *(_prefixed("easypost_key", f"EZ{c}K", _ALNUM + "{54}") for c in "AT"),
    _prefixed("facebook_token", "EAA", "[A-DF-Z]" + _ALNUM + "{100,}"),
    _prefixed("square_token", "EAAA", _B64 + "{60}(?![A-Za-z0-9_-])"),
    _prefixed("grafana_key", "eyJrIjoi", _ALNUM + "{70,}"),
    _prefixed("openshift_token", "sha256~", _B64 + "{43}(?![A-Za-z0-9_-])"),
    _prefixed("twilio_key", "SK", "[a-f0-9]{32}(?![A-Za-z0-9])", random=True),
    _Rule(
        "airtable_token",
        "pat",
        re.compile(rf"pat{_ALNUM}{{14}}\.[a-f0-9]{{64}}(?![A-Za-z0-9])"),
        mark=rf"(?<=pat{_ALNUM}{{14}}\.)",
    ),
    *(_prefixed("aws_access_key", word, "[A-Z2-7]{16}(?![A-Za-z0-9])", random=True) for word in ("ABIA", "ACCA")),
    *(_prefixed("slack_token", f"xox{c}-", "[A-Za-z0-9%-]{16,}", random=True) for c in "cd"),
    _prefixed("slack_token", "xoxe.xoxp-", "[A-Za-z0-9-]{16,}", random=True),
    _Rule("mailchimp_key", "-us", re.compile(r"-us(?<=([a-f0-9]{32}-us))[0-9]{1,2}(?![A-Za-z0-9])")),
    _Rule("dropbox_token", "sl.", re.compile(rf"sl\.(?:u\.)?{_B64}{{120,}}"), mark=rf"(?<=sl\.)(?=(?:u\.)?{_B64}{{120}})"),
    *(
        _Rule(
            "discord_token",
            ".",
            re.compile(rf"{head}{_B64}{{6}}\.{_B64}{{27,38}}(?!{_B64})"),
            mark=rf"(?<={head})(?={_B64}{{6}}\.)",
        )
        for head in (rf"[MNO]{_B64}{{{size}}}\." for size in (23, 24, 25))
    ),
    _prefixed("nuget_key", "oy2", "[a-z0-9]{43}(?![A-Za-z0-9])", random=True),
    _Rule("rapidapi_key", "msh", re.compile(r"[0-9a-f]{10}msh[0-9a-f]{15}p1[0-9a-f]{6}jsn[0-9a-f]{12}(?![A-Za-z0-9])")),
    *(_prefixed("sonar_token", f"sq{c}_", "[a-f0-9]{40}(?![a-f0-9])") for c in "uap"),
    *(_prefixed("plaid_token", f"access-{w}-", "[0-9a-f]{8}-[0-9a-f-]{27}") for w in ("sandbox", "development", "production")),
    *(_prefixed("newrelic_key", f"NR{word}-", "[A-Za-z0-9_-]{19,}", random=True) for word in ("II", "JS", "BR", "AA")),
    _prefixed("yandex_key", "AQVN", _B64 + "{35,38}(?![A-Za-z0-9_-])", random=True),
    _prefixed("bitbucket_token", "ATBB", _ALNUM + "{28,32}(?![A-Za-z0-9])", random=True),
    _prefixed("atlassian_token", "ATCTT3", _B64 + "{50,}"),
    *(
        _Rule("clickup_token", "pk_", re.compile(rf"{head}[A-Z0-9]{{32}}(?![A-Za-z0-9])"), mark=rf"(?<={head})")
        for head in (rf"pk_[0-9]{{{size}}}_" for size in (6, 7, 8, 9))
    ),
    _Rule(
        "resend_key",
        "re_",
        re.compile(rf"re_{_ALNUM}{{8}}_{_ALNUM}{{24}}(?![A-Za-z0-9])"),
        mark=rf"(?<=re_{_ALNUM}{{8}}_)(?={_ALNUM}{{24}})",
    ),
    *(_prefixed("tailscale_key", f"tskey-{word}-", "[A-Za-z0-9-]{20,}", random=True) for word in ("auth", "api", "client")),
    *(
        _prefixed("doppler_token", f"dp.{w}.", rf"(?:{_B64}{{1,40}}\.)?{_ALNUM}{{40,}}")
        for w in ("st", "ct", "sa", "scim", "audit")
    ),
    _prefixed("buildkite_token", "bkua_", "[a-f0-9]{40}"),
    _prefixed("circleci_token", "CCIPAT_", _ALNUM + "{22}_[a-f0-9]{40}"),
    _prefixed("apify_token", "apify_api_", _ALNUM + "{30,}"),
    _prefixed("browserbase_key", "bb_live_", _B64 + "{20,}"),
    _prefixed("neon_key", "napi_", "[a-z0-9]{60,}"),
    _prefixed("render_key", "rnd_", _ALNUM + "{28,}", random=True),
    _prefixed("supabase_key", "sb_secret_", _B64 + "{30,}"),
    _prefixed("vercel_token", "vercel_blob_rw_", "[A-Za-z0-9_]{30,}"),
    _prefixed("anyscale_key", "esecret_", "[a-z0-9]{24,}", random=True),
    _prefixed("elevenlabs_key", "sk_", "[a-f0-9]{48}(?![a-f0-9])")._replace(mark="(?<=sk_)(?=[a-f0-9]{48})"),
    _prefixed("linear_key", "lin_oauth_", "[a-f0-9]{60,}"),
    _prefixed("docker_token", "dckr_oat_", _B64 + "{24,}"),
    _prefixed("langsmith_key", "ls__", "[a-f0-9]{32}"),
    _prefixed("daytona_key", "dtn_", "[a-f0-9]{60,}"),
    _prefixed("wandb_key", "wandb_v1_", "[A-Za-z0-9_]{40,}"),
    _prefixed("voyage_key", "pa-", _B64 + "{40,}", random=True)._replace(mark=f"(?<=pa-)(?={_B64}{{40}})"),
    _prefixed("tencent_key", "AKID", _ALNUM + "{32}(?![A-Za-z0-9])", random=True),
    _prefixed("baidu_key", "bce-v3/ALTAK-", "[A-Za-z0-9]{16,}/[a-f0-9]{40}"),
    _prefixed("mem0_key", "m0-", _ALNUM + "{40}(?![A-Za-z0-9])")._replace(mark=f"(?<=m0-)(?={_ALNUM}{{40}})"),
    _prefixed("intercom_token", "dG9rO", "[A-Za-z0-9+/=]{55}"),
    *(_prefixed("vercel_token", f"vc{c}_", _ALNUM + "{24,}", random=True) for c in "pairk"),
    _prefixed("polar_token", "polar_oat_", _ALNUM + "{30,}"),
    _prefixed("openai_session", "sess-", _ALNUM + "{40}(?![A-Za-z0-9])", random=True),
    _Rule("azure_devops_token", "AZDO", re.compile(_ALNUM + "{76}AZDO[A-Za-z0-9]{4}(?![A-Za-z0-9])")),
    _Rule("firebase_key", "AAAA", re.compile(rf"AAAA{_B64}{{7}}:{_B64}{{140}}")),
    _prefixed("amazon_mws_token", "amzn.mws.", "[0-9a-f]{8}-[0-9a-f-]{27}"),
    _Rule("braintree_token", "access_token$", re.compile(r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}")),
    _Rule("zapier_webhook", "hooks.zapier.com/", re.compile(r"hooks\.zapier\.com/hooks/catch/([0-9]+/[A-Za-z0-9]{5,})")),
    _Rule("discord_webhook", "/api/webhooks/", re.compile(rf"/api/webhooks/[0-9]{{16,20}}/({_B64}{{60,}})")),
    _Rule("teams_webhook", ".webhook.office.com/", re.compile(r"\.webhook\.office\.com/webhookb2/([^\s\"'<>]{60,300})")),
    _Rule("basic_auth", "asic ", re.compile(r"asic (?<=[Bb]asic )\s{0,4}([A-Za-z0-9+/]{12,400}={0,2})")),
    _Rule("basic_auth", 'auth"', re.compile(r'auth"\s{0,4}:\s{0,4}"([A-Za-z0-9+/]{12,400}={0,2})"')),  # of Docker's config.json
    _Rule("basic_auth", 'auth\\"', re.compile(r'auth\\"\s{0,4}:\s{0,4}\\"([A-Za-z0-9+/]{12,400}={0,2})\\"')),
    _Rule(
        "netrc_password", "machine ", re.compile(r"machine \S{1,100}\s{1,9}login \S{1,100}\s{1,9}password ([^\s\"'\\]{6,200})")
    ),
    _Rule("cookie", "ookie", re.compile(r"ookie(?<=[Cc]ookie)\\?[\"']?:\s{0,4}\\?[\"']?([^\r\n\"'\\]{16,4000})")),
    _Rule(
        "url_parameter",
        "=",
        re.compile(
            r"[?&](?:[A-Za-z]{1,20}[_-]){0,3}(?:key|apikey|sig|signature|token|secret|password|auth|code)=([^&\s\"'<>#\\]{16,2000})",
            re.I,
        ),
    ),
    _Rule(
        "named_value",
        "value",
        re.compile(
            r"""\\?["'< ](?:name|key)\\?["']?\s{0,4}[:=]\s{0,4}\\?["']([^"'\\]{3,100})\\?["']\s{0,4}"""
            r""",?\s{0,30}\\?["']?value\\?["']?\s{0,4}[:=]\s{0,4}\\?["']([^"'\\\s]{8,400})"""
        ),
    ),
    _Rule(
        "flag",
        "--",
        re.compile(
            r"(?<=--)((?:[a-z]{1,20}-){0,3}(?:password|passwd|token|secret|api-?key|access-key|credential))\s{1,4}[\"']?([^\s\"'\\-][^\s\"'\\]{7,200})"
        ),
    ),
    _Rule("azure_key", "AccountKey=", re.compile(r"AccountKey=([A-Za-z0-9+/]{80,}={0,2})")),
    _Rule("telegram_token", ":AA", re.compile(rf":AA(?<=[0-9]{{8}}:AA){_B64}{{33}}(?!{_B64})")),
    # signed; encrypted, in five parts; with a payload elsewhere; signed with a time, as sessions of web frameworks are
    *(
        _prefixed(
            "jwt",
            brace,
            rf"{_B64}{{8,400}}\.(?:(?:eyJ|eyA|ewo){_B64}{{6,}}\.(?:{_B64}{{16,}}|(?![A-Za-z0-9._-]))"
            rf"|{_B64}{{0,800}}\.{_B64}{{12,24}}\.{_B64}{{8,}}\.{_B64}{{16,}}|\.{_B64}{{40,}}|{_B64}{{5,8}}\.{_B64}{{27,43}}(?!{_B64}))",
        )
        for brace in ("eyJ", "eyA", "ewo")
    ),
    _prefixed("jwt", "ZXlK", r"[A-Za-z0-9+/]{60,4000}={0,2}"),
    _prefixed("1password_key", "ops_eyJ", "[A-Za-z0-9+/]{200,}={0,3}"),
    _prefixed("gitlab_token", "GR1348941", _B64 + "{20,}"),
    _prefixed("aws_bedrock_key", "ABSK", "[A-Za-z0-9+/]{100,}={0,2}"),
    _prefixed("aws_bedrock_key", "bedrock-api-key-", "[A-Za-z0-9+/=_-]{28,}"),
    *(_prefixed("harness_key", f"{word}.", rf"{_B64}{{22}}\.{_ALNUM}{{24}}\.{_ALNUM}{{20}}") for word in ("pat", "sat")),
    _prefixed("vault_token", "hvb.", _B64 + "{90,}"),
    *(_Rule("authress_key", f".acc{mark}", re.compile(_AUTHRESS.replace("MARK", mark))) for mark in "_-"),
    _Rule("maxmind_key", "_mmk", re.compile(rf"{_ALNUM}{{6}}_{_ALNUM}{{29}}_mmk(?![A-Za-z0-9_])")),
    _Rule("azure_secret", "Q~", re.compile(r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])")),
    _Rule("terraform_token", ".atlasv1.", re.compile(rf"{_ALNUM}{{14}}\.atlasv1\.[A-Za-z0-9_=-]{{60,}}")),
    _prefixed("cloudflare_key", "v1.0-", "[a-f0-9]{24}-[a-f0-9]{146}"),
    _prefixed("clojars_token", "CLOJARS_", _ALNUM + "{60}"),
    _prefixed("dynatrace_token", "dt0c01.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _prefixed("netlify_token", "nfp_", _ALNUM + "{36,}"),
    _prefixed("typeform_token", "tfp_", r"[A-Za-z0-9_.=-]{40,}"),
    _prefixed("frameio_token", "fio-u-", "[A-Za-z0-9_=-]{60,}"),
    *(_prefixed("duffel_token", f"duffel_{word}_", "[A-Za-z0-9_=-]{40,}") for word in ("live", "test")),
    *(_prefixed("shopify_token", f"shp{word}_", "[a-fA-F0-9]{32}") for word in ("ca", "pa", "ss")),
    *(_prefixed("flutterwave_key", f"FLWSECK{word}-", "[a-hA-H0-9]{12,}") for word in ("", "_TEST")),
    _Rule("authorization", "uthorization", re.compile(_AUTHORIZATION)),
    _Rule("curl_user", "curl ", re.compile(_CURL_USER)),
    _Rule("bearer_token", "earer ", re.compile(r"earer (?<=[Bb]earer )\s{0,4}([A-Za-z0-9._~+/=-]{16,})"), random=True),
    _Rule("url_password", "://", re.compile(r"""://[^\s/:@"'<>\\]{0,100}:([^\s/@"'<>{}$\\]{3,200})@[A-Za-z0-9\[]""")),
)

#: Names beside which a random-looking value is a secret.
_NAMES = ("password", "passwd", "passphrase", "secret", "token", "apikey", "api_key", "api-key", "access_key", "access-key",
          "accesskey", "auth_key", "auth-key", "authkey", "subscription-key", "signing_key", "master_key", "app_key",
          "secret_key", "secret-key", "secretkey", "private_key", "credential", "authorization")  # fmt: skip
_NAMED = re.compile(
    r"""(?:_?id|s)?[\\"'\]]{0,4}\s{0,4}(?::=|=>|[:=])\s{0,4}(?:(\\?["'])([^\s"'\\]{8,200})|([A-Za-z0-9_+/=.~!#%^&*@$-]{8,200}))"""
)
_KEY_NAME = re.compile(rf"(?:{'|'.join(_NAMES)})s?$", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"example|placeholder|redacted|your|change.?me|dummy|x{4}|\*{3}|\.{3}|[(){}<>$\[\]]|^env|^none$|^pass(?:word)?[0-9]{0,4}$",
    re.I,
)
#: Every name holds one of these: a text with none of them has no name to look for.
_STEMS = ("pass", "secret", "token", "key", "credential", "authorization")


#: Rules whose literal ends in a mark of punctuation share one pass over the text; it says whether any of them is worth a look.
_MARKED = tuple(r for r in _RULES if (r.literal[-1] in "-_." or r.mark) and r.kind != "flag")
_OTHERS = tuple(r for r in _RULES if r not in _MARKED)
_MARK = re.compile(rf"[-_.](?=[A-Za-z0-9_.=-]{{10}})(?:{'|'.join(r.mark or f'(?<={re.escape(r.literal)})' for r in _MARKED)})")
#: Rules whose literal is in texts of all kinds, and whose values no JSON writes in another way.
_SHORT = tuple(r for r in _OTHERS if len(r.literal) < 4 and (r.literal.isalnum() or r.literal == "-us"))
_LONG = tuple(r for r in _OTHERS if r not in _SHORT)


def secrets_in(text: str) -> list[Secret]:
    """The secrets of a text, in order and without overlaps. Never raises for a text."""
    found: list[Secret] = []
    for rule in (*(_MARKED if _MARK.search(text) else ()), *_OTHERS):
        if rule.literal in text:
            for match in rule.pattern.finditer(text):
                group = rule.pattern.groups
                value = match[group]
                if _is_example(value) or (rule.random and not looks_random(value)):
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
        said = base64.b64decode(match[1], validate=True).decode()
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
    "url_parameter": lambda m: looks_random(m[1]) and _LONG_RUN.search(m[1]) is not None and not _PLACEHOLDER.search(m[1]),
    "named_value": lambda m: is_named_secret(m[1], m[2]),
    "flag": lambda m: is_named_secret(m[1], m[2]),
    "netrc_password": lambda m: m[1].lower() not in _WEAK and not _PLACEHOLDER.search(m[1]),
}
#: Kinds that only a name and randomness speak for.
_SAID = {"named_value": "named_secret", "flag": "named_secret"}


def is_named_secret(name: str, value: str) -> bool:
    """Whether the value of a field is a secret by the field's name and its own randomness."""
    found = _KEY_NAME.search(name) if len(name) <= 100 else None
    return found is not None and 8 <= len(value) <= 4000 and " " not in value and _is_value_of(found[0].lower(), value)


def may_hold(text: str) -> bool:
    """Whether a text may hold a secret: quick, and yes too often. Also of JSON, whatever its strings hold escaped."""
    if _MARK.search(text) or any(rule.literal in text for rule in _LONG):
        return True
    if any(rule.literal in text and rule.pattern.search(text) for rule in _SHORT):
        return True
    lower = text.lower()
    return any(name != "token" or _TOKEN.search(lower) is not None for name in _named_in(lower))


def _named_in(lower: str) -> list[str]:
    return [name for stem in _STEMS if stem in lower for name in _NAMES if stem in name and name in lower]


#: Of a token's name and a value that is no small number: usage counts are in every answer.
_TOKEN = re.compile(r"token(?:_?id|s)?\W{0,8}?[:=]\W{0,8}?[a-z0-9_+/=.~!#%^&*-]{16}")


def _is_value_of(name: str, value: str) -> bool:
    if _is_example(value):
        return False
    if name.startswith("pass"):
        mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and len(set(value)) > 4
        return mixed and _PLACEHOLDER.search(value) is None
    return len(value) >= 16 and looks_random(value) and _PLACEHOLDER.search(value) is None


def looks_random(value: str) -> bool:
    """Whether a value looks drawn at random: letters and digits mixed, and a Shannon entropy of 3 bits a character or more."""
    digits = sum(c.isdigit() for c in value)
    return 2 <= digits < len(value) and entropy(value) >= 3.0


def entropy(value: str) -> float:
    """Shannon entropy of the characters of a text, in bits a character (C. E. Shannon, 1948)."""
    size = len(value)
    return -sum(n / size * log2(n / size) for n in Counter(value).values())
