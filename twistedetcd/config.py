"""
config: flags, ``ETCD_*`` variables and the YAML file, into one frozen `Config`.

The only parser.  Nothing here reads the process's arguments, environment or disk: all three are handed in.

Yours to change: how a mistake is worded.
With care: which exit status a mistake has; scripts look at it.
Never: a default (it belongs into ``flagtable.py``), a check that flags must pass together
(``configchecks.py``), or a setting that other rooms read from elsewhere.
Imports errors, configchecks and flagtable.  Imported by cluster, disk, service and tap.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from twistedetcd import __version__
from twistedetcd.configchecks import check
from twistedetcd.errors import ConfigError, UsageError
from twistedetcd.flagtable import FLAGS, OBEYED_GATES, SPECIAL, SUPPORTED, Flag, Value

ETCD_VERSION = "3.6.14"
"""The etcd whose flags these are, and whose version ``--version`` names."""

NANOSECONDS = 10**9


class Answered(Exception):  # noqa: N818  (nothing went wrong)
    """``--help`` or ``--version`` was given: print ``text`` on the standard output and end with status 0."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Address(NamedTuple):
    """Where to listen, an IPv6 host without brackets, and whether with TLS."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    What a member is told when it starts, checked; made by `parse`.

    URLs are in ascending order, each once.  A listening URL has the scheme http, or https if there is a
    certificate or one is to be made, and names an IP address or localhost.  ``initial_cluster`` has the URLs
    of each member by its name, repeated ones too; whether it fits this member is checked when it is used,
    which is only once (`twistedetcd.cluster.founding`).  With a ``discovery_srv`` it is empty until
    `twistedetcd.discovery` has filled it in.  No number is negative, no interval of raft zero.  What TLS
    demands of others' certificates comes with who must have signed them.  ``warnings`` are sentences for the
    log.
    """

    name: str
    data_dir: str
    wal_dir: str | None
    listen_peer_urls: tuple[str, ...]
    listen_client_urls: tuple[str, ...]
    heartbeat_interval_ms: int
    election_timeout_ms: int
    initial_election_tick_advance: bool
    snapshot_count: int
    snapshot_catchup_entries: int
    max_snapshots: int
    max_wals: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    grpc_keepalive_min_time_seconds: float
    grpc_keepalive_interval_seconds: float
    grpc_keepalive_timeout_seconds: float
    watch_progress_notify_interval_seconds: float
    backend_batch_interval_seconds: float
    backend_batch_limit: int
    max_learners: int
    initial_advertise_peer_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    initial_cluster: Mapping[str, tuple[str, ...]]
    discovery_srv: str
    discovery_srv_name: str
    initial_cluster_state: str
    initial_cluster_token: str
    force_new_cluster: bool
    strict_reconfig_check: bool
    pre_vote: bool
    cert_file: str
    key_file: str
    client_cert_file: str
    client_key_file: str
    client_cert_auth: bool
    client_crl_file: str
    client_cert_allowed_hostname: tuple[str, ...]
    trusted_ca_file: str
    auto_tls: bool
    peer_cert_file: str
    peer_key_file: str
    peer_client_cert_file: str
    peer_client_key_file: str
    peer_client_cert_auth: bool
    peer_crl_file: str
    peer_cert_allowed_cn: tuple[str, ...]
    peer_cert_allowed_hostname: tuple[str, ...]
    peer_trusted_ca_file: str
    peer_auto_tls: bool
    self_signed_cert_validity: int
    cipher_suites: tuple[str, ...]
    tls_min_version: str
    tls_max_version: str
    log_level: str
    log_format: str
    log_outputs: tuple[str, ...]
    backend: str
    peer_transport: str
    fsync_in: str
    unsafe_no_fsync: bool
    compaction_batch_limit: int
    compaction_sleep_interval_seconds: float
    feature_gates: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def tick_seconds(self) -> float:
        """How often raft ticks; a leader's heartbeat goes out with each tick."""
        return self.heartbeat_interval_ms / 1000

    @property
    def election_ticks(self) -> int:
        """Ticks without a leader before an election."""
        return self.election_timeout_ms // self.heartbeat_interval_ms

    @property
    def lease_ttl_min_seconds(self) -> int:
        """The shortest lease; whoever keeps it alive must have the time to find a new leader."""
        return -(-(3 * self.election_ticks // 2 * self.heartbeat_interval_ms) // 1000)

    @property
    def lease_checkpoint(self) -> bool:
        """Whether what remains of long leases is noted now and then."""
        return "LeaseCheckpoint=true" in self.feature_gates

    @property
    def peer_addresses(self) -> tuple[Address, ...]:
        """Where each of ``listen_peer_urls`` is."""
        return tuple(map(address, self.listen_peer_urls))

    @property
    def client_addresses(self) -> tuple[Address, ...]:
        """Where each of ``listen_client_urls`` is."""
        return tuple(map(address, self.listen_client_urls))


@dataclass(frozen=True, slots=True)
class _Setting:
    flag: Flag
    value: Value
    source: str  # what the operator wrote it as: --name, ETCD_NAME, or a key of the file


_Settings = dict[str, _Setting]  # by the flag's name


def parse(
    arguments: Sequence[str], environment: Mapping[str, str], read_file: Callable[[str], bytes]
) -> Config:
    """
    Read and check everything an operator can set.

    Args:
        arguments: What followed the program's name.
        environment: All variables; those that begin with ``ETCD_`` count, unless they are empty.
        read_file: Called once, with a path, when there is a configuration file; nothing else counts then.

    Raises:
        Answered: ``--help`` or ``--version``.
        UsageError: A flag that is not known or does not parse.
        ConfigError: Anything else that keeps the member from starting; the text is one sentence.
    """
    warnings: list[str] = []
    settings = _from_arguments(arguments)
    if _given(settings, "version"):
        raise Answered(version_text())
    path = _given(settings, "config-file") or environment.get(variable("config-file"))
    if path:
        settings = _from_file(_load(str(path), read_file), warnings)
    else:
        settings |= _from_environment(environment, settings, warnings)
        if "listen-client-urls" in settings and "advertise-client-urls" not in settings:
            raise ConfigError(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly"
            )
    fields = _obeyed(settings, warnings)
    check(fields, warnings)
    return Config(**fields, warnings=tuple(warnings))


def variable(name: str) -> str:
    """The environment variable that sets a flag."""
    return "ETCD_" + name.upper().replace("-", "_")


def address(url: str) -> Address:
    """Where a checked URL is."""
    split = urlsplit(url)
    assert split.hostname is not None and split.port is not None, url
    return Address(split.hostname, split.port, split.scheme == "https")


def version_text() -> str:
    """What ``--version`` prints: etcd's four lines, for scripts that look for the first."""
    return (
        f"etcd Version: {ETCD_VERSION}\nGit SHA: twistedetcd-{__version__}\n"
        f"Go Version: none, Python {platform.python_version()}\n"
        f"Go OS/Arch: {sys.platform}/{platform.machine()}\n"
    )


def help_text() -> str:
    """What ``--help`` prints."""
    lines = [
        "Usage: twistedetcd [--flag=value ...]",
        "",
        "Each flag is also an environment variable, such as",
    ]
    lines += [f"{variable('data-dir')} for --data-dir.  Durations: 100ms, 5s, 1h."]
    for heading, flags in {**SUPPORTED, "Other": SPECIAL}.items():
        lines += ["", f"{heading}:"]
        for flag in flags:
            default = flag.zero if flag.zero and flag.default == "0" else flag.default
            lines += [f"  --{flag.name}={flag.kind.word}"]
            lines += [f"      {flag.help}" + (f" (default '{default}')" if default else "")]
    shown = {flag.name for flags in (*SUPPORTED.values(), SPECIAL) for flag in flags}
    lines += ["", "Known, and refused unless given the default:"]
    lines += [f"  --{name}" for name in sorted(FLAGS.keys() - shown) if not FLAGS[name].ignored]
    return "\n".join([*lines, ""])


def _given(settings: _Settings, name: str) -> Value:
    return settings[name].value if name in settings else ""


def _from_arguments(arguments: Sequence[str]) -> _Settings:
    """One or two dashes; ``-name value`` or ``-name=value``; a switch takes its value after ``=`` only."""
    settings: _Settings = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        argument = rest.pop(0)
        if argument == "--":
            break
        name, has_value, text = argument[2 if argument.startswith("--") else 1 :].partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {argument}")
        if name in ("h", "help"):
            raise Answered(help_text())
        if name not in FLAGS:
            raise UsageError(f"flag provided but not defined: -{name}")
        flag = FLAGS[name]
        if not has_value and flag.kind.is_switch:
            text = "true"
        elif not has_value:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        try:
            settings[name] = _Setting(flag, flag.kind.parse(text), f"--{name}")
        except ValueError as error:
            raise UsageError(f'invalid value "{text}" for flag -{name}: {error}') from error
    if rest:
        raise ConfigError(f'"{rest[0]}" is not a valid flag')
    return settings


def _from_environment(environment: Mapping[str, str], arguments: _Settings, warnings: list[str]) -> _Settings:
    settings: _Settings = {}
    flags = {variable(flag.name): flag for flag in FLAGS.values() if flag.name != "config-file"}
    for name, text in sorted(environment.items()):
        if not name.startswith("ETCD_") or not text or name == variable("config-file"):
            continue
        flag = flags.get(name)
        if flag is None:
            warnings.append(f"unrecognized environment variable {name}")
        elif flag.name == "version":
            warnings.append(f"{name} is ignored: it is a flag only")
        elif flag.name in arguments:
            raise ConfigError(
                "conflicting environment variable is shadowed by corresponding command-line flag: "
                f"{name} and --{flag.name}"
            )
        else:
            try:
                settings[flag.name] = _Setting(flag, flag.kind.parse(text), name)
            except ValueError as error:
                raise ConfigError(f'invalid value "{text}" for {name}: {error}') from error
    return settings


_TRANSPORT_KEYS = ("cert-file", "key-file", "client-cert-file", "client-key-file", "client-cert-auth")
_NESTED: Mapping[str, Mapping[str, str]] = {
    "client-transport-security": {key: key for key in (*_TRANSPORT_KEYS, "trusted-ca-file", "auto-tls")}
    | {"allowed-hostname": "client-cert-allowed-hostname"},
    "peer-transport-security": {
        key: f"peer-{key}"
        for key in (*_TRANSPORT_KEYS, "trusted-ca-file", "auto-tls", "skip-client-san-verification")
    }
    | {"allowed-hostname": "peer-cert-allowed-hostname", "allowed-cn": "peer-cert-allowed-cn"},
    "socket-options": {key: f"socket-{key}" for key in ("reuse-port", "reuse-address")},
    "discovery-config": {"token": "discovery-token"},
    "discovery-config.client": {
        key: f"discovery-{key}"
        for key in ("endpoints", "dial-timeout", "request-timeout", "keepalive-time", "keepalive-timeout")
    },
    "discovery-config.client.secure": {
        key: f"discovery-{key}"
        for key in ("cert", "key", "cacert", "insecure-transport", "insecure-skip-tls-verify")
    },
    "discovery-config.client.auth": {"username": "discovery-user", "password": "discovery-password"},
}
_NESTED_NAMES = {f"{section}.{key}": name for section, keys in _NESTED.items() for key, name in keys.items()}
_FLAG_ONLY = {
    "raft-read-timeout",
    "raft-write-timeout",
    "client-crl-file",
    "peer-crl-file",
    "discovery-fallback",
}
_FLAG_ONLY |= {"version", "config-file", *_NESTED_NAMES.values()}

FILE_KEYS: Mapping[str, Flag] = MappingProxyType(
    {name: flag for name, flag in FLAGS.items() if name not in _FLAG_ONLY and not flag.ignored}
    | {path: FLAGS[name] for path, name in _NESTED_NAMES.items()}
    | {"experimental-snapshot-catch-up-entries": FLAGS["experimental-snapshot-catchup-entries"]}
)
"""The flag that each key of the configuration file sets; keys inside of keys are joined by dots."""


def _load(path: str, read_file: Callable[[str], bytes]) -> Mapping[object, object]:
    try:
        tree = _tree(read_file(path))
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the config file {path} is not valid YAML: {reason}") from error
    if not isinstance(tree, dict | None):
        raise ConfigError(f"the config file {path} must hold keys and values")
    return tree or {}


def _tree(text: bytes) -> Any:
    """JSON is YAML, except that tabs may indent it."""
    with suppress(ValueError):
        return json.loads(text)
    return yaml.safe_load(text)


def _from_file(tree: Mapping[object, object], warnings: list[str]) -> _Settings:
    settings: _Settings = {}
    for key, value in _leaves(tree, ""):
        flag = FILE_KEYS.get(key)
        if flag is None:
            warnings.append(f"{key} in the config file is not known, and ignored")
            continue
        source = f"{key} in the config file"
        try:
            settings[flag.name] = _Setting(flag, flag.kind.of_yaml(value), source)
        except ValueError as error:
            raise ConfigError(f"invalid value for {source}: {error}") from error
    return settings


def _leaves(tree: Mapping[object, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def _obeyed(settings: _Settings, warnings: list[str]) -> dict[str, Any]:
    """The fields of a `Config`, unchecked; refuses what we do not do."""
    flags = [flag for flags in SUPPORTED.values() for flag in flags]
    values = {flag.name: flag.default_value for flag in flags}
    gates: tuple[str, ...] = ()
    for name, setting in settings.items():
        flag = setting.flag
        if flag.ignored:
            warnings.append(f"{setting.source} is no longer supported, and ignored")
            continue
        if flag.replaced_by:
            if flag.replaced_by in settings:
                new = flag.replaced_by
                raise ConfigError(
                    f"cannot set --{name} and --{new} at the same time, please use --{new} only"
                )
            warnings.append(f"{setting.source} is an old name: use {flag.replaced_by}")
            flag = FLAGS[flag.replaced_by]
        if flag.name == "logger" and setting.value != "zap":
            raise ConfigError(f'unknown logger option "{setting.value}"')
        value = flag.meaning(setting.value)
        if flag.gate and value:
            gates += _gate(setting, settings, warnings)
        elif flag.name in values:
            values[flag.name] = value
        elif not flag.help and value != flag.default_value:
            raise _unsupported(setting)
    values["feature-gates"] = _obeyed_gates(settings, gates)
    return {flag.field: _in_unit(flag, values[flag.name]) for flag in flags}


def _unsupported(setting: _Setting) -> ConfigError:
    return ConfigError(f"{setting.source} is not supported by this version of twistedetcd")


def _gate(setting: _Setting, settings: _Settings, warnings: list[str]) -> tuple[str]:
    """The gate that an old switch opens."""
    gate = setting.flag.gate
    if any(given.startswith(f"{gate}=") for given in _gates_given(settings)):
        raise ConfigError(
            f"cannot set --{setting.flag.name} and --feature-gates={gate} at the same time, "
            "please use --feature-gates only"
        )
    warnings.append(f"{setting.source} is an old name: use feature-gates={gate}=true")
    return (f"{gate}=true",)


def _gates_given(settings: _Settings) -> tuple[str, ...]:
    value = _given(settings, "feature-gates")
    return value if isinstance(value, tuple) else ()


def _obeyed_gates(settings: _Settings, old: tuple[str, ...]) -> tuple[str, ...]:
    """All gates that stand otherwise than by default; refuses those that we do not obey."""
    given = _gates_given(settings)
    if any(gate.partition("=")[0] not in OBEYED_GATES for gate in given):
        raise _unsupported(settings["feature-gates"])
    gates = tuple(sorted({*given, *old}))
    if gates == ("LeaseCheckpointPersist=true",):
        raise ConfigError(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
        )
    return gates


def _in_unit(flag: Flag, value: Value) -> Value | float:
    if isinstance(value, int) and value < 0:
        raise ConfigError(f"--{flag.name} must not be negative")
    return value / NANOSECONDS if isinstance(value, int) and flag.kind.unit == "_seconds" else value
