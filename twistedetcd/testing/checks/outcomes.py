"""What an error says of the request: nothing was done, or nobody knows."""

from __future__ import annotations

from twistedetcd import errors
from twistedetcd.errors import Code, EtcdError
from twistedetcd.testing.checks.history import Refused, Unknown

_BEFORE_ANYTHING: tuple[type[EtcdError], ...] = (
    # Refused by the one who was asked, before it was proposed.
    errors.EmptyKeyError,
    errors.ValueProvidedError,
    errors.LeaseProvidedError,
    errors.TooManyOpsError,
    errors.DuplicateKeyError,
    errors.InvalidSortOptionError,
    errors.RequestTooLargeError,
    errors.TooManyRequestsError,
    errors.LeaseTTLTooLargeError,
    errors.InvalidClientAPIVersionError,
    # Refused while it was applied, on all members alike.
    errors.KeyNotFoundError,
    errors.CompactedError,
    errors.FutureRevisionError,
    errors.LeaseNotFoundError,
    errors.LeaseExistError,
)

# Not among them: "database space exceeded", which upstream also says after it has carried the write out; "no
# leader", "leader changed", "request timed out" and "server stopped", as the proposal may be on its way.
DEFINITE = frozenset(
    [
        *(error.message for error in _BEFORE_ANYTHING),
        "etcdserver: permission denied",
        "etcdserver: user name is empty",
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        "etcdserver: rpc not supported for learner",
        "etcdserver: not capable",
        "etcdserver: corrupt cluster",
    ]
)
"""The texts that say that nothing was done."""


def outcome(code: Code, text: str) -> Refused | Unknown:
    """
    Classify an error; whatever is not known to be definite is unknown.

    Args:
        code: The gRPC status.
        text: Its message, to the letter.
    """
    definite = text in DEFINITE or code is Code.UNIMPLEMENTED
    return Refused(code, text) if definite else Unknown(f"{code.name} {text}")
