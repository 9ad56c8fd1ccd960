"""
A log with some bytes changed: it opens with what was saved up to some record, or is refused, and says where.

Whatever a disk or a hand does to a log's files, short of a change that the checksums cannot see, must never
give an entry that was not saved, nor any other error than one that names file and offset.
"""

from __future__ import annotations

import re
from random import Random
from typing import NamedTuple

from twisted.internet.defer import execute

from twistedetcd.errors import WALCorruptError
from twistedetcd.files.simulated import SECTOR_BYTES, SimulatedFiles
from twistedetcd.raft.types import Entry, HardState
from twistedetcd.wal.log import SegmentedWAL
from twistedetcd.wal.opening import LogOptions
from twistedetcd.wal.reading import Recovered
from twistedetcd.wal.segments import segments_in

DIRECTORY = "wal"
METADATA = b"\x08\x01\x10\x02"
MEMBER = 0x8E9E05C52164694D  # as large as the ids of members are
_OPTIONS = LogOptions(run_in_worker=execute, segment_bytes=4096)
_NAMED = re.compile(rf"{DIRECTORY}/[0-9a-f]{{16}}-[0-9a-f]{{16}}\.wal is corrupt at offset [0-9]+: ")


class WrongLogError(AssertionError):
    """A changed log was read as something that was never saved, or refused without saying where."""


class _Saved(NamedTuple):
    """A log as it was made, and all that a prefix of its records may be read as."""

    files: SimulatedFiles
    entries: set[tuple[Entry, ...]]
    states: set[HardState]


def fuzz_wal(random: Random) -> str:
    """
    Make a log, change some of its bytes, and open it.

    Returns:
        What came of it: ``whole``, ``cut`` (a prefix, its end repaired or gone) or ``refused``.

    Raises:
        WrongLogError: It was read as what was never saved, or refused without file and offset.
        Exception: Anything else that opening must not raise.
    """
    saved = _make(random)
    whole = len(max(saved.entries, key=len))
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        _change(random, saved.files)
    try:
        wal = SegmentedWAL.open(saved.files, DIRECTORY, options=_OPTIONS)
        recovered = wal.read_all()
    except WALCorruptError as error:
        if not _NAMED.match(str(error)):
            raise WrongLogError(f"refused without file and offset: {error}") from error
        return "refused"
    _check(saved, recovered)
    # What was opened can be written on, and is then the same with one more.
    index = recovered.entries[-1].index + 1 if recovered.entries else 1
    more = Entry(recovered.hard_state.term + 9, index, b"more")
    wal.save(None, [more])
    wal.close()
    again = SegmentedWAL.open(saved.files, DIRECTORY, options=_OPTIONS).read_all()
    if again.entries != [*recovered.entries, more]:
        raise WrongLogError("what was saved after the change is not there")
    return "whole" if len(recovered.entries) == whole and recovered.broken_copy is None else "cut"


def _make(random: Random) -> _Saved:
    files = SimulatedFiles(random)
    wal = SegmentedWAL.create(files, DIRECTORY, METADATA, options=_OPTIONS)
    log: list[Entry] = []
    state = HardState()
    entries: set[tuple[Entry, ...]] = {()}
    states = {state}
    for _ in range(random.randrange(1, 25)):
        term = max(1, state.term) + (random.random() < 0.1)
        # A new term's entries may replace some of the last.
        keep = len(log) - (random.randrange(3) if term > state.term else 0)
        del log[max(keep, state.commit) :]
        batch = [
            Entry(term, len(log) + 1 + offset, random.randbytes(random.choice((0, 10, 100, 900))))
            for offset in range(random.randrange(1, 4))
        ]
        for entry in batch:
            log.append(entry)
            entries.add(tuple(log))
        state = HardState(term, MEMBER, random.randrange(state.commit, len(log) + 1))
        states.add(state)
        wal.save(state, batch)
    wal.close()
    return _Saved(files, entries, states)


def _change(random: Random, files: SimulatedFiles) -> None:
    """Change one file in one way."""
    name = random.choice(segments_in(files, DIRECTORY))
    file = files.open(f"{DIRECTORY}/{name}")
    size = file.size()
    if not size:
        return  # an earlier change left nothing of it
    at = random.randrange(size)
    kind = random.randrange(7)
    if kind == 0:
        file.write(at, bytes((file.read(at, 1)[0] ^ 1 << random.randrange(8),)))
    elif kind == 1:
        file.write(at, random.randbytes(random.choice((1, 7, 8, 100))))
    elif kind == 2:
        file.write(at, bytes(random.choice((1, 8, 100))))
    elif kind == 3:
        start = at - at % SECTOR_BYTES
        file.write(start, bytes(min(SECTOR_BYTES, size - start)))
    elif kind == 4:
        file.truncate(at)
    elif kind == 5:
        file.write(at, file.read(random.randrange(size), random.choice((8, 64, SECTOR_BYTES))))
    else:
        length = random.choice((0, 1, size - at, 2**32, 2**55, 2**63, 2**64 - 1))
        file.write(at - at % 8, length.to_bytes(8, "little"))


def _check(saved: _Saved, recovered: Recovered) -> None:
    if tuple(recovered.entries) not in saved.entries:
        raise WrongLogError(f"read as entries that were never saved: {recovered.entries}")
    if recovered.hard_state not in saved.states:
        raise WrongLogError(f"read as a state that was never saved: {recovered.hard_state}")
    if recovered.metadata != METADATA:
        raise WrongLogError(f"read as metadata that was never saved: {recovered.metadata!r}")
