"""
What a gRPC request's header list asks for, and why it may be refused.

The order of the checks, the codes, the HTTP statuses and the texts are grpc-go's, since that is what etcd's
clients were written against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twistedetcd.errors import Code
from twistedetcd.protocols.calls import Method, Refusal, Request
from twistedetcd.protocols.compression import GZIP
from twistedetcd.protocols.hpack import Header
from twistedetcd.protocols.metadata import binary_problem, is_grpc, text, timeout_seconds

TIMEOUT = b"grpc-timeout"
"""The field whose value differs from call to call."""

_IDENTITY = b"identity"
_UNSUPPORTED_MEDIA_TYPE = b"415"
_BAD_REQUEST = b"400"
_METHOD_NOT_ALLOWED = b"405"


def interpret_timeout(value: bytes) -> float | Refusal:
    """Seconds of a value of `TIMEOUT`."""
    seconds, problem = timeout_seconds(value)
    return Refusal(Code.INTERNAL, problem, _BAD_REQUEST) if problem else seconds


def refusal_of(request: Request, varied: float | Refusal | None) -> Refusal | None:
    """Why a request with this timeout cannot be served; what is no gRPC at all is to be told so first."""
    if isinstance(varied, Refusal) and (
        request.refusal is None or request.refusal.http_status != _UNSUPPORTED_MEDIA_TYPE
    ):
        return varied
    return request.refusal


class Interpreter:
    """
    Makes requests of header lists.

    Args:
        methods: What is served, by path.
        terms: Makes of a request's metadata what the handlers want of it, as ``request.terms``.
    """

    def __init__(self, methods: Mapping[bytes, Method], terms: Callable[[Request], Any] | None) -> None:
        self._methods = methods
        self._terms = terms

    def interpret(self, headers: list[Header]) -> Request:
        """A request; once for each distinct header list without its timeout."""
        fields = dict(reversed(headers))  # the first of a repeated name wins
        encoding = fields.get(b"grpc-encoding", _IDENTITY)
        refusal = self._refusal(headers, fields, encoding)
        method = self._methods[fields[b":path"]] if refusal is None else Method()
        request = Request(method.unary, method.stream, encoding, tuple(headers), refusal)
        return request if self._terms is None else request._replace(terms=self._terms(request))

    def _refusal(
        self, headers: list[Header], fields: Mapping[bytes, bytes], encoding: bytes
    ) -> Refusal | None:
        content_type = fields.get(b"content-type", b"")
        if not is_grpc(content_type):
            shown = text(content_type)
            return Refusal(
                Code.INVALID_ARGUMENT,
                f'invalid gRPC request content-type "{shown}"',
                _UNSUPPORTED_MEDIA_TYPE,
            )
        problem = binary_problem(headers) or _hosts_problem(headers)
        if problem:
            return Refusal(Code.INTERNAL, problem, _BAD_REQUEST)
        if fields[b":method"] != b"POST":
            shown = text(fields[b":method"])
            problem = f'Received a HEADERS frame with :method "{shown}" which should be POST'
            return Refusal(Code.INTERNAL, problem, _METHOD_NOT_ALLOWED)
        if fields[b":path"] not in self._methods:
            return Refusal(Code.UNIMPLEMENTED, self._unknown(text(fields[b":path"])))
        if encoding not in (_IDENTITY, GZIP):
            shown = text(encoding)
            return Refusal(
                Code.UNIMPLEMENTED, f'grpc: Decompressor is not installed for grpc-encoding "{shown}"'
            )
        return None

    def _unknown(self, path: str) -> str:
        service, slash, name = path.removeprefix("/").rpartition("/")
        if not slash:
            return f'malformed method name: "{path}"'
        known = f"/{service}/".encode("utf-8", "surrogateescape")
        if any(served.startswith(known) for served in self._methods):
            return f"unknown method {name} for service {service}"
        return f"unknown service {service}"


def _hosts_problem(headers: list[Header]) -> str | None:
    """More than one host cannot be served (gRPC's document A41)."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) < 2:
        return None
    authorities = [value for name, value in headers if name == b":authority"]
    return (
        f"num values of :authority: {len(authorities)}, num values of host: {len(hosts)}, "
        "both must only have 1 value as per HTTP/2 spec"
    )
