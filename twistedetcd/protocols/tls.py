"""
TLS for either side of a connection, with files that may change while it is in use.

Each new connection looks whether one of its files has changed, so a certificate is renewed by replacing it.
Files that do not fit together, such as ones half replaced, leave in use what was read before.

Whatever the other side's certificate lacks fails the handshake itself, and `refusal` has the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from twistedetcd.protocols.certificates import TLSFileError, read_certificates, read_key, read_revoked
from twistedetcd.protocols.refusals import Handshaking, in_words, judge, refusal

__all__ = ["VERSIONS", "ClientTLS", "ServerTLS", "TLSFileError", "TLSOptions", "refusal"]

VERSIONS = {"TLS1.2": SSL.TLS1_2_VERSION, "TLS1.3": SSL.TLS1_3_VERSION}
"""The versions of TLS there are, ascending."""

_NO_AUTO_CHAIN = 0x8  # SSL_MODE_NO_AUTO_CHAIN: show what is in the file, not also who is trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSOptions:
    """
    How one role speaks TLS, both where it listens and where it dials; paths are of PEM files, or empty.

    Attributes:
        cert_file: Shown when listening, and when dialing unless there is ``client_cert_file``.
        key_file: Its key.
        client_cert_file: Shown when dialing.
        client_key_file: Its key.
        trusted_ca_file: Who must have signed the other side's certificate; the system's roots if empty.
        client_cert_auth: When listening, demand a certificate; so does ``trusted_ca_file`` alone.
        allowed_cns: If any, the other side's certificate must have one of these common names.
        allowed_hostnames: If any, it must be for one of these hosts.
        crl_file: Serial numbers that are refused from whoever dials us; may be DER as well.
        min_version: The oldest of `VERSIONS` that is spoken; empty for TLS1.2.
        max_version: The newest; empty for the newest there is.
        cipher_suites: OpenSSL's names of what may be used with TLS 1.2; empty for its own choice.
        skip_verify: When dialing, take whatever certificate is shown.
        protocols: For ALPN, in order of preference.
    """

    cert_file: str
    key_file: str
    client_cert_file: str = ""
    client_key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    crl_file: str = ""
    min_version: str = "TLS1.2"
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    skip_verify: bool = False
    protocols: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the files hold."""

    context: SSL.Context
    revoked: frozenset[int] = frozenset()


