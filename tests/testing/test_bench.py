"""What the bench counts, and how it shows it: the parts that need no server and no load."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from pathlib import Path
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.pb import kv_pb2, rpc_pb2
from twistedetcd.protocols.framing import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    GOAWAY,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from twistedetcd.protocols.hpack import Decoder, encode
from twistedetcd.protocols.http2 import ServerConnection
from twistedetcd.testing.bench import messages, report
from twistedetcd.testing.bench.__main__ import main, parser, settle_options
from twistedetcd.testing.bench.changing import TIMEOUTS, ChangingEncoder, timeouts
from twistedetcd.testing.bench.client import (
    Answer,
    Client,
    Inbox,
    ServerFaultError,
    request_frames,
    request_headers,
)
from twistedetcd.testing.bench.clusters import MemberServer
from twistedetcd.testing.bench.generator import Blocks
from twistedetcd.testing.bench.large import LargeResult
from twistedetcd.testing.bench.load import Outcome, parse_h2load
from twistedetcd.testing.bench.machine import cpu_model, filesystem
from twistedetcd.testing.bench.measure import Result, Run, judge
from twistedetcd.testing.bench.processes import BenchError, Children, cpu_seconds, parse_stat
from twistedetcd.testing.bench.rows import (
    FAILOVER,
    FANOUT,
    IDLE,
    LATENCY,
    ROWS,
    WATCH_ROWS,
    Table,
    select,
    select_failover,
    select_watch,
)
from twistedetcd.testing.bench.servers import Place, Server, find_etcd, find_h2load, our_command, places
from twistedetcd.testing.bench.watchers import MARKER, EventCounter
from twistedetcd.testing.bench.watching import WatchResult

H2LOAD = """\
starting benchmark...
progress: 100% done

finished in 268.08ms, 3730.29 req/s, 241.48KB/s
requests: 1000 total, 1000 started, 1000 done, 998 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 998 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 64.73KB (66288) total, 1.96KB (2012) headers (space savings 94.71%), 33.08KB (33874) data
                     min         max         mean         sd        +/- sd
"""


def run(rate: float, cpu_seconds: float = 1.0, problems: tuple[str, ...] = ()) -> Run:
    """A run of one second."""
    return Run(int(rate), 1.0, cpu_seconds, 0.5, 0.9, problems)


class H2loadTests(SynchronousTestCase):
    """``h2load`` tells what it did in words for people."""

    def test_summary(self) -> None:
        """Successes and the bytes of the bodies are what a run is judged by."""
        found = parse_h2load(H2LOAD)
        self.assertEqual((998, 33874), found)

    def test_no_summary(self) -> None:
        """Without a summary there is no figure, and its last word says why."""
        error = self.assertRaises(BenchError, parse_h2load, "starting\nno such file\n")
        self.assertIn("no such file", str(error))


class JudgeTests(SynchronousTestCase):
    """``h2load`` counts HTTP 200, which gRPC's errors have too: a run counts only if more was seen."""

    def outcome(self, succeeded: int = 10, data_bytes: int = 100, share: float = 0.5) -> Outcome:
        return Outcome(1.0, succeeded, data_bytes, (0.1, share), share + 0.1)

    def test_good(self) -> None:
        """All answered, all writes in the store, all bytes there: no problem."""
        self.assertEqual([], judge(self.outcome(), 10, 10, 10, 100))

    def test_failed_calls(self) -> None:
        """Every request must have succeeded."""
        self.assertEqual(["9 of 10 requests succeeded"], judge(self.outcome(succeeded=9), 10, 10, 10, 100))

    def test_revision(self) -> None:
        """The revision grows by one for each write: neither less nor more."""
        for grown in (9, 11):
            self.assertEqual(
                [f"the revision grew by {grown}, not 10"], judge(self.outcome(), 10, grown, 10, 0)
            )

    def test_reads_leave_the_revision(self) -> None:
        """A store that moved while it was only read was written to by somebody else."""
        self.assertEqual(["the revision grew by 1, not 0"], judge(self.outcome(), 10, 1, 0, 100))

    def test_short_answers(self) -> None:
        """Fewer bytes than the answers must have: some were errors."""
        self.assertEqual(["the answers had 100 bytes, not 101"], judge(self.outcome(), 10, 0, 0, 101))

    def test_busy_generator(self) -> None:
        """One process above 70 % of a core is enough: its connection waited for it, not for the server."""
        self.assertEqual([], judge(self.outcome(share=0.7), 10, 10, 10, 0))
        self.assertEqual(["generator"], judge(self.outcome(share=0.71), 10, 10, 10, 0))


