"""
Header blocks become requests; what was made of a block is remembered.

Two memories, since making a request costs more than all else that is done for it.  By *block*: the same
octets mean the same while the dynamic table stands.  By *fields*: whatever moved the table, the same fields
are the same request.  One field may be left out of that comparison, for a deadline differs from call to call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twistedetcd.protocols.fields import content_length, request_problem, value_problem
from twistedetcd.protocols.floods import LARGE_LIST_COST
from twistedetcd.protocols.framing import (
    HEADER_LIST_BYTES_MAX,
    REMEMBERED_BLOCKS_MAX,
    REMEMBERED_BYTES_MAX,
    REMEMBERED_FIELDS_MAX,
    ConnectionFaultError,
    ErrorCode,
    StreamFaultError,
)
from twistedetcd.protocols.hpack import Decoder, Header, HeaderBlockError, HeaderListTooLargeError

Interpret = Callable[[list[Header]], Any]
InterpretVarying = Callable[[bytes], Any]
Extra = tuple[int | None, Any]
"""What content-length says, and what was made of the field that varies."""


class RequestReader:
    """
    The requests of one connection.

    Args:
        interpret: Makes a request of a valid header list; the request must be immutable.
        varying: The name of a field that `interpret` does not see, ...
        interpret_varying: ... for its value is given to this.
    """

    def __init__(
        self,
        interpret: Interpret,
        varying: bytes = b"",
        interpret_varying: InterpretVarying | None = None,
    ) -> None:
        self.by_block: dict[bytes, Any] = {}
        """The requests of blocks that need not be decoded."""
        self.extras: dict[bytes, Extra] = {}
        """What those of these blocks have that have a content-length or the field that varies."""
        self._block_bytes = 0
        self._last_fields: list[Header] | None = None
        self._last: tuple[Any, int | None] = (None, None)
        self._by_fields: dict[tuple[Header, ...], tuple[Any, int | None]] = {}
        self._field_bytes = 0
        self._decoder = Decoder(list_bytes_max=HEADER_LIST_BYTES_MAX)
        self._interpret = interpret
        self._varying = varying
        self._interpret_varying = interpret_varying

    def request(self, stream_id: int, block: bytes) -> tuple[Any, Extra | None]:
        """As `read`, but the block may be in ``by_block``."""
        request = self.by_block.get(block)
        return self.read(stream_id, block) if request is None else (request, self.extras.get(block))

    def read(self, stream_id: int, block: bytes) -> tuple[Any, Extra | None]:
        """
        Decode a block that is not in ``by_block``.

        Returns:
            The request, and what else there is, if anything.

        Raises:
            ConnectionFaultError: The block cannot be decoded.
            StreamFaultError: It is no valid request.
        """
        headers = self._decode(stream_id, block)
        varied = None
        if self._interpret_varying is not None:
            value = self._cut_varying(headers)
            if value is not None:
                varied = self._interpret_varying(self._checked(stream_id, value))
        if headers != self._last_fields:  # quick, since fields from the table are the same objects
            self._last = self._known(stream_id, headers)
            self._last_fields = headers
        request, length = self._last
        extra = None if length is None and varied is None else (length, varied)
        if not self._decoder.touched and len(headers) <= REMEMBERED_FIELDS_MAX:
            self._remember_block(block, request, extra)
        return request, extra

    @staticmethod
    def _checked(stream_id: int, value: bytes) -> bytes:
        problem = value_problem(value)
        if problem:
            raise StreamFaultError(stream_id, ErrorCode.PROTOCOL_ERROR, problem)
        return value

    def _known(self, stream_id: int, headers: list[Header]) -> tuple[Any, int | None]:
        """The request of a header list, and what its content-length says."""
        fields = tuple(headers)
        known = self._by_fields.get(fields)
        if known is None:
            problem = request_problem(headers)
            if problem:
                raise StreamFaultError(stream_id, ErrorCode.PROTOCOL_ERROR, problem)
            known = self._interpret(headers), content_length(headers)
            self._remember_fields(fields, known)
        return known

    def read_trailers(self, stream_id: int, block: bytes) -> list[Header]:
        """
        Decode a block that is no request, whatever becomes of it: the table must follow.

        Raises:
            ConnectionFaultError: The block cannot be decoded.
            StreamFaultError: The list is too large.
        """
        return self._decode(stream_id, block)

    def _cut_varying(self, headers: list[Header]) -> bytes | None:
        """Take the field that varies out of a list, unless a pseudo-header follows it: that is malformed."""
        varying = self._varying
        for at in range(len(headers) - 1, -1, -1):  # most clients send it near the end
            name, value = headers[at]
            if name == varying:
                if at + 1 < len(headers) and headers[at + 1][0][:1] == b":":
                    return None
                del headers[at]
                return value
        return None

    def _decode(self, stream_id: int, block: bytes) -> list[Header]:
        decoder = self._decoder
        try:
            return decoder.decode(block)
        except HeaderBlockError as error:
            raise ConnectionFaultError(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        except HeaderListTooLargeError as error:
            raise StreamFaultError(
                stream_id, ErrorCode.ENHANCE_YOUR_CALM, str(error), LARGE_LIST_COST
            ) from error
        finally:
            if decoder.touched and self.by_block:  # the same octets would now mean something else
                self._forget_blocks()

    def _remember_block(self, block: bytes, request: Any, extra: Extra | None) -> None:
        self._block_bytes += len(block)
        if len(self.by_block) == REMEMBERED_BLOCKS_MAX or self._block_bytes > REMEMBERED_BYTES_MAX:
            self._forget_blocks()  # full of blocks that did not come again
            self._block_bytes = len(block)
        self.by_block[block] = request
        if extra is not None:
            self.extras[block] = extra

    def _forget_blocks(self) -> None:
        self.by_block.clear()
        self.extras.clear()
        self._block_bytes = 0

    def _remember_fields(self, fields: tuple[Header, ...], known: tuple[Any, int | None]) -> None:
        size = sum([len(name) + len(value) for name, value in fields])
        if len(fields) > REMEMBERED_FIELDS_MAX or size > REMEMBERED_BYTES_MAX:
            return
        self._field_bytes += size
        if len(self._by_fields) == REMEMBERED_BLOCKS_MAX or self._field_bytes > REMEMBERED_BYTES_MAX:
            self._by_fields.clear()
            self._field_bytes = size
        self._by_fields[fields] = known