class _Files:
    """
    What was read from files, read again once one of them has changed.

    Args:
        paths: Which; empty ones do not count.
        read: Reads them; raises `TLSFileError`.
    """

    _log = Logger()

    def __init__(self, paths: Sequence[str], read: Callable[[], _Loaded]) -> None:
        self._paths = tuple(filter(None, paths))
        self._read = read
        self._stamps: tuple[object, ...] = ()
        self._loaded: _Loaded | None = None

    def load(self) -> _Loaded:
        """Read them whether or not they have changed."""
        # The look comes first: what changes while they are read is then noticed the next time.
        self._stamps = self._look()
        self._loaded = self._read()
        return self._loaded

    def current(self) -> _Loaded:
        """What is in use now."""
        if self._loaded is None:
            return self.load()
        if self._look() != self._stamps:
            try:
                self.load()
            except TLSFileError as error:
                self._log.warn("Changed files of TLS cannot be used, the old ones stay: {error}", error=error)
        return self._loaded

    def _look(self) -> tuple[object, ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # reading it will tell
        return None
    # Unlike that of writing, the time of change also tells of permissions.
    return found.st_ctime_ns, found.st_size, found.st_ino


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The listening side: each connection gets what the files hold at that time."""

    def __init__(self, options: TLSOptions) -> None:
        self._options = options
        # As with etcd, whoever names a CA wants certificates signed by it.
        self._demands = options.client_cert_auth or bool(options.trusted_ca_file)
        paths = (options.cert_file, options.key_file, options.trusted_ca_file, options.crl_file)
        self._files = _Files(paths, self._read)

    def load(self) -> None:
        """
        Read the files.

        Raises:
            TLSFileError: They cannot be used.
        """
        self._files.load()

    def _read(self) -> _Loaded:
        options = self._options
        context = _context(SSL.TLS_SERVER_METHOD, options)
        _show(context, options.cert_file, options.key_file)
        if self._demands and options.trusted_ca_file:
            for authority in _trust(context, options.trusted_ca_file):
                context.add_client_ca(authority)
        elif self._demands:
            context.set_default_verify_paths()
        # A resumed session would get around what has since been revoked.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        if options.protocols:
            context.set_alpn_select_callback(lambda _, offered: _agreed(options.protocols, offered))
        return _Loaded(context, read_revoked(options.crl_file) if options.crl_file else frozenset())

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See `IOpenSSLServerConnectionCreator`."""
        options, loaded = self._options, self._files.current()
        connection = Handshaking(loaded.context)
        if self._demands:
            connection.set_verify(
                SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
                judge(options.allowed_cns, options.allowed_hostnames, revoked=loaded.revoked),
            )
        return connection


class ClientTLS:
    """The dialing side: each connection gets what the files hold at that time."""

    def __init__(self, options: TLSOptions) -> None:
        self.options = options
        if options.client_cert_file:
            self._shown = options.client_cert_file, options.client_key_file
        else:
            self._shown = options.cert_file, options.key_file
        self.files = _Files((*self._shown, options.trusted_ca_file), self._read)

    def load(self) -> None:
        """
        Read the files.

        Raises:
            TLSFileError: They cannot be used.
        """
        self.files.load()

    def _read(self) -> _Loaded:
        options = self.options
        context = _context(SSL.TLS_CLIENT_METHOD, options)
        if any(self._shown):
            _show(context, *self._shown)
        if options.trusted_ca_file:
            _trust(context, options.trusted_ca_file)
        else:
            context.set_default_verify_paths()
        if options.protocols:
            context.set_alpn_protos(list(options.protocols))
        return _Loaded(context)

    def creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """
        What makes connections to a host, and holds it to be that host.

        Args:
            host: A name, which is also sent, or an IP address.
        """
        return _Dialer(self, host)


@implementer(IOpenSSLClientConnectionCreator)
class _Dialer:
    def __init__(self, tls: ClientTLS, host: str) -> None:
        self._tls = tls
        try:
            ip_address(host)
            self._host, self._sent = host, b""
        except ValueError:
            self._sent = host.encode("idna")
            self._host = self._sent.decode()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See `IOpenSSLClientConnectionCreator`."""
        options = self._tls.options
        connection = Handshaking(self._tls.files.current().context)
        if self._sent:
            connection.set_tlsext_host_name(self._sent)
        if not options.skip_verify:
            connection.set_verify(
                SSL.VERIFY_PEER, judge(options.allowed_cns, options.allowed_hostnames, host=self._host)
            )
        return connection


def _context(method: int, options: TLSOptions) -> SSL.Context:
    context = SSL.Context(method)
    context.set_mode(_NO_AUTO_CHAIN)
    context.set_min_proto_version(VERSIONS[options.min_version or "TLS1.2"])
    if options.max_version:
        context.set_max_proto_version(VERSIONS[options.max_version])
    if options.cipher_suites:
        suites = ":".join(options.cipher_suites)
        try:
            context.set_cipher_list(suites.encode())
        except SSL.Error as error:
            raise TLSFileError(f"none of the cipher suites {suites} can be used") from error
    return context


def _show(context: SSL.Context, cert_file: str, key_file: str) -> None:
    """Have a certificate shown, with those between it and its authority that follow in its file."""
    certificates, key = read_certificates(cert_file), read_key(key_file)
    if key.public_key() != certificates[0].public_key():
        raise TLSFileError(f"the key in {key_file} does not belong to the certificate in {cert_file}")
    try:
        context.use_certificate(certificates[0])
        for certificate in certificates[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
    except SSL.Error as error:
        raise TLSFileError(f"{cert_file} and {key_file} cannot be used: {in_words(error)}") from error


def _trust(context: SSL.Context, path: str) -> list[x509.Certificate]:
    """Take for an authority whatever is in the file, also what others have signed."""
    authorities = read_certificates(path)
    store = context.get_cert_store()
    assert store is not None
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    return authorities


def _agreed(ours: Sequence[bytes], offered: Sequence[bytes]) -> Any:
    """The first of ours that was offered; nothing is agreed upon if there is none."""
    return next((name for name in ours if name in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
