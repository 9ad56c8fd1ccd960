"""
configchecks: what flags must pass together, and what follows from others.

Yours to change: add a check.
With care: the words; those of etcd's own are what operators search for.
Never: a look at disk, network or clock; what needs one is checked where it is used.
Imports errors, flagtable and tlschecks.  Imported by config.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from twistedetcd.errors import ConfigError
from twistedetcd.flagtable import parse_url
from twistedetcd.tlschecks import check_tls

ELECTION_TIMEOUT_MS_MAX = 50_000
PROGRESS_SECONDS_MIN = 0.1
REQUEST_BYTES_RECOMMENDED = 10 * 1024 * 1024


def check(fields: dict[str, Any], warnings: list[str]) -> None:
    """
    Check the fields of a `Config` against each other, and complete those that follow from others.

    Args:
        fields: By name, as the flags have them; changed in place.
        warnings: Gets sentences for the log.

    Raises:
        ConfigError: The member cannot start like that; the text is one sentence.
    """
    if not fields["name"]:
        raise ConfigError("--name must not be empty")
    for role in ("peer", "client"):
        for url in fields[f"listen_{role}_urls"]:
            _check_listen_url(f"--listen-{role}-urls", url)
    check_tls(fields, warnings)
    _check_timing(fields["heartbeat_interval_ms"], fields["election_timeout_ms"])
    unknown = set(fields["log_outputs"]) - {"default", "stderr", "stdout"}
    if unknown or not fields["log_outputs"]:
        raise ConfigError(
            "--log-outputs other than default, stderr and stdout is not supported by this version"
        )
    if fields["max_request_bytes"] > REQUEST_BYTES_RECOMMENDED:
        warnings.append(f"--max-request-bytes is above the {REQUEST_BYTES_RECOMMENDED} that etcd recommends")
    if fields["watch_progress_notify_interval_seconds"] < PROGRESS_SECONDS_MIN:
        fields["watch_progress_notify_interval_seconds"] = PROGRESS_SECONDS_MIN
        warnings.append("--watch-progress-notify-interval is at least 100ms, and taken as that")
    fields["data_dir"] = fields["data_dir"] or f"{fields['name']}.etcd"
    fields["wal_dir"] = fields["wal_dir"] or None
    fields["initial_cluster"] = MappingProxyType(_founders(fields, warnings))


def _founders(fields: Mapping[str, Any], warnings: list[str]) -> Mapping[str, tuple[str, ...]]:
    """Those that are named, or else this member alone; nobody yet if they are to be looked up."""
    named = _parse_cluster(fields["initial_cluster"])
    if fields["discovery_srv"]:
        if named:
            raise ConfigError(
                "multiple discovery or bootstrap flags are set. Choose one of "
                '"initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv"'
            )
        return {}
    if fields["discovery_srv_name"]:
        warnings.append("--discovery-srv-name means nothing without --discovery-srv, and is ignored")
    return named or {fields["name"]: tuple(fields["initial_advertise_peer_urls"])}


def _check_listen_url(flag: str, url: str) -> None:
    split = urlsplit(url)
    if split.scheme not in ("http", "https"):
        raise ConfigError(f"{flag} {url}: {split.scheme} is not supported by this version of twistedetcd")
    try:
        if split.hostname != "localhost":
            ip_address(split.hostname or "")
    except ValueError:
        raise ConfigError(f"expected IP in URL for binding ({url})") from None


def _check_timing(heartbeat_ms: int, election_ms: int) -> None:
    if heartbeat_ms == 0:
        raise ConfigError("--heartbeat-interval must be >0 (set to 0ms)")
    if 5 * heartbeat_ms > election_ms:
        raise ConfigError(
            f"--election-timeout[{election_ms}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat_ms}ms]"
        )
    if election_ms > ELECTION_TIMEOUT_MS_MAX:
        raise ConfigError(
            f"--election-timeout[{election_ms}ms] is too long, and should be set less than "
            f"{ELECTION_TIMEOUT_MS_MAX}ms"
        )


def _parse_cluster(text: str) -> Mapping[str, tuple[str, ...]]:
    """``m1=URL,m1=URL,m2=URL``: the URLs of each name, ascending, repeated ones too; names ascending."""
    listed: dict[str, list[str]] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        name, _, url = item.partition("=")
        try:
            listed.setdefault(name, []).append(parse_url(url.strip()).geturl())
        except ValueError as error:
            raise ConfigError(f"error setting up initial cluster: {error}") from error
    return {name: tuple(sorted(listed[name])) for name in sorted(listed)}
