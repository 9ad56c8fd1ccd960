"""wire: raftpb bytes by hand, compared with what protobuf makes of the same values."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd import wire
from twistedetcd.pb import raft_pb2, record_pb2, snap_pb2
from twistedetcd.raft.types import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
)

numbers = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**28, 2**63, 2**64 - 1]),
)
ids = st.lists(numbers, max_size=4).map(tuple)
entries = st.builds(Entry, numbers, numbers, st.binary(max_size=300), st.integers(0, 2))
conf_states = st.builds(ConfState, ids, ids, ids, ids, st.booleans())
snapshots = st.builds(Snapshot, numbers, numbers, conf_states, st.binary(max_size=50))
messages = st.builds(
    Message,
    type=st.sampled_from(MessageType),
    to=numbers,
    sender=numbers,
    term=numbers,
    log_term=numbers,
    index=numbers,
    entries=st.lists(entries, max_size=4).map(tuple),
    commit=numbers,
    snapshot=st.none() | snapshots,
    reject=st.booleans(),
    reject_hint=numbers,
    context=st.binary(max_size=20),
    vote=numbers,
    responses=st.just(()),
)
several = settings(max_examples=100, deadline=None)


def entry_message(entry: Entry) -> raft_pb2.Entry:
    kind: Any = entry.type
    message = raft_pb2.Entry(Type=kind, Term=entry.term, Index=entry.index)
    if entry.data:
        message.Data = entry.data
    return message


class EntryTests(SynchronousTestCase):
    """Entries are on the hot path, and must be upstream's to the byte."""

    def test_known_bytes(self) -> None:
        """Type, term and index are there even when they are zero; data only when there is any."""
        self.assertEqual(bytes.fromhex("080010001800"), wire.encode_entry(Entry(0, 0)))
        self.assertEqual(
            bytes.fromhex("0800100218ac0222036b6579"),
            wire.encode_entry(Entry(term=2, index=300, data=b"key")),
        )

    @given(st.lists(entries, max_size=8))
    @several
    def test_same_bytes_as_protobuf(self, values: list[Entry]) -> None:
        """A run of entries encodes as each of them by itself does in protobuf."""
        self.assertEqual(
            [entry_message(value).SerializeToString() for value in values], wire.encode_entries(values)
        )

    def test_runs_change_anywhere(self) -> None:
        """Nothing of one run of entries is left in the next: term, type and high index bits all count."""
        values = [Entry(1, index, b"x") for index in (127, 128, 16383, 16384, 32767, 32768)]
        values += [Entry(1, 32769, b"x", 1), Entry(2, 32770, b"x", 1), Entry(2, 3, b""), Entry(2, 16387, b"")]
        self.assertEqual(
            [entry_message(value).SerializeToString() for value in values], wire.encode_entries(values)
        )

    def test_long_data(self) -> None:
        """Data whose length takes three bytes."""
        value = Entry(1, 2, bytes(20_000))
        self.assertEqual(entry_message(value).SerializeToString(), wire.encode_entry(value))

    @given(entries)
    @several
    def test_round_trip(self, value: Entry) -> None:
        """What was encoded is decoded to the same entry."""
        self.assertEqual(value, wire.decode_entry(wire.encode_entry(value)))

    @given(st.binary(max_size=40))
    @several
    def test_malformed_is_a_value_error(self, data: bytes) -> None:
        """Whatever the bytes, decoding ends with an entry or with ValueError, never otherwise."""
        try:
            wire.decode_entry(data)
        except ValueError as error:
            self.assertIn("entry", str(error))

    def test_every_cut_is_refused(self) -> None:
        """An entry cut inside a field is malformed, and the error says where."""
        data = wire.encode_entry(Entry(300, 70_000, b"abc"))
        boundaries = {0, 2, 5, 9}
        for end in range(len(data)):
            if end not in boundaries:
                with self.assertRaises(ValueError, msg=str(end)):
                    wire.decode_entry(data[:end])

    def test_refused_one_by_one(self) -> None:
        """Numbers too long, wire types that do not exist or do not fit, and field 0."""
        for data in (
            "08ffffffffffffffffffff01",
            "08ffffffffffffffffff02",
            "0b",
            "0a00",
            "2000",
            "00",
            "2205aa",
        ):
            with self.assertRaises(ValueError, msg=data):
                wire.decode_entry(bytes.fromhex(data))

    def test_unknown_fields_are_skipped(self) -> None:
        """A later release may add fields of any kind."""
        extra = bytes.fromhex("2801" + "3202abcd" + "3d00000000" + "410000000000000000")
        self.assertEqual(Entry(1, 2, b"x"), wire.decode_entry(wire.encode_entry(Entry(1, 2, b"x")) + extra))


