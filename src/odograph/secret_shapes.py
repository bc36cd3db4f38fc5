"""The shapes of keys, tokens and passwords of some hundred and fifty services: a literal and what stands around it. No search.

Each rule begins with a literal, which C looks for at a gigabyte a second; no pattern backtracks over more than one value.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """A shape, and what a value of it must be besides."""

    kind: str
    literal: str
    pattern: re.Pattern[str]
    #: Whether the value must look random besides.
    random: bool = False
    #: What stands around the last mark of the literal, where the literal itself is in texts of all kinds.
    mark: str | None = None
    #: Whether it is a secret in the midst of a word too, as in `late_ghp_...`; there the value must look drawn at random.
    glued: bool = False


_B64 = "[A-Za-z0-9_-]"
_ALNUM = "[A-Za-z0-9]"
_UUID = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
#: So many letters and digits, of both cases.
_MIXED = "(?=[A-Z0-9]*[a-z])(?=[a-z0-9]*[A-Z])[A-Za-z0-9]{{{0}}}(?![A-Za-z0-9_(-])"
_AUTHRESS = r"(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.accMARK[a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120}"
#: A scheme and its value: `Token`, `ApiKey`, `Bot`, `SSWS`. Basic and Bearer have rules of their own.
_AUTHORIZATION = (
    r"uthorization\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?(?!Basic|Bearer)[A-Za-z][A-Za-z-]{1,20}\s{1,4}([A-Za-z0-9._~+/=-]{16,400})"
)
_CURL_USER = r"(?<![A-Za-z0-9-])-(?:u|-user|-proxy-user)(?:=|[ \t]{1,4})?\\?[\"']?([^\s:\"'\\]{1,100}):([^\s\"'\\]{3,200})"
_KEY = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"


#: What ends in a letter or digit and ends a word all the same: escapes of JSON in a text, of URLs, and colours of a terminal.
_ESCAPES = (r"\\[bfnrt]", r"\\u[0-9a-fA-F]{4}", "%[0-9a-fA-F]{2}", r"\x1b\[[0-9]m", r"\x1b\[[0-9]{2}m", r"\x1b\[[0-9];[0-9]{2}m")


#: The beginning of a word.
BEGINS = re.compile("|".join(("(?<![A-Za-z0-9_-])", *(f"(?<={escape})" for escape in _ESCAPES))))
#: Literals that common words end in: `api-key-`, `rest_API-`.
_WORDS = ("API-", "api-", "esecret_", "ico-", "key-", "key_", "mob-", "pul-", "rnd_", "sdk-", "secret-", "secret_", "sess-")


def _prefixed(kind: str, literal: str, rest: str, random: bool = False, glue: str = "") -> Rule:
    """A key that begins with a literal, itself at the beginning of a word. A literal that no word ends in may stand
    in the midst of one, and a shorter one where `glue` says."""
    mark = re.escape(literal)
    marked = f"(?<={mark})(?={rest})" if literal[-1] in "-_." and (len(literal) < 4 or literal in _WORDS) else None
    if literal[-1] in "-_." and marked is None:
        return Rule(kind, literal, re.compile(mark + rest), random, glued=True)
    begins = [f"(?<![A-Za-z0-9_-]{mark})", *(f"(?<={escape}{mark})" for escape in _ESCAPES), *([glue] if glue else [])]
    return Rule(kind, literal, re.compile(f"{mark}(?:{'|'.join(begins)}){rest}"), random, marked, bool(glue))


RULES = (
    Rule(
        "private_key",
        "-----BEGIN ",
        # to its end, or, where the text was cut, as far as it goes on like a key; a mere mention has no body
        re.compile(rf"-----BEGIN {_KEY}(?:(?=.{{24}})(?:[^-]|-(?!----))+-----END {_KEY}|[A-Za-z0-9+/=\s\\]{{32,}})", re.S),
    ),
    _prefixed("anthropic_key", "sk-ant-", _B64 + "{20,}"),
    # OpenAI, OpenRouter, DeepSeek, LiteLLM, Langfuse; those of letters alone are SiliconFlow's
    _prefixed("api_key", "sk-", _B64 + "{20,}", True, "(?<=[-_]sk-)|(?=(?:proj|svcacct|admin|lf)-)"),
    _prefixed("api_key", "sk-or-v1-", "[a-f0-9]{64}"),
    _prefixed("api_key", "sk-", _ALNUM + "{40,}(?![A-Za-z0-9_-])"),
    *(Rule("aws_access_key", word, re.compile(word + "[A-Z0-9]{16}(?![A-Za-z0-9])")) for word in ("AKIA", "ASIA")),
    *(_prefixed("github_token", f"gh{c}_", _ALNUM + "{36,}") for c in "pousr"),
    _prefixed("github_token", "github_pat_", "[A-Za-z0-9_]{36,}"),
    _prefixed("gitlab_token", "glpat-", _B64 + "{20,}"),
    _prefixed("huggingface_token", "hf_", _ALNUM + "{30,}", glue="(?<=[-_]hf_)"),
    _prefixed("google_key", "AIza", _B64 + "{35}"),
    _prefixed("google_token", "ya29.", _B64 + "{20,}"),
    _prefixed("google_secret", "GOCSPX-", _B64 + "{20,}"),
    *(_prefixed("slack_token", f"xox{c}-", "[A-Za-z0-9-]{16,}", random=True) for c in "abeprs"),
    Rule(
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
    _prefixed("pypi_token", "pypi-", "AgE" + _B64 + "{50,}"),
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
    _prefixed("clickhouse_key", "4b1d", _ALNUM + "{38}(?![A-Za-z0-9])"),
    *(_prefixed("easypost_key", f"EZ{c}K", _ALNUM + "{54}") for c in "AT"),
    _prefixed("facebook_token", "EAA", "[A-DF-Z]" + _ALNUM + "{100,}"),
    _prefixed("square_token", "EAAA", _B64 + "{60}(?![A-Za-z0-9_-])"),
    _prefixed("grafana_key", "eyJrIjoi", _ALNUM + "{70,}"),
    _prefixed("openshift_token", "sha256~", _B64 + "{43}(?![A-Za-z0-9_-])"),
    _prefixed("twilio_key", "SK", "[a-f0-9]{32}(?![A-Za-z0-9])"),
    Rule(
        "airtable_token",
        "pat",
        re.compile(rf"pat{_ALNUM}{{14}}\.[a-f0-9]{{64}}(?![A-Za-z0-9])"),
        mark=rf"(?<=pat{_ALNUM}{{14}}\.)",
    ),
    *(_prefixed("aws_access_key", word, "[A-Z2-7]{16}(?![A-Za-z0-9])", random=True) for word in ("ABIA", "ACCA")),
    *(_prefixed("slack_token", f"xox{c}-", "[A-Za-z0-9%-]{16,}", random=True) for c in "cd"),
    _prefixed("slack_token", "xoxe.xoxp-", "[A-Za-z0-9-]{16,}", random=True),
    Rule("mailchimp_key", "-us", re.compile(r"-us(?<=([a-f0-9]{32}-us))[0-9]{1,2}(?![A-Za-z0-9])")),
    Rule("dropbox_token", "sl.", re.compile(rf"sl\.(?:u\.)?{_B64}{{120,}}"), mark=rf"(?<=sl\.)(?=(?:u\.)?{_B64}{{120}})"),
    *(
        Rule(
            "discord_token",
            ".",
            re.compile(rf"{head}{_B64}{{6}}\.{_B64}{{27,38}}(?!{_B64})"),
            mark=rf"(?<={head})(?={_B64}{{6}}\.)",
        )
        for head in (rf"[MNO]{_B64}{{{size}}}\." for size in (23, 24, 25))
    ),
    _prefixed("nuget_key", "oy2", "[a-z0-9]{43}(?![A-Za-z0-9])", random=True),
    Rule("rapidapi_key", "msh", re.compile(r"[0-9a-f]{10}msh[0-9a-f]{15}p1[0-9a-f]{6}jsn[0-9a-f]{12}(?![A-Za-z0-9])")),
    *(_prefixed("sonar_token", f"sq{c}_", "[a-f0-9]{40}(?![a-f0-9])") for c in "uap"),
    *(_prefixed("plaid_token", f"access-{w}-", "[0-9a-f]{8}-[0-9a-f-]{27}") for w in ("sandbox", "development", "production")),
    *(_prefixed("newrelic_key", f"NR{word}-", "[A-Za-z0-9_-]{19,}", random=True) for word in ("II", "JS", "BR", "AA")),
    _prefixed("yandex_key", "AQVN", _B64 + "{35,38}(?![A-Za-z0-9_-])", random=True),
    _prefixed("bitbucket_token", "ATBB", _ALNUM + "{28,32}(?![A-Za-z0-9])", random=True),
    _prefixed("atlassian_token", "ATCTT3", _B64 + "{50,}"),
    *(
        Rule("clickup_token", "pk_", re.compile(rf"{head}[A-Z0-9]{{32}}(?![A-Za-z0-9])"), mark=rf"(?<={head})")
        for head in (rf"pk_[0-9]{{{size}}}_" for size in (6, 7, 8, 9))
    ),
    Rule(
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
    _prefixed("elevenlabs_key", "sk_", "[a-f0-9]{48}(?![a-f0-9])"),
    _prefixed("linear_key", "lin_oauth_", "[a-f0-9]{60,}"),
    _prefixed("docker_token", "dckr_oat_", _B64 + "{24,}"),
    _prefixed("langsmith_key", "ls__", "[a-f0-9]{32}"),
    _prefixed("daytona_key", "dtn_", "[a-f0-9]{60,}"),
    _prefixed("wandb_key", "wandb_v1_", "[A-Za-z0-9_]{40,}"),
    _prefixed("voyage_key", "pa-", _B64 + "{40,}", random=True),
    _prefixed("tencent_key", "AKID", _ALNUM + "{32}(?![A-Za-z0-9])", random=True),
    _prefixed("baidu_key", "bce-v3/ALTAK-", "[A-Za-z0-9]{16,}/[a-f0-9]{40}"),
    _prefixed("mem0_key", "m0-", _ALNUM + "{40}(?![A-Za-z0-9])"),
    _prefixed("intercom_token", "dG9rO", "[A-Za-z0-9+/=]{55}"),
    *(_prefixed("vercel_token", f"vc{c}_", _ALNUM + "{24,}", random=True) for c in "pairk"),
    _prefixed("polar_token", "polar_oat_", _ALNUM + "{30,}"),
    _prefixed("openai_session", "sess-", _ALNUM + "{40}(?![A-Za-z0-9])", random=True),
    Rule("azure_devops_token", "AZDO", re.compile(_ALNUM + "{76}AZDO[A-Za-z0-9]{4}(?![A-Za-z0-9])")),
    Rule("firebase_key", "AAAA", re.compile(rf"AAAA{_B64}{{7}}:{_B64}{{140}}")),
    _prefixed("amazon_mws_token", "amzn.mws.", "[0-9a-f]{8}-[0-9a-f-]{27}"),
    Rule("braintree_token", "access_token$", re.compile(r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}")),
    Rule("zapier_webhook", "hooks.zapier.com/", re.compile(r"hooks\.zapier\.com/hooks/catch/([0-9]+/[A-Za-z0-9]{5,})")),
    Rule("discord_webhook", "/api/webhooks/", re.compile(rf"/api/webhooks/[0-9]{{16,20}}/({_B64}{{60,}})")),
    Rule("teams_webhook", ".webhook.office.com/", re.compile(r"\.webhook\.office\.com/webhookb2/([^\s\"'<>]{60,300})")),
    Rule("basic_auth", "asic ", re.compile(r"asic (?<=[Bb]asic )\s{0,4}([A-Za-z0-9+/]{12,400}={0,2})")),
    Rule("basic_auth", 'auth"', re.compile(r'auth"\s{0,4}:\s{0,4}"([A-Za-z0-9+/]{12,400}={0,2})"')),  # of Docker's config.json
    Rule("basic_auth", 'auth\\"', re.compile(r'auth\\"\s{0,4}:\s{0,4}\\"([A-Za-z0-9+/]{12,400}={0,2})\\"')),
    Rule("netrc_password", "machine ", re.compile(r"machine \S{1,100}\s{1,9}login \S{1,100}\s{1,9}password ([^\s\"'\\]{6,200})")),
    Rule("cookie", "ookie", re.compile(r"ookie(?<=[Cc]ookie)\\?[\"']?:\s{0,4}\\?[\"']?([^\r\n\"'\\]{16,4000})")),
    Rule(
        "url_parameter",
        "=",
        re.compile(
            r"[?&](?:[A-Za-z]{1,20}[_-]){0,3}(?:key|apikey|sig|signature|token|secret|password|auth|code)=([^&\s\"'<>#\\]{16,2000})",
            re.I,
        ),
    ),
    Rule(
        "named_value",
        "value",
        re.compile(
            r"""\\?["'< ](?:name|key)\\?["']?\s{0,4}[:=]\s{0,4}\\?["']([^"'\\]{3,100})\\?["']\s{0,4}"""
            r""",?\s{0,30}\\?["']?value\\?["']?\s{0,4}[:=]\s{0,4}\\?["']([^"'\\\s]{8,400})"""
        ),
    ),
    Rule(
        "flag",
        "--",
        re.compile(
            r"(?<=--)((?:[a-z]{1,20}-){0,3}(?:password|passwd|token|secret|api-?key|access-key|credential))(?:\s{1,4}|\\?\",\s{0,4})\\?[\"']?([^\s\"'\\-][^\s\"'\\]{7,200})"
        ),
    ),
    Rule("azure_key", "AccountKey=", re.compile(r"AccountKey=([A-Za-z0-9+/]{80,}={0,2})")),
    Rule("telegram_token", ":AA", re.compile(rf":AA(?<=[0-9]{{8}}:AA){_B64}{{33}}(?!{_B64})")),
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
    *(_prefixed("vault_token", f"hv{c}.", _B64 + "{90,}") for c in "br"),
    _prefixed("vault_token", "s.", _MIXED.format(24), random=True),
    _prefixed("vault_token", "b.AAAAAQ", _B64 + "{100,}"),
    *(Rule("authress_key", f".acc{mark}", re.compile(_AUTHRESS.replace("MARK", mark))) for mark in "_-"),
    Rule("maxmind_key", "_mmk", re.compile(rf"{_ALNUM}{{6}}_{_ALNUM}{{29}}_mmk(?![A-Za-z0-9_])")),
    Rule("azure_secret", "Q~", re.compile(r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])")),
    Rule("terraform_token", ".atlasv1.", re.compile(rf"{_ALNUM}{{14}}\.atlasv1\.[A-Za-z0-9_=-]{{60,}}")),
    _prefixed("cloudflare_key", "v1.0-", "[a-f0-9]{24}-[a-f0-9]{146}"),
    _prefixed("clojars_token", "CLOJARS_", _ALNUM + "{60}"),
    _prefixed("dynatrace_token", "dt0c01.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _prefixed("netlify_token", "nfp_", _ALNUM + "{36,}"),
    _prefixed("typeform_token", "tfp_", r"[A-Za-z0-9_.=-]{40,}"),
    _prefixed("frameio_token", "fio-u-", "[A-Za-z0-9_=-]{60,}"),
    *(_prefixed("duffel_token", f"duffel_{word}_", "[A-Za-z0-9_=-]{40,}") for word in ("live", "test")),
    *(_prefixed("shopify_token", f"shp{word}_", "[a-fA-F0-9]{32}") for word in ("ca", "pa", "ss")),
    *(_prefixed("flutterwave_key", f"FLWSECK{word}-", "[a-hA-H0-9]{12,}") for word in ("", "_TEST")),
    Rule("authorization", "uthorization", re.compile(_AUTHORIZATION)),
    Rule("curl_user", "curl ", re.compile(_CURL_USER)),
    Rule("bearer_token", "earer ", re.compile(r"earer (?<=[Bb]earer )\s{0,4}([A-Za-z0-9._~+/=-]{16,})"), random=True),
    Rule("url_password", "://", re.compile(r"""://[^\s/:@"'<>\\]{0,100}:([^\s/@"'<>{}$\\]{3,200})@[A-Za-z0-9\[]""")),
    Rule(
        "asana_token",
        "/",
        re.compile(r"/(?<=(?<![A-Za-z0-9_./-])[012]/)((?:[0-9]{13,19}[:/]){0,2}[a-f0-9]{32})(?![A-Za-z0-9])"),
    ),
    Rule("telnyx_key", "KEY", re.compile(rf"KEY[0-9A-F]{{32}}_{_ALNUM}{{22}}(?![A-Za-z0-9_])")),
    *(_prefixed("launchdarkly_key", f"{word}-", _UUID) for word in ("sdk", "mob")),
    _prefixed("launchdarkly_token", "api-", _UUID),
    # lines of htpasswd and of shadow, and what databases keep
    Rule("password_hash", "$2", re.compile(r"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}(?![./A-Za-z0-9])")),
    Rule("password_hash", ":$", re.compile(r":(\$(?:apr1|g?y|[156])\$(?:[./A-Za-z0-9=]{1,40}\$){1,3}[./A-Za-z0-9]{22,86})")),
    Rule("password_hash", "$argon2", re.compile(r"\$argon2(?:id?|d)(?:\$[a-z0-9=,]{1,60}){1,2}(?:\$[A-Za-z0-9+/]{11,90}){2}")),
    Rule("password_hash", ":{S", re.compile(r":(\{S?SHA(?:256|512)?\}[A-Za-z0-9+/]{26,120}={0,2})")),
    _prefixed("notion_token", "secret_", _MIXED.format(43), random=True),
    _prefixed("statsig_key", "secret-", _MIXED.format("40,"), random=True),
    *(_prefixed("stytch_secret", f"secret-{word}-", _B64 + "{36}") for word in ("live", "test")),
    *(_prefixed("modal_token", f"{word}-", _MIXED.format(22), random=True) for word in ("ak", "as")),
    _prefixed("runpod_key", "rpa_", _ALNUM + "{40,}"),
    _prefixed("cartesia_key", "sk_car_", _B64 + "{20,}"),
    _prefixed("api_key", "key_", "(?:[a-f0-9]{64}){1,2}(?![A-Za-z0-9])"),  # Cursor, Runway
    *(_prefixed("honeycomb_key", f"hc{word}_", "[a-z0-9]{50,}") for word in ("aik", "bik", "cik", "alk", "blk", "amk")),
    *(_prefixed("axiom_token", f"xa{c}t-", _UUID) for c in "ap"),
    *(_prefixed("paddle_key", f"pdl_{word}_apikey_", r"[a-z0-9]{20,}_\w{16,}") for word in ("live", "sdbx")),
    _prefixed("crates_token", "cio", _MIXED.format(32), random=True),
    _prefixed("klaviyo_key", "pk_", "[a-f0-9]{34}(?![A-Za-z0-9])"),
    _prefixed("snyk_token", "snyk_uat.", r"[A-Za-z0-9_.-]{60,}"),
    _prefixed("circleci_token", "CCIPRJ_", _ALNUM + "{22}_[a-f0-9]{40}"),
    _prefixed("linkedin_secret", "WPL_AP1.", r"[A-Za-z0-9_-]{10,}\.[A-Za-z0-9+/=]{6,}"),
    _prefixed("n8n_key", "n8n_api_", _ALNUM + "{30,}"),
    _prefixed("browser_use_key", "bu_", _B64 + "{40,}", random=True),
    _prefixed("gitea_token", "gta_", "[a-f0-9]{40}"),
    _prefixed("kaggle_token", "KGAT_", "[a-f0-9]{32}"),
    _prefixed("volcengine_key", "AKLT", _B64 + "{40,}"),
    _prefixed("nomic_key", "nk-", _B64 + "{40,}", random=True),
    _prefixed("scrapfly_key", "scp-live-", "[a-f0-9]{32}"),
    *(_prefixed("dify_key", f"{word}-", _MIXED.format(24), random=True) for word in ("app", "dataset")),
    _prefixed("infisical_token", "st.", r"[a-f0-9]{24}\.[a-f0-9]{32}\.[a-f0-9]{32}"),
    _prefixed("linear_key", "lin_wh_", _ALNUM + "{32,}"),
    Rule("django_secret", "django-insecure", re.compile(r"django-insecure-[a-z0-9!@#$%^&*(_=+)-]{40,}")),
    Rule(
        "zhipu_key",
        ".",
        re.compile(r"(?<![a-f0-9])[a-f0-9]{32}\.[A-Za-z0-9]{16}(?![A-Za-z0-9_.-])"),
        True,
        r"(?<=[a-f0-9]{32}\.)(?=[A-Za-z0-9]{16}(?![A-Za-z0-9_.-]))",
    ),
    Rule("azure_key", "JQQJ99", re.compile(_ALNUM + "{52}JQQJ99" + _ALNUM + "{26}(?![A-Za-z0-9])")),
    # base64 of a private key's first line, as in a kubeconfig
    Rule(
        "private_key", "LS0tLS1CRUdJTiB", re.compile(r"LS0tLS1CRUdJTiB(?:SU0Eg|FQyBQ|QUklW|PUEVO|FTkNS)[A-Za-z0-9+/]{40,}={0,2}")
    ),
    Rule(
        "private_key",
        "Private-Lines: ",
        re.compile(r"Private-Lines: [0-9]{1,3}((?:(?:\s|\\r|\\n){1,4}[A-Za-z0-9+/]{20,64}={0,2}){1,60})"),
    ),
    # passwords in command lines and in connection strings
    Rule("command_password", "sshpass ", re.compile(r"sshpass\s{1,4}-p[ =]?[\"']?([^\s\"'\\]{6,200})")),
    Rule("command_password", "redis-cli ", re.compile(r"redis-cli [^\n|;&]{0,200}?(?:-a|--pass)[ =][\"']?([^\s\"'\\]{6,200})")),
    Rule("command_password", "mysql", re.compile(r"mysql(?:dump|admin)? [^\n|;&]{0,200}?-p[\"']?([^\s\"'\\]{6,200})")),
    Rule("command_password", "authtoken ", re.compile(r"authtoken ([A-Za-z0-9_]{40,100})")),
    Rule(
        "command_password",
        "htpasswd ",
        re.compile(r"htpasswd -[a-zA-Z]{0,6}b[a-zA-Z]{0,6} \S{1,100} \S{1,100} [\"']?([^\s\"'\\]{6,200})"),
    ),
    Rule("command_password", ":5432:", re.compile(r":5432:[^:\s]{1,60}:[^:\s]{1,60}:([^\s\"'\\]{6,200})")),  # a line of .pgpass
    Rule("connection_password", "wd=", re.compile(r"[;\"'](?:Pwd|PWD|pwd)=([^;\s\"'\\]{6,200})")),
    # a variable of the environment, but for names of keys that are none
    Rule(
        "environment",
        "_KEY",
        re.compile(
            r"(?<!CACHE)(?<!PUBLIC)(?<!PRIMARY)(?<!FOREIGN)(?<!PARTITION)(?<!SORT)(?<!OBJECT)(?<!HASH)(?<!GPG)(?<!DEDUP)"
            r"_KEY\\?[\"']?[ ]?[:=][ ]?\\?[\"']?([A-Za-z0-9_+/=.-]{20,200})"
        ),
    ),
)
