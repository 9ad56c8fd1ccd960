"""
tlschecks: what the flags of TLS must pass together; the files themselves are looked at when they are used.

Yours to change: add a check.
With care: the words; those of etcd's own are what operators search for.
Never: a certificate that is demanded by a flag, and then not looked at.
Imports ciphers and errors.  Imported by configchecks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twistedetcd.ciphers import CIPHER_SUITES
from twistedetcd.errors import ConfigError

VERSIONS = ("", "TLS1.2", "TLS1.3")


def check_tls(fields: dict[str, Any], warnings: list[str]) -> None:
    """
    Check the fields of a `Config` that are about TLS against each other, and against the listening URLs.

    Raises:
        ConfigError: The member cannot start like that; the text is one sentence.
    """
    _check_versions(fields["tls_min_version"], fields["tls_max_version"])
    _check_suites(fields["cipher_suites"], fields["tls_min_version"])
    if fields["self_signed_cert_validity"] == 0 and (fields["auto_tls"] or fields["peer_auto_tls"]):
        raise ConfigError("--self-signed-cert-validity must be greater than 0")
    for role, prefix in (("client", ""), ("peer", "peer-")):
        given = _given(fields, prefix)
        _check_files(given, prefix)
        _check_demands(fields, role, prefix, given)
        if given("auto-tls") and given("cert-file"):
            warnings.append(f"ignoring {role} auto TLS since certs given")
        for url in fields[f"listen_{role}_urls"]:
            _check_url(role, url, given, warnings)


def _given(fields: dict[str, Any], prefix: str) -> Callable[[str], Any]:
    """What a flag of this role is set to."""
    return lambda name: fields[f"{prefix}{name}".replace("-", "_")]


def _check_versions(oldest: str, newest: str) -> None:
    for version in (oldest, newest):
        if version not in VERSIONS:
            raise ConfigError(f'unexpected TLS version "{version}" (must be one of: TLS1.2, TLS1.3)')
    if newest and oldest > newest:
        raise ConfigError(f"min version ({oldest}) is greater than max version ({newest})")


def _check_suites(suites: Sequence[str], oldest: str) -> None:
    for suite in suites:
        if suite not in CIPHER_SUITES:
            raise ConfigError(f'unexpected TLS cipher suite "{suite}"')
    if suites and oldest == "TLS1.3":
        raise ConfigError("cipher suites cannot be configured when only TLS1.3 is enabled")


def _check_files(given: Callable[[str], Any], prefix: str) -> None:
    """A certificate and its key come together."""
    if bool(given("cert-file")) != bool(given("key-file")):
        key, cert = given("key-file"), given("cert-file")
        raise ConfigError(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    if bool(given("client-cert-file")) != bool(given("client-key-file")):
        key, cert = given("client-key-file"), given("client-cert-file")
        raise ConfigError(
            "ClientKeyFile and ClientCertFile must both be present or both absent: "
            f"[key: {key}, cert: {cert}]"
        )


def _check_demands(fields: dict[str, Any], role: str, prefix: str, given: Callable[[str], Any]) -> None:
    """Whatever is asked of the other side's certificate needs somebody who vouches for it."""
    names = fields["peer_cert_allowed_cn"] if role == "peer" else ()
    hosts = fields[f"{role}_cert_allowed_hostname"]
    if names and hosts:
        raise ConfigError(
            "AllowedCNs and AllowedHostnames are mutually exclusive "
            f"(cns={_quoted(names)}, hostnames={_quoted(hosts)})"
        )
    demands = {
        f"{prefix}client-cert-auth": given("client-cert-auth"),
        f"{role}-crl-file": fields[f"{role}_crl_file"],
        "peer-cert-allowed-cn": names,
        f"{role}-cert-allowed-hostname": hosts,
    }
    for name, value in demands.items():
        if value and not given("trusted-ca-file"):
            raise ConfigError(f"--{name} needs --{prefix}trusted-ca-file: it says whose certificates count")
    if given("trusted-ca-file") and given("auto-tls") and not given("cert-file"):
        raise ConfigError(
            f"--{prefix}trusted-ca-file cannot be obeyed together with --{prefix}auto-tls: "
            "nobody has signed the certificates that are made"
        )


def _quoted(words: Sequence[str]) -> str:
    return "[" + " ".join(map(json.dumps, words)) + "]"


def _check_url(role: str, url: str, given: Callable[[str], Any], warnings: list[str]) -> None:
    if url.startswith("http:"):
        scheme = "http or unix" if role == "client" else "HTTP"
        flag = "--client-cert-auth" if role == "client" else "--peer-client-cert-auth"
        if given("cert-file") or given("auto-tls"):
            warnings.append(
                f"{url}: scheme is {scheme} while key and cert files are present; ignoring key and cert files"
            )
        if given("client-cert-auth"):
            warnings.append(
                f"{url}: scheme is {scheme} while {flag} is enabled; ignoring client cert auth for this URL"
            )
    elif not given("cert-file") and not given("auto-tls"):
        if role == "client":
            raise ConfigError(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url "
                f"{url} with HTTPS scheme"
            )
        host = url.partition("//")[2]
        raise ConfigError(f"cannot listen on TLS for {host}: KeyFile and CertFile are not presented")
