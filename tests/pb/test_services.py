"""The table of methods says how each is called."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.pb.facts import TABLE
from twistedetcd.pb import health_pb2, rpc_pb2
from twistedetcd.pb.services import METHODS, SERVICES, Method


class MethodsTests(SynchronousTestCase):
    """Routing, decoding and the choice between one message and a stream all come from here."""

    def test_all_methods(self) -> None:
        """Every method of etcd's API has its path, its classes and its streams."""

        def line(method: Method) -> str:
            request = "stream " * method.client_streaming + method.request.DESCRIPTOR.full_name
            response = "stream " * method.server_streaming + method.response.DESCRIPTOR.full_name
            return f"rpc {method.path} {request} -> {response}"

        facts = [fact for fact in TABLE.read_text().splitlines() if fact.startswith("rpc ")]
        self.assertEqual(facts, sorted(map(line, METHODS.values())))

    def test_keyed_by_path(self) -> None:
        """A method is found by the path of the call, with the very classes of the modules."""
        expected = Method(
            service="etcdserverpb.Maintenance",
            name="Snapshot",
            request=rpc_pb2.SnapshotRequest,
            response=rpc_pb2.SnapshotResponse,
            client_streaming=False,
            server_streaming=True,
        )
        self.assertEqual(expected, METHODS["/etcdserverpb.Maintenance/Snapshot"])

    def test_grouped_by_service(self) -> None:
        """A service is found by its full name, its methods in the order of the ``.proto`` file."""
        health = SERVICES["grpc.health.v1.Health"]
        self.assertEqual(["Check", "List", "Watch"], list(health))
        self.assertIs(health_pb2.HealthCheckRequest, health["Watch"].request)