class MessagesTests(SynchronousTestCase):
    """What is asked has the sizes that the goals were set for."""

    def test_sizes(self) -> None:
        """Keys have 18 bytes, values 256."""
        keys = [messages.key(0), messages.HOT_KEY, *(row.key(4, 9) for row in ROWS), *messages.range_keys()]
        self.assertEqual({18}, set(map(len, keys)))
        self.assertEqual(256, len(messages.VALUE))

    def test_own_keys(self) -> None:
        """Connections, rounds and rows have keys of their own, which exist and which no long range reads."""
        keys = [
            row.key(number, connection)
            for row in ROWS
            if row.table is not Table.HOT
            for number in range(50)
            for connection in range(row.connections)
        ]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertFalse(set(keys) & set(messages.range_keys()))
        self.assertTrue(set(keys) <= {messages.key(number) for number in range(messages.KEYS_MIN)})

    def test_long_range(self) -> None:
        """The prefix holds the thousand keys that are expected, and no others."""
        request = rpc_pb2.RangeRequest.FromString(messages.range_many(b""))
        found = [name for name in map(messages.key, range(20_000)) if request.key <= name < request.range_end]
        self.assertEqual(messages.range_keys(), found)
        self.assertEqual(1000, len(found))

    def test_filling(self) -> None:
        """The transactions put every key once, and are of one size, as `Client.call_each` wants them."""
        requests = list(messages.filling(300))
        puts = [
            operation.request_put.key
            for request in requests
            for operation in rpc_pb2.TxnRequest.FromString(request).success
        ]
        self.assertEqual([messages.key(number) for number in range(300)], puts)
        self.assertEqual(1, len(set(map(len, requests))))

    def test_range_problem(self) -> None:
        """An answer must hold the keys asked for, each with the value that was put."""
        good = kv_pb2.KeyValue(key=b"a", value=messages.VALUE)
        bad = kv_pb2.KeyValue(key=b"a", value=b"x")
        answers = [
            rpc_pb2.RangeResponse(kvs=[good], count=1),
            rpc_pb2.RangeResponse(kvs=[bad], count=1),
            rpc_pb2.RangeResponse(kvs=[good], count=2),
            rpc_pb2.RangeResponse(),
        ]
        problems = [messages.range_problem(answer.SerializeToString(), [b"a"]) for answer in answers]
        self.assertEqual([False, True, True, True], [problem is not None for problem in problems])
        self.assertEqual("the answer is not a RangeResponse", messages.range_problem(b"\xff", [b"a"]))


class RowsTests(SynchronousTestCase):
    """A row is chosen by its name."""

    def test_select(self) -> None:
        """Rows come in the order of the table, whatever the case; no names mean all."""
        self.assertEqual(["P1", "P3"], [row.name for row in select("p3, P1")])
        self.assertEqual(list(ROWS), select(""))

    def test_unknown(self) -> None:
        """A row that is not there is a mistake, not an empty result."""
        self.assertIn("no row P99", str(self.assertRaises(BenchError, select, "P1,P99")))

    def test_hot_key(self) -> None:
        """In the second table all connections use the one key that has a history."""
        hot = [row for row in ROWS if row.table is Table.HOT]
        keys = {row.key(n, connection) for row in hot for n in range(5) for connection in range(10)}
        self.assertEqual({messages.HOT_KEY}, keys)


