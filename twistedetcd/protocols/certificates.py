"""Certificates, keys and revocation lists: read from files, and asked whom they belong to."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

NAME_MAX = 200  # letters of a name in a message: whoever made the certificate chose it

_T = TypeVar("_T")
Key: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class TLSFileError(Exception):
    """A file cannot be used for TLS; the text is one sentence that names it."""


def read_certificates(path: str) -> list[x509.Certificate]:
    """
    The certificates of a PEM file, at least one.

    Raises:
        TLSFileError: There is none, or one is damaged.
    """
    return _read(path, "certificate", x509.load_pem_x509_certificates)


def read_key(path: str) -> Key:
    """
    The private key of a PEM file, which must not need a password.

    Raises:
        TLSFileError: There is none, or it cannot be used.
    """
    return _read(path, "private key", _key)


def read_revoked(path: str) -> frozenset[int]:
    """
    The serial numbers in a revocation list, PEM or DER; who has signed it is not asked.

    Raises:
        TLSFileError: It is not a revocation list.
    """
    return _read(path, "revocation list", _revoked)


def _read(path: str, what: str, parse: Callable[[bytes], _T]) -> _T:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:  # the latter for what can be no path
        raise TLSFileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = " ".join(str(error).split())
        raise TLSFileError(f"{path} holds no usable {what}: {reason}") from error


def _key(data: bytes) -> Key:
    key = load_pem_private_key(data, password=None)
    if not isinstance(key, Key):
        raise ValueError("of such a key there are no certificates")
    return key


def _revoked(data: bytes) -> frozenset[int]:
    is_pem = data.lstrip().startswith(b"-----")
    listed = x509.load_pem_x509_crl(data) if is_pem else x509.load_der_x509_crl(data)
    return frozenset(entry.serial_number for entry in listed)


def common_name(certificate: x509.Certificate) -> str:
    """The last common name in its subject; empty if it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def name_of(certificate: x509.Certificate) -> str:
    """What to call it in a message: its subject, fit for a log, or else its serial number."""
    name = certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"
    return "".join(letter if letter.isprintable() else "?" for letter in name[:NAME_MAX])


def hosts_of(certificate: x509.Certificate) -> tuple[list[str], list[IPv4Address | IPv6Address]]:
    """
    The DNS names and the IP addresses that it is for.

    Raises:
        ValueError: That part of it is damaged.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from error
    addresses = [
        address
        for address in names.get_values_for_type(x509.IPAddress)
        if isinstance(address, IPv4Address | IPv6Address)
    ]
    return names.get_values_for_type(x509.DNSName), addresses


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """
    Whether a certificate is for a host, by its alternative names alone.

    The rules are those of Go's ``VerifyHostname``: an address must be listed; of a name, a ``*`` may stand
    for the whole first label; upper and lower case are one.

    Args:
        certificate: Any.
        host: A name, or an IP address, which may stand in brackets.

    Raises:
        ValueError: The alternative names are damaged.
    """
    names, addresses = hosts_of(certificate)
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")) in addresses
    except ValueError:
        labels = host.lower().removesuffix(".").split(".")
    return all(labels) and any(_covers(name.lower().split("."), labels) for name in names)


def _covers(pattern: list[str], labels: list[str]) -> bool:
    return len(pattern) == len(labels) and pattern[0] in ("*", labels[0]) and pattern[1:] == labels[1:]
