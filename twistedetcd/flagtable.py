"""
flagtable: every flag of etcd 3.6, in one table.

A `Kind` reads one value, from text (command line, environment) or from YAML.  A `Flag` in ``SUPPORTED``
fills a field of `Config`; one in ``_KNOWN`` is accepted only with its default value, which changes nothing.

Yours to change: move a flag to ``SUPPORTED`` once the server does what it says.
With care: a default; an operator who never set the flag gets it.
Never: a flag that is accepted and then not obeyed.
Imports nothing of ours.  Imported by config, configchecks and cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

Value: TypeAlias = str | int | bool | tuple[str, ...]
"""What a flag can be set to; durations are whole nanoseconds."""

INT_MAX = 2**63 - 1
UINT_MAX = 2**64 - 1
UINT32_MAX = 2**32 - 1

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)")
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_URL_SCHEMES = ("http", "https", "unix", "unixs")


@dataclass(frozen=True, slots=True)
class Kind:
    """
    How a value is written.

    Attributes:
        word: What stands for a value in the help text.
        parse: A value from text; raises ValueError with the reason.
        of_yaml: A value from what YAML made of it; raises ValueError with the reason.
        is_switch: Whether the flag alone, without a value, means true.
        unit: What the name of the field in `Config` ends with.
    """

    word: str
    parse: Callable[[str], Value]
    of_yaml: Callable[[object], Value]
    is_switch: bool = False
    unit: str = ""


def _text(text: str) -> Value:
    return text


def _yaml_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError("must be a string")


def _from_text(parse: Callable[[str], Value]) -> Callable[[object], Value]:
    return lambda value: parse(_yaml_text(value))


def _bool(text: str) -> Value:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError("must be true or false")


def _yaml_bool(value: object) -> Value:
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _integer(least: int, most: int, unit: str = "") -> Kind:
    def checked(number: int) -> int:
        if not least <= number <= most:
            raise ValueError(f"must be between {least} and {most}")
        return number

    def parse(text: str) -> Value:
        if not _NUMBER.fullmatch(text):
            raise ValueError("must be an integer")
        digits = text.lstrip("+-")
        is_octal = digits.startswith("0") and digits.isdecimal()
        return checked(int(text, 8 if is_octal else 0))

    def of_yaml(value: object) -> Value:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be an integer")
        return checked(value)

    return Kind("N", parse, of_yaml, unit=unit)


def parse_duration(text: str) -> int:
    """
    Read a duration such as ``1h``, ``1m30s`` or ``1.5s``, or a plain ``0``.

    Returns:
        Nanoseconds.

    Raises:
        ValueError: The text is no duration, or is longer than 292 years.
    """
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    if unsigned == "0":
        return 0
    parts = list(_DURATION_PART.finditer(unsigned))
    if not parts or "".join(part[0] for part in parts) != unsigned:
        raise ValueError("must be a duration, such as 100ms, 5s or 1h")
    nanoseconds = sum(int(Fraction(part[1]) * _UNITS[part[2]]) for part in parts)
    if nanoseconds > INT_MAX:
        raise ValueError("is too long a duration")
    return -nanoseconds if text.startswith("-") else nanoseconds


def _yaml_duration(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > INT_MAX:
        raise ValueError("must be an integer number of nanoseconds")
    return value


def _list(text: str) -> Value:
    return tuple(text.split(",")) if text else ()


def _yaml_list(value: object) -> Value:
    if isinstance(value, list):
        return tuple(map(_yaml_text, value))
    return _list(_yaml_text(value))


def parse_url(text: str) -> SplitResult:
    """
    Split and check one URL of a member.

    Raises:
        ValueError: Not a scheme, a host and a port.
    """
    url = urlsplit(text)
    if url.scheme not in _URL_SCHEMES:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    if url.scheme in ("http", "https"):
        try:
            complete = url.port is not None
        except ValueError:
            complete = False
        if not complete:
            raise ValueError(f'URL address does not have the form "host:port": {text}')
        if url.path or url.query or url.fragment:
            raise ValueError(f"URL must not contain a path: {text}")
    return url


def parse_urls(text: str) -> tuple[str, ...]:
    """
    Read URLs separated by commas.

    Returns:
        Each once, in ascending order, as etcd keeps them.

    Raises:
        ValueError: One of them is not a URL of a member.
    """
    return tuple(sorted({parse_url(url.strip()).geturl() for url in text.split(",")}))


def _one_of(*words: str) -> Kind:
    def parse(text: str) -> Value:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return Kind("|".join(words), parse, _from_text(parse))


FEATURE_GATES: Mapping[str, bool] = MappingProxyType(
    {
        "AllAlpha": False,
        "AllBeta": False,
        "CompactHashCheck": False,
        "InitialCorruptCheck": False,
        "LeaseCheckpoint": False,
        "LeaseCheckpointPersist": False,
        "SetMemberLocalAddr": False,
        "StopGRPCServiceOnDefrag": False,
        "TxnModeWriteWithSharedBuffer": True,
    }
)
"""Every gate, and how it stands by default."""

OBEYED_GATES = frozenset({"LeaseCheckpoint", "LeaseCheckpointPersist"})
"""Those that may stand otherwise."""


def _gates(text: str) -> Value:
    """Only the gates that stand otherwise than by default."""
    changed = []
    for item in filter(None, text.split(",")):
        name, _, setting = (part.strip() for part in item.partition("="))
        if name not in FEATURE_GATES:
            raise ValueError(f"unrecognized feature gate: {name}")
        if _bool(setting) is not FEATURE_GATES[name]:
            changed.append(f"{name}={str(_bool(setting)).lower()}")
    return tuple(changed)


STRING = Kind("TEXT", _text, _yaml_text)
BOOL = Kind("true|false", _bool, _yaml_bool, is_switch=True)
INT = _integer(-INT_MAX - 1, INT_MAX)
UINT = _integer(0, UINT_MAX)
UINT32 = _integer(0, UINT32_MAX)
MILLISECONDS = _integer(0, UINT_MAX, unit="_ms")
DURATION = Kind("DURATION", parse_duration, _yaml_duration, unit="_seconds")
LIST = Kind("A,B", _list, _yaml_list)
URLS = Kind("URL,URL", parse_urls, _from_text(parse_urls))
GATES = Kind("NAME=BOOL,...", _gates, _from_text(_gates))
ANYTHING = Kind("TEXT", _text, str, is_switch=True)


@dataclass(frozen=True, slots=True)
class Flag:
    """
    One flag.

    Attributes:
        name: Without dashes.
        kind: How its value is written.
        default: As an operator would write it.
        help: What it does; empty unless supported.
        zero: What a zero, or nothing, stands for when it does not mean itself.
        ignored: Accepted for the sake of old scripts; changes nothing.
        replaced_by: The flag that this one is an old name of.
        gate: The feature gate that this switch is an old name of, if that is one we obey.
    """

    name: str
    kind: Kind
    default: str = ""
    help: str = ""
    zero: str | None = None
    ignored: bool = False
    replaced_by: str | None = None
    gate: str = ""

    @property
    def field(self) -> str:
        """The field of `Config` that a supported flag fills."""
        return self.name.replace("-", "_") + self.kind.unit

    @property
    def default_value(self) -> Value:
        """What it is when nobody sets it."""
        return self.meaning(self.kind.parse(self.default))

    def meaning(self, value: Value) -> Value:
        """What a value stands for."""
        return value if value or self.zero is None else self.kind.parse(self.zero)


PEER_URL = "http://localhost:2380"
CLIENT_URL = "http://localhost:2379"
LEVELS = _one_of("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
FORMATS = _one_of("json", "console")
STATES = _one_of("new", "existing")
PLACES = _one_of("auto", "reactor", "thread")

SUPPORTED: Mapping[str, tuple[Flag, ...]] = MappingProxyType(
    {
        "Member": (
            Flag("name", STRING, "default", "what this member is called"),
            Flag("data-dir", STRING, "", "where its data is kept; NAME.etcd when empty"),
            Flag("wal-dir", STRING, "", "where its log is kept, when not below data-dir"),
            Flag("listen-peer-urls", URLS, PEER_URL, "where other members reach it"),
            Flag(
                "listen-client-urls", URLS, CLIENT_URL, "where clients reach it; needs advertise-client-urls"
            ),
            Flag("heartbeat-interval", MILLISECONDS, "100", "milliseconds between heartbeats"),
            Flag(
                "election-timeout", MILLISECONDS, "1000", "milliseconds without a leader before an election"
            ),
            Flag("initial-election-tick-advance", BOOL, "true", "hardly wait for a leader after a start"),
            Flag("snapshot-count", UINT, "10000", "entries between two snapshots", zero="10000"),
            Flag(
                "snapshot-catchup-entries",
                UINT,
                "5000",
                "applied entries kept in memory for slow members",
                zero="5000",
            ),
            Flag("max-snapshots", UINT, "5", "snapshot files kept; 0 for all"),
            Flag("max-wals", UINT, "5", "segments of the log kept; 0 for all"),
            Flag("max-txn-ops", UINT, "128", "operations allowed in a transaction"),
            Flag("max-request-bytes", UINT, "1572864", "bytes allowed in a request"),
            Flag(
                "max-concurrent-streams", UINT32, "0", "calls open at once on a connection", zero="4294967295"
            ),
            Flag(
                "grpc-keepalive-min-time",
                DURATION,
                "5s",
                "a client that pings more often is hung up on",
                zero="5m",
            ),
            Flag("grpc-keepalive-interval", DURATION, "2h", "ping a client silent for so long", zero="2h"),
            Flag("grpc-keepalive-timeout", DURATION, "20s", "and hang up if it stays silent", zero="20s"),
            Flag(
                "watch-progress-notify-interval",
                DURATION,
                "0",
                "how often quiet watches that ask for it are told the revision",
                zero="10m",
            ),
            Flag("backend-batch-interval", DURATION, "0", "longest time between two commits", zero="100ms"),
            Flag("backend-batch-limit", INT, "0", "most operations between two commits", zero="10000"),
            Flag("max-learners", INT, "1", "learners allowed in the cluster; the same on all members"),
        ),
        "Clustering": (
            Flag("initial-advertise-peer-urls", URLS, PEER_URL, "where other members are told to reach it"),
            Flag("advertise-client-urls", URLS, CLIENT_URL, "where clients are told to reach it"),
            Flag("initial-cluster", STRING, "", "NAME=URL of every member, several URLs one by one"),
            Flag("discovery-srv", STRING, "", "domain whose SRV records name every member"),
            Flag("discovery-srv-name", STRING, "", "further word in the names of those records"),
            Flag("initial-cluster-state", STATES, "new", "start a cluster, or join one; means nothing later"),
            Flag("initial-cluster-token", STRING, "etcd-cluster", "keeps the ids of like clusters apart"),
            Flag(
                "force-new-cluster", BOOL, "false", "unsafe: drop all other members; for when they are lost"
            ),
            Flag(
                "strict-reconfig-check", BOOL, "true", "refuse changes of members that could cost the quorum"
            ),
            Flag("pre-vote", BOOL, "true", "ask whether an election could be won before calling it"),
        ),
        "Security": (
            Flag("cert-file", STRING, "", "certificate shown to clients, a PEM file"),
            Flag("key-file", STRING, "", "its key"),
            Flag("client-cert-file", STRING, "", "certificate shown when calling oneself, if not that"),
            Flag("client-key-file", STRING, "", "its key"),
            Flag("client-cert-auth", BOOL, "false", "demand a certificate of clients"),
            Flag("client-crl-file", STRING, "", "list of clients' certificates that are revoked"),
            Flag("client-cert-allowed-hostname", LIST, "", "hosts that clients' certificates may be for"),
            Flag("trusted-ca-file", STRING, "", "who must have signed clients' certificates"),
            Flag("auto-tls", BOOL, "false", "make a certificate to be shown to clients"),
            Flag("peer-cert-file", STRING, "", "certificate shown to other members, a PEM file"),
            Flag("peer-key-file", STRING, "", "its key"),
            Flag("peer-client-cert-file", STRING, "", "certificate shown when calling them, if not that"),
            Flag("peer-client-key-file", STRING, "", "its key"),
            Flag("peer-client-cert-auth", BOOL, "false", "demand a certificate of other members"),
            Flag("peer-crl-file", STRING, "", "list of members' certificates that are revoked"),
            Flag("peer-cert-allowed-cn", LIST, "", "common names that members' certificates may have"),
            Flag("peer-cert-allowed-hostname", LIST, "", "hosts that members' certificates may be for"),
            Flag("peer-trusted-ca-file", STRING, "", "who must have signed members' certificates"),
            Flag("peer-auto-tls", BOOL, "false", "make a certificate to be shown to other members"),
            Flag("self-signed-cert-validity", UINT, "1", "years that certificates made here are valid"),
            Flag("cipher-suites", LIST, "", "cipher suites of TLS 1.2, by their names in Go"),
            Flag("tls-min-version", STRING, "TLS1.2", "oldest version spoken: TLS1.2 or TLS1.3"),
            Flag("tls-max-version", STRING, "", "newest version spoken, when not the newest there is"),
        ),
        "Logging": (
            Flag("log-level", LEVELS, "info", "the least of what is logged"),
            Flag("log-format", FORMATS, "json", "how a line is written"),
            Flag("log-outputs", LIST, "default", "default or stderr, stdout, or several of them"),
        ),
        "Storage": (
            Flag("backend", STRING, "lmdb", "the storage engine"),
            Flag(
                "peer-transport",
                STRING,
                "tcp",
                "the way to the other members",
            ),
            Flag("fsync-in", PLACES, "auto", "where the log waits for the disk"),
            Flag("unsafe-no-fsync", BOOL, "false", "never wait for the disk: a crash may lose data"),
            Flag(
                "compaction-batch-limit", INT, "0", "revisions that a compaction removes at once", zero="1000"
            ),
            Flag(
                "compaction-sleep-interval", DURATION, "0", "a compaction's rest between batches", zero="10ms"
            ),
        ),
        "Features": (
            Flag(
                "feature-gates", GATES, "", "LeaseCheckpoint=true: leases keep what remained over a restart"
            ),
        ),
    }
)
"""What fills a field of `Config`, by the heading it has in the help text."""

SPECIAL = (
    Flag("config-file", STRING, "", "read all of this from a YAML file; nothing else counts then"),
    Flag("logger", STRING, "zap", "zap only; for the sake of etcd's scripts"),
    Flag("version", BOOL, "false", "print the version, and end"),
)
"""What is obeyed, but fills no field."""


def _known(kind: Kind, default: str, names: str, zero: str | None = None) -> tuple[Flag, ...]:
    return tuple(Flag(name, kind, default, zero=zero) for name in names.split())


_ROTATION = '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'

_KNOWN: tuple[tuple[Flag, ...], ...] = (
    _known(STRING, "", "distributed-tracing-instance-id"),
    _known(STRING, "", "discovery discovery-proxy discovery-token"),
    _known(STRING, "", "discovery-cert discovery-key discovery-cacert discovery-user discovery-password"),
    _known(STRING, "", "backend-bbolt-freelist-type", zero="map"),
    _known(STRING, "0", "auto-compaction-retention", zero="0"),
    _known(STRING, "periodic", "auto-compaction-mode"),
    _known(STRING, "exit", "discovery-fallback"),
    _known(STRING, "simple", "auth-token"),
    _known(STRING, "basic", "metrics"),
    _known(STRING, "localhost:4317", "distributed-tracing-address"),
    _known(STRING, "etcd", "distributed-tracing-service-name"),
    _known(STRING, _ROTATION, "log-rotation-config-json"),
    _known(LIST, "", "listen-client-http-urls listen-metrics-urls discovery-endpoints"),
    _known(LIST, "*", "cors host-whitelist"),
    _known(BOOL, "false", "peer-skip-client-san-verification discovery-insecure-skip-tls-verify"),
    _known(BOOL, "false", "socket-reuse-port socket-reuse-address memory-mlock"),
    _known(BOOL, "false", "enable-log-rotation enable-pprof enable-distributed-tracing"),
    _known(BOOL, "true", "enable-grpc-gateway discovery-insecure-transport"),
    _known(UINT, "300", "auth-token-ttl"),
    _known(UINT, "10", "bcrypt-cost"),
    _known(UINT, "0", "bootstrap-defrag-threshold-megabytes"),
    _known(INT, "0", "quota-backend-bytes", zero="2147483648"),
    _known(INT, "0", "distributed-tracing-sampling-rate"),
    _known(DURATION, "5s", "raft-read-timeout raft-write-timeout"),
    _known(DURATION, "5s", "discovery-request-timeout downgrade-check-time"),
    _known(DURATION, "2s", "discovery-dial-timeout discovery-keepalive-time"),
    _known(DURATION, "6s", "discovery-keepalive-timeout"),
    _known(DURATION, "100ms", "warning-apply-duration"),
    _known(DURATION, "0", "warning-unary-request-duration", zero="300ms"),
    _known(DURATION, "0", "corrupt-check-time"),
    _known(DURATION, "1m", "compact-hash-check-time"),
    # Old switches of feature gates, each with the gate's default.
    _known(BOOL, "false", "experimental-stop-grpc-service-on-defrag experimental-initial-corrupt-check"),
    _known(BOOL, "false", "experimental-compact-hash-check-enabled"),
    (
        Flag("experimental-enable-lease-checkpoint", BOOL, "false", gate="LeaseCheckpoint"),
        Flag("experimental-enable-lease-checkpoint-persist", BOOL, "false", gate="LeaseCheckpointPersist"),
    ),
    _known(BOOL, "true", "experimental-txn-mode-write-with-shared-buffer"),
)

# etcd 3.6 itself takes these and does nothing with them.
_IGNORED = """
    cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer
    max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval snapshot v vv
    test.coverprofile test.outputdir
