"""Why a handshake of TLS fails: what is asked of a certificate, and what either side learns of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from twistedetcd.protocols.certificates import common_name, is_for, name_of


class RefusedError(SSL.Error):
    """A handshake failed; ``reason`` is a sentence without a stop."""

    def __init__(self, cause: SSL.Error, reason: str) -> None:
        super().__init__(*cause.args)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def refusal(source: object) -> str:
    """
    Why a connection did not come about, in one sentence without a stop.

    Args:
        source: The failure that the connection was lost with, or its TLS transport, which knows as well when
            it is the certificate or the handshake that was not right; empty if that is not it.
    """
    if not isinstance(source, Failure):
        connection = source.getHandle()  # type: ignore[attr-defined]
        return connection.refused if isinstance(connection, Handshaking) else ""
    if isinstance(source.value, RefusedError):
        return source.value.reason
    if isinstance(source.value, SSL.Error):
        return in_words(source.value)
    if source.check(ConnectionAborted):
        return "the handshake did not end in time"
    return f"the connection was lost before the handshake ended: {source.getErrorMessage().rstrip('.')}"


_PLAIN_TEXT = "what came was plain text, not TLS"
_WORDS = {
    "http request": _PLAIN_TEXT,
    "https proxy request": _PLAIN_TEXT,
    "wrong version number": _PLAIN_TEXT,
    "packet length too long": _PLAIN_TEXT,
    "peer did not return a certificate": "no certificate was shown, and one is demanded",
    "unsupported protocol": "there is no version of TLS that both sides speak",
    "no shared cipher": "there is no cipher suite that both sides know",
}


def in_words(error: SSL.Error) -> str:
    """What OpenSSL says, with the cases that an operator meets in plain words."""
    queue = error.args[0] if error.args else ()
    if not isinstance(queue, Sequence) or isinstance(queue, str) or not queue:
        return f"the connection was lost before the handshake ended: {error.args}"
    said = str(queue[0][-1])
    _, alert, told = said.partition(" alert ")
    if alert:
        return f"the other side broke off the handshake: {told}"
    return _WORDS.get(said, said)


class Handshaking(SSL.Connection):
    """
    A connection that knows how its handshake went.

    Attributes:
        completed: It went well.
        refused: Why it did not, as a sentence without a stop.
    """

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        self.completed = False
        self.refused = ""

    def do_handshake(self) -> None:
        """Go on with it; a failure says why."""
        try:
            super().do_handshake()
        except (SSL.WantReadError, SSL.WantWriteError, SSL.SysCallError, SSL.ZeroReturnError):
            raise
        except SSL.Error as error:
            self.refused = self.refused or in_words(error)
            raise RefusedError(error, self.refused) from error
        self.completed = True


_UNKNOWN_AUTHORITY = {
    SSL.X509VerificationCodes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
    SSL.X509VerificationCodes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
    SSL.X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT,
    SSL.X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    SSL.X509VerificationCodes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    SSL.X509VerificationCodes.ERR_CERT_SIGNATURE_FAILURE,
}


def judge(
    names: Sequence[str],
    hosts: Sequence[str],
    revoked: frozenset[int] = frozenset(),
    host: str | None = None,
) -> Callable[..., bool]:
    """
    Make what OpenSSL asks about each certificate of the other side, from its authority's down to its own.

    Args:
        names: The common names that are allowed; all if none.
        hosts: The hosts of which it must be for one; any will do if there are none.
        revoked: Serial numbers that are refused.
        host: Which it must be for.
    """

    def mismatch(certificate: x509.Certificate) -> str:
        """Whom it ought to belong to, and does not; empty if all is well."""
        name = name_of(certificate)
        if host is not None and not is_for(certificate, host):
            return f"the certificate of {name} is not for {host}"
        if names and common_name(certificate) not in names:
            return f"the certificate of {name} has none of the common names that are allowed"
        if hosts and not any(is_for(certificate, allowed) for allowed in hosts):
            return f"the certificate of {name} is for none of the hosts that are allowed"
        return ""

    def judged(connection: Any, shown: crypto.X509, code: int, depth: int, good: int) -> bool:
        try:
            certificate = shown.to_cryptography()
            if not good:
                connection.refused = _fault(certificate, code)
            elif certificate.serial_number in revoked:
                connection.refused = f"the certificate of {name_of(certificate)} is revoked"
            elif depth == 0:
                connection.refused = mismatch(certificate)
        except ValueError as error:
            connection.refused = f"the certificate that was shown is damaged: {error}"
        return not connection.refused

    return judged


def _fault(certificate: x509.Certificate, code: int) -> str:
    """What OpenSSL has against a certificate."""
    name = name_of(certificate)
    if code in _UNKNOWN_AUTHORITY:
        return f"no authority that is trusted here has signed the certificate of {name}"
    if code == SSL.X509VerificationCodes.ERR_CERT_HAS_EXPIRED:
        return (
            f"the certificate of {name} has expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    if code == SSL.X509VerificationCodes.ERR_CERT_NOT_YET_VALID:
        return f"the certificate of {name} begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if code == SSL.X509VerificationCodes.ERR_INVALID_PURPOSE:
        return f"the certificate of {name} is not meant for this side of a connection"
    return f"the certificate of {name} fails OpenSSL's check {code}"