class WatchTests(SynchronousTestCase):
    """Rows about watches."""

    def test_select(self) -> None:
        """They are chosen like the others, and the others without them."""
        self.assertEqual([FANOUT, LATENCY], select_watch("p11,P10,P1"))
        self.assertEqual(list(WATCH_ROWS), select_watch(""))

    def test_count(self) -> None:
        """Every event is counted once, however the stream is cut and whatever comes on others."""
        stream = b"".join(b"\0\0%b%d" % (MARKER, number) for number in range(20))
        for size in range(1, 40):
            counter = EventCounter()
            counts = [
                counter.count({1: stream[at : at + size], 3: MARKER[:5]})
                for at in range(0, len(stream), size)
            ]
            self.assertEqual(20, sum(counts), size)

    def test_bodies(self) -> None:
        """What came of a stream that lasts is handed over once."""
        inbox = Inbox()
        inbox.receive(frame(DATA, 0, 1, b"a") + frame(DATA, 0, 1, b"b") + frame(DATA, 0, 3, b"c"))
        self.assertEqual({1: b"ab", 3: b"c"}, inbox.take_bodies())
        self.assertEqual({}, inbox.take_bodies())

    def test_better(self) -> None:
        """More events are better, and less time; a figure that is only told meets nothing."""
        fanout, latency = WatchResult(FANOUT, [100.0], [150.0]), WatchResult(LATENCY, [3.0], [2.0])
        idle = WatchResult(IDLE, [1000.0], [2000.0])
        self.assertEqual([1.5], fanout.ratios)
        self.assertEqual([1.5], latency.ratios)
        self.assertEqual((True, True, None), (fanout.met, latency.met, idle.met))
        fanout.problems.append("etcd: generator")
        text = report.watch_table([fanout, latency, idle])
        self.assertEqual(
            ["invalid", "yes", ""], [line.split("|")[-2].strip() for line in text.splitlines()[4:7]]
        )
        self.assertIn("- P10 is invalid: etcd: generator", text)


class ClusterTests(SynchronousTestCase):
    """Rows about clusters."""

    def status(self, leader: int) -> bytes:
        """What member 7 says of itself."""
        header = rpc_pb2.ResponseHeader(member_id=7)
        return rpc_pb2.StatusResponse(header=header, leader=leader).SerializeToString()

    def test_problem(self) -> None:
        """Who was measured as the leader must lead, and as a follower must not, to the end of the run."""
        for leads, leader, good in ((True, 7, True), (True, 8, False), (False, 8, True), (False, 7, False)):
            client = SpokenFor(self.status(leader))
            server = MemberServer("ours", "1", 1, 2, cast(Client, client), leads=leads)
            self.assertEqual(good, server.problem() is None)

    def test_cpu(self) -> None:
        """What the other members use counts too."""
        one = cpu_seconds(os.getpid())
        both = Server("ours", "1", os.getpid(), 2, cast(Client, None), fellows=(os.getpid(),)).cpu_seconds()
        self.assertGreaterEqual(both, 2 * one)

    def test_places_of_rows(self) -> None:
        """Puts go to the leader, as those of etcd's benchmark do; a read may go to a follower."""
        rows = {row.name: row for row in select("P7,P8,P9")}
        self.assertEqual({Table.CLUSTER}, {row.table for row in rows.values()})
        self.assertEqual(["P9"], [name for name, row in rows.items() if row.at_follower])

    def test_failover(self) -> None:
        """The medians are compared, since chance decides when a follower gives its leader up."""
        self.assertEqual([FAILOVER], select_failover("p7,e1"))
        result = LargeResult(FAILOVER, [1000.0, 1500.0, 2000.0], [1600.0, 1100.0, 9000.0])
        self.assertTrue(result.met)
        self.assertFalse(LargeResult(FAILOVER, [1000.0], [1101.0]).met)
        cells = [cell.strip() for cell in report.failover_table([result]).splitlines()[-1].split("|")[3:-1]]
        self.assertEqual(
            ["1,500 (1,000..2,000)", "1,600 (1,100..9,000)", "0.94", "0.91", "yes"],
            cells,
        )
        figures = json.loads(json.dumps(report.as_json({}, {}, [], failover=[result])))
        self.assertEqual(("E1", True), (figures["failover"][0]["name"], figures["failover"][0]["met"]))