"""
_V2_STATES = _one_of("write-only", "write-only-skip-check", "write-only-drop-data", "gone")

# Each is also known as experimental-NAME.
_FORMERLY_EXPERIMENTAL = """
    bootstrap-defrag-threshold-megabytes compact-hash-check-time compaction-batch-limit
    compaction-sleep-interval corrupt-check-time distributed-tracing-address
    distributed-tracing-instance-id distributed-tracing-sampling-rate distributed-tracing-service-name
    downgrade-check-time enable-distributed-tracing memory-mlock peer-skip-client-san-verification
    snapshot-catchup-entries warning-apply-duration warning-unary-request-duration
    watch-progress-notify-interval
"""


def _table() -> Mapping[str, Flag]:
    table = {flag.name: flag for group in (*SUPPORTED.values(), SPECIAL, *_KNOWN) for flag in group}
    table |= {name: Flag(name, ANYTHING, ignored=True) for name in _IGNORED.split()}
    table["v2-deprecation"] = Flag("v2-deprecation", _V2_STATES, "write-only", ignored=True)
    for name in _FORMERLY_EXPERIMENTAL.split():
        old = f"experimental-{name}"
        table[old] = Flag(old, table[name].kind, table[name].default, replaced_by=name)
    return MappingProxyType(table)


FLAGS = _table()
"""Every flag that etcd 3.6 knows, and ours, by name."""
