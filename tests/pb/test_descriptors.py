"""Our messages are etcd's, letter for letter, and disturb nobody else's."""

from __future__ import annotations

import json

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.internal import api_implementation
from google.protobuf.message_factory import GetMessageClass
from twisted.trial.unittest import SynchronousTestCase

from tests.pb.facts import DESCRIPTION, TABLE, lines_of_description, lines_of_descriptors
from twistedetcd.pb import (
    auth_pb2,
    etcdserver_pb2,
    health_pb2,
    kv_pb2,
    lease_pb2,
    membership_pb2,
    raft_internal_pb2,
    raft_pb2,
    record_pb2,
    rpc_pb2,
    snap_pb2,
    v3election_pb2,
    v3lock_pb2,
)
from twistedetcd.pb.pool import POOL

MODULES = (
    auth_pb2,
    etcdserver_pb2,
    health_pb2,
    kv_pb2,
    lease_pb2,
    membership_pb2,
    raft_internal_pb2,
    raft_pb2,
    record_pb2,
    rpc_pb2,
    snap_pb2,
    v3election_pb2,
    v3lock_pb2,
)


class FactsTests(SynchronousTestCase):
    """Names, numbers, types, labels, enums and methods are facts of the wire."""

    maxDiff = None

    def test_descriptors_match_table(self) -> None:
        """Every fact in the table is in our descriptors, and nothing else is."""
        ours = lines_of_descriptors(module.DESCRIPTOR for module in MODULES)
        self.assertEqual(TABLE.read_text().splitlines(), ours)

    def test_table_matches_description(self) -> None:
        """The table says what the description of etcd's API says."""
        if not DESCRIPTION.exists():
            self.skipTest(f"no description of etcd's API at {DESCRIPTION}; ETCD_API can name one")
        described = lines_of_description(json.loads(DESCRIPTION.read_text()))
        self.assertEqual(described, TABLE.read_text().splitlines())

    def test_repeated_numbers_of_proto2_are_not_packed(self) -> None:
        """raftpb is proto2: each number of a repeated field carries its own tag, as etcd writes it."""
        state = raft_pb2.ConfState(voters=[1, 2])
        self.assertEqual(b"\x08\x01\x08\x02", state.SerializeToString())

    def test_repeated_numbers_of_proto3_are_packed(self) -> None:
        """The v3 API is proto3: the numbers of a repeated field share one tag."""
        created = rpc_pb2.WatchCreateRequest
        request = created(filters=[created.NOPUT, created.NODELETE])
        self.assertEqual(b"\x2a\x02\x00\x01", request.SerializeToString())


class NamesTests(SynchronousTestCase):
    """What is nested in a message is reached through it, as in any generated module."""

    def test_nested_enum(self) -> None:
        """An enum inside a message names its numbers, and its values are the message's too."""
        self.assertEqual("DESCEND", rpc_pb2.RangeRequest.SortOrder.Name(rpc_pb2.RangeRequest.DESCEND))
        self.assertEqual(3, rpc_pb2.Compare.NOT_EQUAL)

    def test_top_level_enum(self) -> None:
        """An enum at the top of a file is in the module, and so are its values."""
        self.assertEqual(rpc_pb2.NOSPACE, rpc_pb2.AlarmType.Value("NOSPACE"))

    def test_classes_name_their_module(self) -> None:
        """A class says which of our modules it is from."""
        self.assertEqual(
            ("twistedetcd.pb.kv_pb2", "KeyValue"), (kv_pb2.KeyValue.__module__, kv_pb2.KeyValue.__name__)
        )

    def test_messages_of_other_files(self) -> None:
        """A field typed by another file's message takes that module's class."""
        request = raft_internal_pb2.InternalRaftRequest(put=rpc_pb2.PutRequest(key=b"k"))
        self.assertIs(rpc_pb2.PutRequest, type(request.put))

    def test_fast_implementation(self) -> None:
        """When protobuf parses in C, it parses our messages in C."""
        if api_implementation.Type() != "upb":
            self.skipTest("this protobuf has no C implementation")
        self.assertEqual("google._upb._message", type(rpc_pb2.PutRequest).__module__)


class PrivatePoolTests(SynchronousTestCase):
    """An application may use another etcd client, whose messages have the same full names, beside ours."""

    def test_default_pool_is_left_alone(self) -> None:
        """Importing ours puts nothing into the process-wide pool."""
        self.assertIsNot(Default(), POOL)
        with self.assertRaises(KeyError):
            Default().FindMessageTypeByName("etcdserverpb.InternalRaftRequest")

    def test_same_name_in_default_pool(self) -> None:
        """Another client defines etcdserverpb.RangeRequest its own way: each parses with its own fields."""
        file = FileDescriptorProto(name="another/client/rpc.proto", package="etcdserverpb", syntax="proto3")
        file.message_type.add(name="RangeRequest").field.add(
            name="another_key",
            number=1,
            type=FieldDescriptorProto.TYPE_BYTES,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
        pool: DescriptorPool = Default()
        pool.AddSerializedFile(file.SerializeToString())
        theirs = GetMessageClass(pool.FindMessageTypeByName("etcdserverpb.RangeRequest"))
        ours = rpc_pb2.RangeRequest(key=b"k", limit=5)
        self.assertIsNot(theirs, rpc_pb2.RangeRequest)
        self.assertEqual(b"k", getattr(theirs.FromString(ours.SerializeToString()), "another_key"))  # noqa: B009
        self.assertEqual(ours, rpc_pb2.RangeRequest.FromString(ours.SerializeToString()))
