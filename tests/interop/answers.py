"""
answers: what two members said to the same request, and where they may differ.

Every difference that is allowed is a rule with a name.  A rule turns the real etcd's answer into the one that
its 3.6 would give, or leaves it alone; after the rules nothing may be left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.text_format import MessageToString

from tests.interop.requests import HASH_KV, SHOWN_BYTES_MAX, Case
from twistedetcd.errors import Code
from twistedetcd.pb.rpc_pb2 import RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse
from twistedetcd.pb.services import METHODS

UNSTABLE_ABOVE = 6  # elements: up to there Go's sort swaps neighbours only


class Answer(NamedTuple):
    """
    A status and, if it is OK, a message, without what differs between any two members.

    Attributes:
        code: gRPC's.
        text: The status text.
        message: The response, its header without ids and term.
        revision: The current revision, as the header has it.
    """

    code: int
    text: str
    message: Any = None
    revision: int = 0

    def __str__(self) -> str:
        if self.message is None:
            return f"{Code(self.code).name} {self.text!r}"
        return f"OK\n{MessageToString(self.message)[:SHOWN_BYTES_MAX]}"


def normalised(path: str, raw: bytes) -> Answer:
    """
    A response as it came, made comparable.

    Raises:
        AssertionError: A part of the header that every response has is missing.
    """
    message: Any = METHODS[path].response.FromString(raw)
    header = message.header
    assert header.cluster_id and header.member_id and header.raft_term, header
    for name in ("cluster_id", "member_id", "raft_term"):
        header.ClearField(name)
    return Answer(Code.OK, "", message, header.revision)


Rule = Callable[[Case, Answer, Answer], Answer | None]
"""Takes a case, their answer and ours; returns theirs as 3.6 would put it, ``None`` to leave it alone."""


def explained(case: Case, theirs: Answer, ours: Answer, used: set[str]) -> bool:
    """Whether the answers agree once the rules are obeyed; adds the names of those needed to ``used``."""
    for name, rule in RULES.items():
        if theirs == ours:
            return True
        changed = rule(case, theirs, ours)
        if changed is not None:
            used.add(name)
            theirs = changed
    return theirs == ours


def _refuses_bad_order(case: Case, theirs: Answer, ours: Answer) -> Answer | None:
    if not isinstance(case.request, RangeRequest) or not case.request.key:
        return None
    if case.request.sort_order in RangeRequest.SortOrder.values():
        return None
    return Answer(Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")


def _ties(case: Case, theirs: Answer, ours: Answer) -> Answer | None:
    if theirs.message is None or ours.message is None or type(theirs.message) is not type(ours.message):
        return None
    message = type(theirs.message)()
    message.CopyFrom(theirs.message)
    changed = False
    for request, their_range, our_range in zip(
        _ranges(case.request, message), _responses(message), _responses(ours.message), strict=False
    ):
        if their_range.kvs != our_range.kvs and _same_but_for_ties(request, their_range, our_range):
            del their_range.kvs[:]
            their_range.kvs.extend(our_range.kvs)
            changed = True
    return theirs._replace(message=message) if changed else None


def _same_but_for_ties(request: RangeRequest, theirs: RangeResponse, ours: RangeResponse) -> bool:
    if theirs.count <= UNSTABLE_ABOVE or len(theirs.kvs) != len(ours.kvs):
        return False
    field = {
        RangeRequest.VERSION: "version",
        RangeRequest.CREATE: "create_revision",
        RangeRequest.MOD: "mod_revision",
        RangeRequest.VALUE: "value",
    }.get(request.sort_target)
    if field is None:
        return False
    if [getattr(kv, field) for kv in theirs.kvs] != [getattr(kv, field) for kv in ours.kvs]:
        return False
    # Where a limit cut through a tie, the two have other keys; else they have the same ones.
    return ours.more or sorted(kv.key for kv in theirs.kvs) == sorted(kv.key for kv in ours.kvs)


def _ranges(request: Any, response: Any) -> Iterator[RangeRequest]:
    """The ranges that were carried out, also inside of transactions."""
    if isinstance(request, RangeRequest):
        yield request
    elif isinstance(request, TxnRequest):
        branch: Any = request.success if response.succeeded else request.failure
        for operation, answer in zip(branch, response.responses, strict=True):
            yield from _ranges(_member(operation), _member(answer))


def _responses(response: Any) -> Iterator[RangeResponse]:
    if isinstance(response, RangeResponse):
        yield response
    elif isinstance(response, TxnResponse):
        yield from chain.from_iterable(_responses(_member(answer)) for answer in response.responses)


def _member(operation: RequestOp | ResponseOp) -> Any:
    """The one that is set."""
    name: Any = operation.WhichOneof("request" if isinstance(operation, RequestOp) else "response")
    return getattr(operation, name) if name else None


def _undecodable(case: Case, theirs: Answer, ours: Answer) -> Answer | None:
    if case.path not in METHODS or theirs.code != Code.INTERNAL:
        return None
    try:
        METHODS[case.path].request.FromString(case.raw)
    except DecodeError:
        prefix = "grpc: error unmarshalling request: "
        return ours if theirs.text.startswith(prefix) and ours.text.startswith(prefix) else None
    return None


def _puts_first(case: Case, theirs: Answer, ours: Answer) -> Answer | None:
    if not isinstance(case.request, TxnRequest):
        return None
    return ours if theirs.text in _PUT_REFUSED and ours.text in _RANGE_REFUSED else None


_PUT_REFUSED = {"etcdserver: requested lease not found", "etcdserver: key not found"}
_RANGE_REFUSED = {
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
}


def _hash_revision(case: Case, theirs: Answer, ours: Answer) -> Answer | None:
    if case.path != HASH_KV or theirs.message is None or theirs.message.hash_revision:
        return None
    message = type(theirs.message)()
    message.CopyFrom(theirs.message)
    message.hash_revision = case.request.revision or theirs.revision
    return theirs._replace(message=message)


def _hash_of_compacted(case: Case, theirs: Answer, ours: Answer) -> Answer | None:
    if case.path != HASH_KV or ours.message is None or theirs.text not in _RANGE_REFUSED:
        return None
    return ours if ours.message.compact_revision == case.request.revision else None


RULES: Mapping[str, Rule] = {
    "a sort order that does not exist is refused; 3.5 ignores it": _refuses_bad_order,
    "HashKV names the revision it hashed; 3.5 does not": _hash_revision,
    "HashKV at the compact revision is answered; 3.5 refuses it": _hash_of_compacted,
    "a transaction's operations are checked in order; 3.5 checks all puts, then all ranges": _puts_first,
    "what equals in a large sort may come in any order: upstream's sort is not stable, ours is": _ties,
    "why a message does not decode is said in the words of the decoder": _undecodable,
}
