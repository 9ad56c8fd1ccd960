"""The same scripts of watches on a real etcd and on us: every response is equal, in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.servers import our_server, reference_server
from tests.interop.watching import Script
from twistedetcd.pb.rpc_pb2 import WatchResponse

SCRIPTS: Mapping[str, str] = {
    "one key": """
        create key=a
        expect 1
        put a 1
        put b 1
        put a 2
        expect 2
        silence
    """,
    "a range": """
        create key=b end=d
        expect 1
        repeat 5 put %
        put a
        put b
        put c
        put d
        expect 2
        silence
    """,
    "from a key on": """
        create key=b end=0
        expect 1
        put a
        put b
        put c
        expect 2
        silence
    """,
    "no key": """
        create raw_key=
        expect 1
        put a
        silence
    """,
    "everything": """
        create raw_key= end=0
        expect 1
        put a
        put b
        expect 2
    """,
    "an empty range": """
        create key=b end=a
        expect 1
        create key=b end=b
        expect 1
        create key=a
        expect 1
        put a
        expect 1
    """,
    "automatic ids": """
        repeat 4 create key=a
        expect 4
        cancel 1
        expect 1
        create key=a
        expect 1
    """,
    "given ids": """
        create key=a id=7
        create key=a id=-3
        create key=a id=7
        expect 3
        put a
        expect 2
        cancel 7
        expect 1
        create key=b id=7
        expect 1
        put b
        expect 1
    """,
    "automatic ids beside given ones": """
        create key=a id=1
        create key=a
        create key=a
        create key=a
        expect 4
        cancel 2
        cancel 0
        expect 2
        create key=a
        expect 1
    """,
    "a delete": """
        put a 1
        create key=a
        expect 1
        delete a
        expect 1
        delete a
        silence
    """,
    "a delete of a range": """
        put a 1
        put b 1
        put c 1
        create key=a end=c
        expect 1
        delete a z
        expect 1
    """,
    "previous records": """
        put a 1
        create key=a prev_kv
        expect 1
        put a 2
        delete a
        put a 3
        expect 3
    """,
    "previous records of a transaction": """
        put a 1
        put b 1
        create key=a end=z prev_kv
        expect 1
        txn a=2 b c=1
        expect 1
        txn a b=3 c
        expect 1
    """,
    "a transaction": """
        create key=a end=z
        expect 1
        txn c=1 b=2 a=3
        expect 1
        txn a c=2 b
        expect 1
        txn d e
        silence
    """,
    "a transaction, seen in part": """
        create key=b
        create key=c id=9
        expect 2
        txn a=1 b=1 c=1
        expect 2
        silence
    """,
    "no puts": """
        create key=a noput
        expect 1
        put a
        delete a
        expect 1
        silence
    """,
    "no deletes": """
        create key=a nodelete
        expect 1
        put a
        delete a
        put a
        expect 2
        silence
    """,
    "neither": """
        create key=a noput nodelete
        expect 1
        put a
        delete a
        silence
    """,
    "a filter in the history": """
        put a
        delete a
        put a
        create key=a noput start=1
        expect 2
        put a
        silence
    """,
    "history": """
        put a 1
        put a 2
        put b 1
        delete a
        create key=a start=1
        expect 2
        put a 3
        expect 1
    """,
    "history of a range with previous records": """
        put a 1
        txn a=2 b=1
        delete a
        put c
        create key=a end=c start=1 prev_kv
        expect 2
    """,
    "history from the middle": """
        put a 1
        put a 2
        put a 3
        create key=a start=2
        create key=a start=3
        expect 4
    """,
    "history without anything": """
        put b
        put b
        create key=a start=1
        expect 1
        silence
        put a
        expect 1
    """,
    "the current revision": """
        put a 1
        put a 2
        create key=a start=2
        expect 2
    """,
    "the next revision": """
        put a 1
        create key=a start=2
        expect 1
        put a 2
        expect 1
    """,
    "the future": """
        create key=a start=3
        expect 1
        put b
        put b
        put a
        expect 1
        silence
    """,
    "a long history": """
        repeat 1500 put a %
        create key=a start=1
        expect 3
        silence
    """,
    "a long history of transactions": """
        repeat 1100 txn a=% b=%
        create key=a end=c start=1
        expect 3
    """,
    "compacted": """
        put a 1
        put a 2
        put a 3
        compact 2
        create key=a start=1
        expect 2
        create key=a start=2
        expect 2
    """,
    "compacted, then cancelled": """
        put a 1
        put a 2
        put a 3
        compact 3
        create key=a start=1
        expect 2
        cancel 0
        expect 1
        cancel 0
        silence
    """,
    "previous records that were compacted": """
        put a 1
        put a 2
        put a 3
        compact 2
        create key=a start=2 prev_kv
        expect 2
    """,
    "compacted behind a watch": """
        create key=a
        expect 1
        put a 1
        put a 2
        expect 2
        compact 2
        put a 3
        expect 1
        silence
    """,
    "cancelled": """
        create key=a
        expect 1
        put a
        expect 1
        cancel 0
        expect 1
        put a
        cancel 0
        cancel 5
        silence
    """,
    "cancelled in the future": """
        create key=a start=100
        expect 1
        cancel 0
        expect 1
    """,
    "an id used again": """
        create key=a id=4
        expect 1
        cancel 4
        expect 1
        create key=b id=4 start=1
        expect 1
        put b
        expect 1
    """,
    "progress": """
        create key=a
        expect 1
        progress
        expect 1
        put b
        put a
        expect 1
        progress
        expect 1
    """,
    "progress of several": """
        put a
        create key=a
        create key=b
        create key=a end=z
        expect 3
        progress
        expect 1
        silence
    """,
    "progress after a transaction": """
        create key=a
        expect 1
        txn a=1 b=1
        expect 1
        progress
        expect 1
    """,
    "nothing asked for": """
        nothing
        create key=a
        expect 1
        nothing
        silence
    """,
    "half closed": """
        create key=a
        expect 1
        half_close
        put a
        expect 1
        delete a
        expect 1
    """,
    "two streams": """
        @one create key=a
        @two create key=a start=1
        @one expect 1
        @two expect 1
        put a
        @one expect 1
        @two expect 1
        @one close
        put a
        @two expect 1
    """,
    "many watches of a key": """
        repeat 50 create key=a
        expect 50
        put a
        expect 50
        silence
    """,
    "overlapping ranges": """
        create key=a end=z
        create key=b end=y
        create key=c end=x
        create key=c
        create key=a end=0
        create key=d end=0
        expect 6
        put c
        expect 5
        txn b=1 c=2 y=3
        expect 6
    """,
    "a leader is wanted": """
        @leader create key=a
        @leader expect 1
        put a
        @leader expect 1
    """,
    "fragments": """
        repeat 5 put a% *500000
        create key=a end=b prev_kv fragment
        create key=a end=b prev_kv
        expect 2
        delete a b
        expect 3
    """,
    "a large event": """
        create key=a fragment prev_kv
        expect 1
        put a *1200000
        put a *1200000
        expect 2
    """,
    "quiet, with progress_notify": """
        create key=a progress_notify
        expect 1
        put a
        expect 1
        silence
    """,
    "a key put again after its delete": """
        put a 1
        delete a
        create key=a start=1 prev_kv
        expect 2
        put a 2
        put a 3
        expect 2
    """,
    "deletes at the compact revision": """
        put a 1
        put b 1
        put a 2
        compact 3
        delete b
        create key=a end=z start=3
        expect 2
    """,
}
SCRIPTS_MIN = 40


def by_watch(responses: list[Any]) -> list[Any]:
    """What different watches are told of a revision comes in any order (upstream's watchers are a map)."""
    return sorted(responses, key=lambda one: one.watch_id if isinstance(one, WatchResponse) else 0)


class WatchDifferentialTests(SynchronousTestCase):
    """To a client that watches, a member of ours is an etcd."""

    def test_scripts(self) -> None:
        """Each script gets the same responses, watch by watch in the same order."""
        self.assertGreaterEqual(len(SCRIPTS), SCRIPTS_MIN)
        theirs, ours = reference_server(self.mktemp()), our_server(self.mktemp())
        self.addCleanup(theirs.clean_up)
        self.addCleanup(ours.clean_up)
        theirs.start("--unsafe-no-fsync")
        ours.start("--unsafe-no-fsync")
        for number, (name, lines) in enumerate(SCRIPTS.items()):
            prefix = b"%d/" % number
            expected = Script(theirs, prefix).run(lines)
            found = Script(ours, prefix).run(lines)
            self.assertEqual(len(expected), len(found), name)
            for place, (their, our) in enumerate(zip(expected, found, strict=True)):
                self.assertEqual(by_watch(their), by_watch(our), f"{name}, the responses number {place}")