class SnapshotTests(SynchronousTestCase):
    """Snapshots are as raftpb has them."""

    @given(numbers, numbers, conf_states, st.binary(max_size=300))
    @several
    def test_same_bytes_as_protobuf(self, index: int, term: int, state: ConfState, data: bytes) -> None:
        """The bytes are protobuf's, and come back as what they were."""
        message = raft_pb2.Snapshot()
        message.metadata.index, message.metadata.term = index, term
        message.metadata.conf_state.MergeFromString(wire.encode_conf_state(state))
        if data:
            message.data = data
        snapshot = Snapshot(index, term, state, data)
        self.assertEqual(message.SerializeToString(), wire.encode_snapshot(snapshot))
        self.assertEqual(snapshot, wire.decode_snapshot(message.SerializeToString()))

    @given(st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=300))
    @several
    def test_file(self, crc: int, data: bytes) -> None:
        """So is what a snapshot file holds."""
        message = snap_pb2.snapshot(crc=crc, data=data)
        envelope = wire.SnapshotEnvelope(crc, data)
        self.assertEqual(message.SerializeToString(), wire.encode_snapshot_envelope(envelope))
        self.assertEqual(envelope, wire.decode_snapshot_envelope(message.SerializeToString()))

    def test_malformed(self) -> None:
        """What is no snapshot is refused."""
        for data in (b"\x08\x01", b"\x12\x02\x08\x01", b"\x12\x02\x12\x00", b"\x12\x09\x08"):
            with self.assertRaises(ValueError):
                wire.decode_snapshot(data)


class MessageTests(SynchronousTestCase):
    """Messages between members are as raftpb has them."""

    @given(messages)
    @several
    def test_same_bytes_as_protobuf(self, value: Message) -> None:
        """The bytes are protobuf's, and come back as what they were."""
        kind: Any = value.type
        message = raft_pb2.Message(
            type=kind,
            to=value.to,
            term=value.term,
            logTerm=value.log_term,
            index=value.index,
            entries=[entry_message(entry) for entry in value.entries],
            commit=value.commit,
            reject=value.reject,
            rejectHint=value.reject_hint,
            vote=value.vote,
            **{"from": value.sender},
        )
        if value.snapshot is not None:
            message.snapshot.MergeFromString(wire.encode_snapshot(value.snapshot))
        if value.context:
            message.context = value.context
        data = wire.encode_message(value)
        self.assertEqual(message.SerializeToString(), data)
        self.assertEqual(value, wire.decode_message(data))

    @given(st.lists(st.tuples(st.sampled_from((2, 3, 4, 5, 6, 8, 10, 11, 13)), numbers), max_size=14))
    @several
    def test_any_order(self, fields: list[tuple[int, int]]) -> None:
        """Fields in any order, and several times, are read as protobuf reads them: the last one counts."""
        data = b"".join(wire.varint(number << 3) + wire.varint(value) for number, value in fields)
        for end in (b"", bytes.fromhex("4005500058006800")):  # how most messages end
            value, message = wire.decode_message(data + end), raft_pb2.Message.FromString(data + end)
            found = (value.to, value.sender, value.term, value.log_term, value.index, value.commit)
            expected = (message.to, getattr(message, "from"), message.term, message.logTerm, message.index)
            self.assertEqual((*expected, message.commit), found)
            found = (value.reject, value.reject_hint, value.vote)
            self.assertEqual((message.reject, message.rejectHint, message.vote), found)

    def test_fixed_width(self) -> None:
        """A field of another width than its own is unknown, as it is to protobuf."""
        for number in (7, 9, 12, 14, 2):
            for width, value in ((1, bytes(8)), (5, bytes(4))):
                data = wire.encode_message(Message(MessageType.APP, 1, 2, 3))
                data += bytes([number << 3 | width]) + value
                self.assertEqual(Message(MessageType.APP, 1, 2, 3), wire.decode_message(data))

    def test_runs(self) -> None:
        """Entries are what was sent wherever a run of them ends, and also when only the first is as usual."""
        runs = [Entry(1, index, b"x" * index) for index in (16382, 16383, 16384, 16385, 16386)]
        runs += [Entry(2, 16387, b"y"), Entry(2, 16388, b"y", 1), Entry(2, 16389, b"y", 1), Entry(2, 16390)]
        runs += [Entry(2, 16391, bytes(300)), Entry(2, 16393, b"z"), Entry(2, 16394, bytes(70_000))]
        value = Message(MessageType.APP, entries=tuple(runs), commit=1)
        data = wire.encode_message(value)
        self.assertEqual(data, wire.encode_message(value, wire.encode_entry_fields(runs)))
        self.assertEqual(value, wire.decode_message(data))
        # The second entry has an unknown field behind its data.
        first, second = wire.encode_entries([Entry(1, 20_000, b"a"), Entry(1, 20_001, b"b")])
        odd = b"".join(b"\x3a" + bytes([len(part)]) + part for part in (first, second + b"\x28\x01"))
        entries = wire.decode_message(wire.encode_message(Message(MessageType.APP)) + odd).entries
        self.assertEqual((Entry(1, 20_000, b"a"), Entry(1, 20_001, b"b")), entries)

    def test_cut_in_a_run(self) -> None:
        """A message that ends anywhere in a run of entries is refused, or has fewer of them."""
        value = Message(MessageType.APP, entries=[Entry(1, 20_000 + n, b"abc") for n in range(3)])
        data = wire.encode_message(value)
        for size in range(len(data)):
            try:
                self.assertLess(len(wire.decode_message(data[:size]).entries), 4)
            except ValueError as error:
                self.assertTrue(str(error))

    def test_malformed(self) -> None:
        """What is no message, or says what nobody knows, is refused."""
        for data in ("0a00", "3801", "085a", "1080", "0800" + "3a0109"):
            with self.assertRaises(ValueError, msg=data):
                wire.decode_message(bytes.fromhex(data))

    @given(st.binary(max_size=60))
    @several
    def test_garbage(self, data: bytes) -> None:
        """Any bytes are a message, or a ValueError."""
        try:
            wire.decode_message(data)
        except ValueError as error:
            self.assertTrue(str(error))


