"""The engine in memory."""

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.backends.memory import MemoryFactory
from twistedetcd.testing.backend import BackendKit


class MemoryConformanceTests(BackendKit, SynchronousTestCase):
    """The contract."""

    factory = MemoryFactory()
    durable = False
