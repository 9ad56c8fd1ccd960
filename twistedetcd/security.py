"""
security: what a member's flags mean for TLS, and the certificates that it makes for itself.

Yours to change: how long a certificate made here is, and what it says.
With care: where they lie; an etcd that is started on this directory takes them.
Never: a file read or written but by `make_certificates`, which is called at a start.
Imports config, ciphers, protocols and errors.  Imported by peer transports and service.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.logger import Logger

from twistedetcd.ciphers import CIPHER_SUITES
from twistedetcd.config import Address, Config
from twistedetcd.protocols.certificates import TLSFileError, read_certificates, read_key
from twistedetcd.protocols.tls import TLSOptions

YEAR_DAYS = 365
LAST_DAY = datetime.max  # the latest that a certificate can be valid
PROTOCOLS = (b"http/1.1", b"h2")
"""
What is spoken on a port for clients.  gRPC asks for h2 alone; whoever knows both, such as curl, wants what
only HTTP/1.1 gets here.
"""

_log = Logger()


def client_options(config: Config) -> TLSOptions | None:
    """How clients are served; ``None`` if no listening URL for them has TLS."""
    if not any(listening.tls for listening in config.client_addresses):
        return None
    cert_file, key_file = config.cert_file, config.key_file
    if not cert_file:
        cert_file, key_file = _made_files(config, "client")
    return TLSOptions(
        cert_file=cert_file,
        key_file=key_file,
        client_cert_file=config.client_cert_file,
        client_key_file=config.client_key_file,
        trusted_ca_file=config.trusted_ca_file,
        client_cert_auth=config.client_cert_auth,
        allowed_hostnames=config.client_cert_allowed_hostname,
        crl_file=config.client_crl_file,
        min_version=config.tls_min_version,
        max_version=config.tls_max_version,
        cipher_suites=_suites(config),
        protocols=PROTOCOLS,
    )


def peer_options(config: Config) -> TLSOptions | None:
    """
    How other members are served and called; ``None`` if no flag says anything of that.

    There may be no certificate to show, but then no listening URL for members has TLS.
    """
    is_made = config.peer_auto_tls and not config.peer_cert_file
    if not (is_made or config.peer_cert_file or config.peer_trusted_ca_file):
        return None
    cert_file, key_file = config.peer_cert_file, config.peer_key_file
    if is_made:
        cert_file, key_file = _made_files(config, "peer")
    return TLSOptions(
        cert_file=cert_file,
        key_file=key_file,
        client_cert_file=config.peer_client_cert_file,
        client_key_file=config.peer_client_key_file,
        trusted_ca_file=config.peer_trusted_ca_file,
        client_cert_auth=config.peer_client_cert_auth,
        allowed_cns=config.peer_cert_allowed_cn,
        allowed_hostnames=config.peer_cert_allowed_hostname,
        crl_file=config.peer_crl_file,
        min_version=config.tls_min_version,
        max_version=config.tls_max_version,
        cipher_suites=_suites(config),
        skip_verify=is_made,
    )


def _suites(config: Config) -> tuple[str, ...]:
    return tuple(filter(None, (CIPHER_SUITES[suite] for suite in config.cipher_suites)))


def _made_files(config: Config, role: str) -> tuple[str, str]:
    """Where a certificate made here is, and its key."""
    directory = os.path.abspath(os.path.join(config.data_dir, "fixtures", role))
    return os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")


def make_certificates(config: Config, now: datetime) -> None:
    """
    Have the files that ``--auto-tls`` and ``--peer-auto-tls`` promise; what an earlier start has made stays.

    Args:
        config: The member's.
        now: In UTC, and says so.

    Raises:
        OSError: They cannot be written.
    """
    for role, is_wanted, addresses in (
        ("client", config.auto_tls and not config.cert_file, config.client_addresses),
        ("peer", config.peer_auto_tls and not config.peer_cert_file, config.peer_addresses),
    ):
        cert_file, key_file = _made_files(config, role)
        if is_wanted and not _usable(cert_file, key_file, now):
            os.makedirs(os.path.dirname(cert_file), mode=0o700, exist_ok=True)
            _make(cert_file, key_file, addresses, config.self_signed_cert_validity, now)


def _usable(cert_file: str, key_file: str, now: datetime) -> bool:
    """Whether there are such files, they belong together, and time has not passed over them."""
    if not os.path.exists(cert_file) or not os.path.exists(key_file):
        return False
    try:
        certificate, key = read_certificates(cert_file)[0], read_key(key_file)
    except TLSFileError as error:
        _log.warn("What was generated earlier is replaced: {error}", error=error)
        return False
    return now < certificate.not_valid_after_utc and key.public_key() == certificate.public_key()


def _make(cert_file: str, key_file: str, addresses: Sequence[Address], years: int, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    end = now + timedelta(days=min(YEAR_DAYS * years, (LAST_DAY - now.replace(tzinfo=None)).days))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(addresses)), critical=False)
        .sign(key, SHA256())
    )
    _log.warn("automatically generate certificates: {file}, valid until {end}", file=cert_file, end=end)
    # The certificate comes last: what a crash leaves without it is made anew.
    _write(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    _write(cert_file, certificate.public_bytes(Encoding.PEM))


def _names(addresses: Sequence[Address]) -> list[x509.GeneralName]:
    """The hosts that it is for, each once."""
    return [_name(host) for host in sorted({listening.host for listening in addresses})]


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: str, data: bytes) -> None:
    """Write what only the member may read; nobody finds half of it."""
    beside = f"{path}.tmp"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    os.replace(beside, path)
