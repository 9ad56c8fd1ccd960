"""What the tests of the checkers share: histories that are right, and ways to put one thing wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from tests.testing.checks.world import World
from twistedetcd.pb.kv_pb2 import Event
from twistedetcd.testing.checks import (
    Change,
    History,
    Operation,
    Rule,
    Violation,
    Watch,
    Witness,
    check,
)
from twistedetcd.testing.checks.leases import LeaseTerms
from twistedetcd.testing.checks.model import Model

SEEDS = range(40)


@lru_cache(len(SEEDS))
def world(seed: int) -> World:
    """One of the worlds, made once; nobody may change what is in it."""
    return World(seed).run()


class Case(NamedTuple):
    """All that is given to `check`."""

    operations: list[Operation]
    watches: list[Watch]
    changes: list[Change]
    members: dict[str, list[Change]]
    terms: LeaseTerms

    @classmethod
    def of(cls, world: World) -> Case:
        changes = list(world.store.changes)
        return cls(
            list(world.operations),
            list(world.watches),
            changes,
            {"m1": list(changes), "m2": list(changes)},
            world.terms,
        )

    def check(self) -> list[Violation]:
        return check(
            History(self.operations, self.watches),
            Witness(self.changes),
            members={name: Witness(changes) for name, changes in self.members.items()},
            terms=self.terms,
            settled=True,
        )

    def model(self, revision: int) -> Model:
        """The state at a revision."""
        model = Model(strict_leases=False)
        for change in self.changes[: revision - 1]:
            model.commit(change.events)
        return model


@lru_cache(len(SEEDS))
def found_in_right_one(seed: int) -> list[Violation]:
    """What is found before anything is put wrong."""
    return Case.of(world(seed)).check()


Mutation = Callable[[Case], "Case | None"]


class MutationCase(SynchronousTestCase):
    """Put one thing wrong in many histories."""

    def assertCaught(self, rule: Rule, mutate: Mutation, at_least: int = 3) -> None:
        """
        The right history passes, and the wrong one breaks this rule, in each world.

        Args:
            rule: The rule.
            mutate: Makes the wrong history; ``None`` where there is nothing to put wrong.
            at_least: In how many worlds there must be something.
        """
        caught = 0
        for seed in SEEDS:
            case = Case.of(world(seed))
            wrong = mutate(case)
            if wrong is not None:
                self.assertEqual([], found_in_right_one(seed), seed)
                found = wrong.check()
                self.assertIn(rule, {violation.rule for violation in found}, (seed, list(map(str, found))))
                caught += 1
            if caught >= max(at_least, 4):
                break
        self.assertGreaterEqual(caught, at_least)


def copy_of(message: Any) -> Any:
    """A message that may be changed."""
    other = type(message)()
    other.CopyFrom(message)
    return other


def exchange(records: list[Any], old: Any, **fields: Any) -> list[Any]:
    """The records with one of them different."""
    return [replace(record, **fields) if record is old else record for record in records]


def at_revision(message: Any, revision: int) -> Any:
    """A response with another revision in its header."""
    other = copy_of(message)
    other.header.revision = revision
    return other


def put_event(key: bytes, value: bytes, revision: int) -> Event:
    """A put that nobody asked for."""
    return Event(
        kv={
            "key": key,
            "value": value,
            "create_revision": revision,
            "mod_revision": revision,
            "version": 1,
        }
    )


def first(items: Sequence[Any]) -> Any:
    """The first one, or none."""
    return items[0] if items else None
