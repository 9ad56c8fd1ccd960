"""The model says what the store says."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.apply.applying import Applying
from tests.testing.checks.requests import Requests
from twistedetcd.apply import request as kinds
from twistedetcd.errors import EtcdError
from twistedetcd.pb.rpc_pb2 import (
    CompactionRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from twistedetcd.testing.checks.model import Model

KINDS = {
    "PutRequest": kinds.PUT,
    "DeleteRangeRequest": kinds.DELETE_RANGE,
    "TxnRequest": kinds.TXN,
    "CompactionRequest": kinds.COMPACTION,
    "LeaseGrantRequest": kinds.LEASE_GRANT,
    "LeaseRevokeRequest": kinds.LEASE_REVOKE,
}


def answer(call: Any) -> Any:
    """A response without what only a server knows; or the refusal."""
    try:
        response = call()
    except EtcdError as error:
        return error.code, error.message
    for name in ("cluster_id", "member_id", "raft_term"):
        response.header.ClearField(name)
    return response


def some_request(random: Random, requests: Requests, model: Model) -> Any:
    """One of everything that goes through the log."""
    draw = random.random()
    if draw < 0.35:
        return requests.put()
    if draw < 0.45:
        return requests.delete()
    if draw < 0.8:
        return requests.txn(model.revision)
    if draw < 0.85:
        return CompactionRequest(revision=model.revision - random.randrange(-1, 30))
    if draw < 0.93:
        return LeaseGrantRequest(ID=random.choice(requests.leases), TTL=60)
    return LeaseRevokeRequest(ID=random.choice(requests.leases))


class ModelTests(SynchronousTestCase):
    """What is applied to a store and to the model gives the same answers, and the same refusals."""

    def test_as_the_store(self) -> None:
        """Every response and refusal is equal, and so is the state after each request."""
        refused = 0
        for seed in range(15):
            random = Random(seed)
            requests, model, member = Requests(random), Model(), Applying()
            requests.leases = [1, 2, 3]
            for _ in range(60):
                request = some_request(random, requests, model)
                expected = answer(lambda: member.apply(KINDS[type(request).__name__], request))  # noqa: B023
                found = answer(lambda: model.apply(request))  # noqa: B023
                self.assertEqual(expected, found, (seed, request))
                refused += isinstance(found, tuple)
                everything = model.scan(b"\0", b"\0", model.revision)
                records, _ = member.store.range(b"\0", b"")
                self.assertEqual([item.SerializeToString() for item in everything], records)
        self.assertTrue(refused)

    def test_as_ranges(self) -> None:
        """A Range answers as the same Range does in a transaction of the store."""
        for seed in range(15):
            random = Random(seed)
            requests, model, member = Requests(random), Model(), Applying()
            for _ in range(20):
                request = requests.txn(model.revision) if random.random() < 0.5 else requests.put()
                answer(lambda: member.apply(KINDS[type(request).__name__], request))  # noqa: B023
                answer(lambda: model.apply(request))  # noqa: B023
            for _ in range(40):
                read = requests.range(model.revision)
                request = TxnRequest()
                request.success.add().request_range.CopyFrom(read)
                expected = answer(lambda: member.apply(kinds.TXN, request))  # noqa: B023
                found = answer(lambda: model.apply(read))  # noqa: B023
                if not isinstance(expected, tuple):
                    expected = expected.responses[0].response_range
                self.assertEqual(expected, found, (seed, read))

    def test_evaluated_only(self) -> None:
        """To say what a request would do changes nothing."""
        model = Model()
        model.apply(PutRequest(key=b"a", value=b"1"))
        _, events = model.evaluate(PutRequest(key=b"a", value=b"2"))
        self.assertEqual([(b"2", 3)], [(event.kv.value, event.kv.mod_revision) for event in events])
        self.assertEqual(b"1", model.apply(RangeRequest(key=b"a")).kvs[0].value)
        self.assertEqual(2, model.revision)

    def test_past(self) -> None:
        """Every revision can be read, also where a base is all that is known of what was before."""
        model = Model()
        for value in (b"1", b"2", b"3"):
            model.apply(PutRequest(key=b"a", value=value))
        later = Model(model.scan(b"", b"\0", 3), 3)
        later.apply(PutRequest(key=b"a", value=b"3"))
        for each in (model, later):
            values = [
                each.apply(RangeRequest(key=b"a", revision=revision)).kvs[0].value for revision in (3, 4, 0)
            ]
            self.assertEqual([b"2", b"3", b"3"], values)