class OtherValueTests(SynchronousTestCase):
    """The values that are written now and then."""

    def test_varint_bounds(self) -> None:
        """A number outside of 64 bits is refused, not cut."""
        self.assertEqual(b"\xff" * 9 + b"\x01", wire.varint(2**64 - 1))
        for number in (-1, 2**64):
            with self.assertRaises(ValueError):
                wire.varint(number)

    @given(st.builds(HardState, numbers, numbers, numbers))
    @several
    def test_hard_state(self, value: HardState) -> None:
        """Term, vote and commit, always all three."""
        data = wire.encode_hard_state(value)
        message = raft_pb2.HardState(term=value.term, vote=value.vote, commit=value.commit)
        self.assertEqual(message.SerializeToString(), data)
        self.assertEqual(value, wire.decode_hard_state(data))

    @given(conf_states)
    @several
    def test_conf_state(self, value: ConfState) -> None:
        """The ids one by one, and auto_leave always."""
        data = wire.encode_conf_state(value)
        self.assertEqual(raft_pb2.ConfState(**value._asdict()).SerializeToString(), data)
        self.assertEqual(value, wire.decode_conf_state(data))

    def test_packed_ids(self) -> None:
        """A parser takes repeated numbers packed, too."""
        self.assertEqual(ConfState(voters=(1, 300)), wire.decode_conf_state(bytes.fromhex("0a0301ac02")))

    @given(st.builds(wire.SnapshotRecord, numbers, numbers, conf_states))
    @several
    def test_snapshot_record(self, value: wire.SnapshotRecord) -> None:
        """Index, term and configuration."""
        assert value.conf_state is not None
        conf_state = raft_pb2.ConfState(**value.conf_state._asdict())
        message = record_pb2.Snapshot(index=value.index, term=value.term, conf_state=conf_state)
        data = wire.encode_snapshot_record(value)
        self.assertEqual(message.SerializeToString(), data)
        self.assertEqual(value, wire.decode_snapshot_record(data))

    def test_snapshot_needs_a_configuration(self) -> None:
        """Only the record at index 0 may be without."""
        self.assertEqual(bytes.fromhex("08001000"), wire.encode_snapshot_record(wire.SnapshotRecord(0, 0)))
        with self.assertRaises(ValueError):
            wire.encode_snapshot_record(wire.SnapshotRecord(1, 1))

    @given(numbers, numbers)
    @several
    def test_metadata(self, node_id: int, cluster_id: int) -> None:
        """Member and cluster, always both."""
        value = wire.Metadata(node_id, cluster_id)
        data = wire.encode_metadata(value)
        self.assertEqual(b"\x08" + wire.varint(node_id) + b"\x10" + wire.varint(cluster_id), data)
        self.assertEqual(value, wire.decode_metadata(data))
