"""
Huffman-coded strings (RFC 7541, 5.2 and appendix B), decoded an octet at a time.

The code's tree comes from the ``hpack`` library, whose table takes half an octet at a time.  Two of its
steps make one of ours; each is worked out when it is first needed, since most clients send little but digits.
"""

from __future__ import annotations

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

_steps: dict[int, tuple[int, bytes]] = {}  # state and octet -> next state, and what the octet completed
"""At most one entry for each of 256 states and 256 octets; a state is kept shifted, ready to add an octet."""

# Between two symbols, or in the middle of one that begins with ones only: what may be padding.
_MAY_END = frozenset(state << 8 for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE)


class HuffmanError(ValueError):
    """A string that is not Huffman code: it has the end-of-string symbol, or its padding is wrong."""


def decode_huffman(data: bytes) -> bytes:
    """
    Decode one string.

    Raises:
        HuffmanError: It is malformed.
    """
    steps = _steps
    state = 0
    parts = []
    for octet in data:
        step = steps.get(state | octet) or _step(state | octet)
        state = step[0]
        parts.append(step[1])
    if state not in _MAY_END:
        raise HuffmanError("a Huffman string is padded with something else than less than eight ones")
    return b"".join(parts)


def _step(state_and_octet: int) -> tuple[int, bytes]:
    state, octet = state_and_octet >> 8, state_and_octet & 0xFF
    symbols = bytearray()
    for half in (octet >> 4, octet & 0xF):
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
        if flags & HUFFMAN_FAIL:
            raise HuffmanError("a Huffman string contains the end-of-string symbol")
        if flags & HUFFMAN_EMIT_SYMBOL:
            symbols.append(symbol)
    step = _steps[state_and_octet] = state << 8, bytes(symbols)
    return step