class SpokenFor:
    """A client whose server always says the same."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def call(self, path: bytes, message: bytes) -> bytes:
        return self._answer


class ReportTests(SynchronousTestCase):
    """The tables say what was measured, and nothing that was not."""

    def result(self, *pairs: tuple[float, float], problems: tuple[str, ...] = ()) -> Result:
        etcd = [run(etcd) for etcd, _ in pairs]
        return Result(ROWS[0], etcd, [run(ours, problems=problems) for _, ours in pairs])

    def test_ratio_by_round(self) -> None:
        """Rates of one round are compared with each other: the machine was the same for both."""
        result = self.result((100, 130), (200, 200), (50, 100))
        self.assertEqual([1.3, 1.0, 2.0], report.ratios(result))
        self.assertEqual("yes", report.met(result))

    def test_goal_missed(self) -> None:
        """The median ratio decides, not the best round."""
        self.assertEqual("no", report.met(self.result((100, 129), (100, 120), (100, 500))))

    def test_invalid(self) -> None:
        """A row that does not count meets no goal, however fast it looked, and its reason stands below."""
        busy = self.result((100, 900), problems=("generator",))
        wrong = self.result((100, 900), problems=("generator", "the revision grew by 1, not 2"))
        self.assertEqual("invalid: generator", report.met(busy))
        self.assertEqual("invalid", report.met(wrong))
        self.assertIn("- P1 is invalid: ours: the revision grew by 1, not 2", report.tables([wrong]))

    def test_table(self) -> None:
        """One line a row under the table's heading: medians, their spread, the CPU time of a request."""
        result = Result(ROWS[0], [run(20_000), run(10_000)], [run(40_000), run(30_000)])
        lines = report.tables([result]).splitlines()
        self.assertEqual(f"## {Table.MANY.value}", lines[0])
        cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
        self.assertEqual(len(report.HEADINGS), len(cells))
        self.assertEqual(
            ["15.0 k (10.0 k..20.0 k)", "35.0 k (30.0 k..40.0 k)", "2.50 (2.00..3.00)", "1.3", "yes"],
            cells[2:7],
        )
        self.assertEqual("75.0 (50.0..100.0)", cells[7])
        self.assertEqual(1, sum(line.startswith("## ") for line in lines))

    def test_rate(self) -> None:
        """Three digits, whatever the size."""
        self.assertEqual(["950", "1.23 k", "98.8 k"], [report.rate(n) for n in (950.0, 1234.0, 98_765.0)])

    def test_json(self) -> None:
        """A program finds every run, and the verdict."""
        figures = json.loads(json.dumps(report.as_json({"cores": 2}, {"rounds": 1}, [self.result((10, 20))])))
        [row] = figures["rows"]
        self.assertEqual(("P1", 2.0, "yes"), (row["name"], row["ratio"], row["met"]))
        self.assertEqual(20.0, row["ours"][0]["requests_per_second"])
        self.assertEqual(50_000.0, row["ours"][0]["server_cpu_microseconds_per_request"])


class ChangingTests(SynchronousTestCase):
    """Header blocks as Go makes them keep both ends' tables the same."""

    def test_decodes(self) -> None:
        """Every block means what was given, also after the table overflowed many times."""
        encoder, decoder = ChangingEncoder(), Decoder()
        constant = request_headers(b"/etcdserverpb.KV/Put", b"127.0.0.1:2379")
        for timeout in itertools.islice(timeouts(), 500):
            headers = [*constant, (b"grpc-timeout", timeout)]
            self.assertEqual(headers, decoder.decode(encoder.encode(headers)))
            self.assertTrue(decoder.touched, "each block inserts, so none may be remembered")

    def test_constant_headers_shrink(self) -> None:
        """What was sent before is an index of one byte."""
        encoder, decoder = ChangingEncoder(), Decoder()
        headers = request_headers(b"/a", b"b")
        decoder.decode(encoder.encode(headers))
        block = encoder.encode(headers)
        self.assertEqual(len(headers), len(block))
        self.assertEqual(headers, decoder.decode(block))

    def test_timeouts(self) -> None:
        """No value comes twice before all had their turn; each has at most gRPC's eight digits."""
        values = list(itertools.islice(timeouts(), TIMEOUTS))
        self.assertEqual(TIMEOUTS, len(set(values)))
        self.assertTrue(all(9 <= int(value[:-1]) / 1e6 < 10 and value[-1:] == b"u" for value in values[:999]))

    def test_server_takes_them(self) -> None:
        """The blocks, in frames, are whole requests for our own state machine."""
        server = ServerConnection(dict)
        blocks = Blocks(b"/a", b"b").first(100)
        data = b"".join(Inbox().out[:2])
        data += b"".join(request_frames(2 * n + 1, block, b"m") for n, block in enumerate(blocks))
        events = server.receive(data)
        bodies = [argument for _, _, argument in events if argument is not None]
        self.assertEqual([b"\0\0\0\0\1m"] * 100, bodies)
        self.assertFalse(server.closed)


class InboxTests(SynchronousTestCase):
    """What a server sends, cut anywhere, becomes answers."""

    head = encode([(b":status", b"200")])
    trailers = encode([(b"grpc-status", b"0")])

    def setUp(self) -> None:
        self.inbox = Inbox()
        self.inbox.out.clear()

    def test_answer(self) -> None:
        """Head, data in pieces and trailers are one answer, byte by byte as well as at once."""
        data = frame(HEADERS, END_HEADERS, 1, self.head) + frame(DATA, 0, 1, b"ab") + frame(DATA, 0, 1, b"c")
        data += frame(HEADERS, END_HEADERS | END_STREAM, 1, self.trailers)
        expected = [Answer(1, b"0", b"", b"abc")]
        self.assertEqual(expected, self.inbox.receive(data))
        self.assertEqual(
            expected, [answer for octet in data for answer in self.inbox.receive(bytes([octet]))]
        )

    def test_error(self) -> None:
        """Another status than 0 is no success, though HTTP says 200."""
        block = encode([(b":status", b"200"), (b"grpc-status", b"14"), (b"grpc-message", b"no")])
        [answer] = self.inbox.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, block))
        self.assertEqual((3, b"14", b"no", False), (answer.stream_id, answer.status, answer.text, answer.ok))

    def test_control(self) -> None:
        """SETTINGS and PING are answered; only the connection's own window counts."""
        window = self.inbox.window
        data = frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678") + frame(SETTINGS, ACK, 0)
        data += frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\5") + frame(WINDOW_UPDATE, 0, 1, b"\0\0\1\0")
        self.assertEqual([], self.inbox.receive(data))
        self.assertEqual([frame(SETTINGS, ACK, 0), frame(PING, ACK, 0, b"12345678")], self.inbox.out)
        self.assertEqual(window + 5, self.inbox.window)

    def test_goaway(self) -> None:
        """A server that hangs up ends the measurement with its own words."""
        data = frame(GOAWAY, 0, 0, bytes(8) + b"too_many_pings")
        self.assertIn("too_many_pings", str(self.assertRaises(ServerFaultError, self.inbox.receive, data)))

    def test_large_request(self) -> None:
        """A body is cut into frames that every server must take; the last one ends the request."""
        server = ServerConnection(dict)
        block = encode(request_headers(b"/a", b"b"))
        message = bytes(3 * FRAME_BYTES_MAX)
        events = server.receive(b"".join(Inbox().out[:2]) + request_frames(1, block, message))
        self.assertEqual(message, b"".join(part for _, _, part in events if part)[5:])
        self.assertRaises(ValueError, request_frames, 3, block, bytes(65535))


class FindingTests(SynchronousTestCase):
    """What is missing is said in one sentence."""

    def test_etcd_named(self) -> None:
        """``ETCD`` comes first; if it names nothing, nothing else is taken in its place."""
        self.assertEqual(sys.executable, find_etcd({"ETCD": sys.executable}))
        error = self.assertRaises(BenchError, find_etcd, {"ETCD": "/no/such/etcd"})
        self.assertIn("/no/such/etcd", str(error))

    def test_h2load_missing(self) -> None:
        """The sentence names the package."""
        self.patch(os, "environ", {"PATH": "/nonexistent"})
        self.assertIn("nghttp2-client", str(self.assertRaises(BenchError, find_h2load)))

    def test_our_command(self) -> None:
        """A command of one's own is given etcd's flags, or tells where the values go."""
        place = Place("a", Path("d"), 1, 2, "a=x")
        self.assertEqual(["member", "-x", "--name=a"], our_command("member -x", place)[:3])
        words = "member {directory} --port={port} {name} {cluster}"
        self.assertEqual(["member", "d", "--port=1", "a", "a=x"], our_command(words, place))
        self.assertEqual("twistedetcd", Path(our_command("", place)[0]).name)

    def test_places(self) -> None:
        """The members of a cluster have names, stores and ports of their own, and all know of all."""
        found = places(Path("d"), 3)
        ports = {port for place in found for port in (place.port, place.peer_port)}
        self.assertEqual((6, 3), (len(ports), len({place.data for place in found})))
        [cluster] = {place.cluster for place in found}
        self.assertEqual(
            [f"{place.name}=http://127.0.0.1:{place.peer_port}" for place in found], cluster.split(",")
        )


class OptionsTests(SynchronousTestCase):
    """The defaults fit the goals; ``--quick`` only shows that all works."""

    def test_defaults(self) -> None:
        """Five rounds on 100,000 keys, unless told otherwise."""
        options = parser().parse_args([])
        settle_options(options)
        self.assertEqual((5, 100_000), (options.rounds, options.keys))
        options = parser().parse_args(["--quick", "--seconds", "2"])
        settle_options(options)
        self.assertEqual((1, 2.0), (options.rounds, options.seconds))

    def test_kills(self) -> None:
        """Twenty leaders, or as many as were asked for."""
        for words, kills in (([], 20), (["--kills", "3"], 3), (["--quick"], 2)):
            options = parser().parse_args(words)
            settle_options(options)
            self.assertEqual(kills, options.kills)
        options = parser().parse_args(["--kills", "-1"])
        self.assertRaises(BenchError, settle_options, options)

    def test_keys(self) -> None:
        """A store too small for the keys of all rows is refused."""
        for keys in ("100", "20001"):
            options = parser().parse_args(["--keys", keys])
            self.assertRaises(BenchError, settle_options, options)

    def test_idle_watches(self) -> None:
        """Watches that only wait are spread evenly over the streams, so they come by the thousand."""
        for count in ("-1000", "1500"):
            options = parser().parse_args(["--idle-watches", count])
            self.assertRaises(BenchError, settle_options, options)

    def test_mistake(self) -> None:
        """A mistake ends with status 1."""
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        self.assertEqual(1, main(["--rows", "nothing"]))
        self.assertEqual(1, errors.getvalue().count("\n"))


class ProcessesTests(SynchronousTestCase):
    """What a process cost is known, and none is left behind."""

    def test_stat(self) -> None:
        """User and system time are the fields after eleven others, whatever the program is called."""
        ticks = os.sysconf("SC_CLK_TCK")
        text = f"7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 {2 * ticks} {ticks} 0 0 20\n"
        self.assertEqual(3.0, parse_stat(text))

    def test_killed(self) -> None:
        """Leaving the context kills what still runs, also after an error."""

        def leave() -> None:
            with Children() as children:
                started.append(children.spawn(["sleep", "1000"]))
                raise BenchError("stop")

        started: list[object] = []
        self.assertRaises(BenchError, leave)
        [process] = started
        self.assertEqual(-9, getattr(process, "returncode", None))

    def test_finish(self) -> None:
        """Each process's words come back in the order they were started, whoever ends first."""
        with Children() as children:
            processes = [children.spawn(["sh", "-c", f"read x; echo {n}"], stdin=-1) for n in (1, 2)]
            for process in reversed(processes):
                assert process.stdin is not None, "a pipe was asked for"
                process.stdin.close()
            self.assertEqual(["1\n", "2\n"], [end.text for end in children.finish(processes)])

    def test_server_lost(self) -> None:
        """A server that ends in the middle is named; nobody waits for its answers."""
        with Children() as children:
            children.spawn(["true"])
            load = children.spawn(["sleep", "1000"])
            error = self.assertRaises(BenchError, children.finish, [load])
        self.assertEqual("true ended while it was measured.", str(error))

    def test_cannot_start(self) -> None:
        """A program that is not there is named."""
        with Children() as children:
            error = self.assertRaises(BenchError, children.spawn, ["/no/such/program"])
        self.assertIn("/no/such/program", str(error))


class MachineTests(SynchronousTestCase):
    """Figures come with the machine they were taken on."""

    def test_cpu_model(self) -> None:
        """The first processor stands for all."""
        self.assertEqual("A  B @ 2", cpu_model("processor\t: 0\nmodel name\t: A  B @ 2\nmodel name\t: C\n"))

    def test_filesystem(self) -> None:
        """The deepest mount that holds the directory; a later one covers an earlier one."""
        mounts = "a / ext4 rw 0 0\nb /tmp tmpfs rw 0 0\nc /tmp xfs rw 0 0\n"
        self.assertEqual("xfs", filesystem(mounts, Path("/tmp/x")))
        self.assertEqual("ext4", filesystem(mounts, Path("/tmpx")))
