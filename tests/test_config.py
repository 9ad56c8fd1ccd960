"""What an operator writes becomes one checked Config, or one sentence that says why not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.config import FILE_KEYS, Answered, Config, address, help_text, parse, variable
from twistedetcd.errors import ConfigError, UsageError
from twistedetcd.flagtable import FLAGS, SUPPORTED, parse_duration


def no_file(path: str) -> bytes:
    """Stands for a disk without the file."""
    raise FileNotFoundError(2, "No such file or directory", path)


def parsed(*arguments: str, environment: Mapping[str, str] = {}, file: str | None = None) -> Config:
    """The Config made of these."""
    if file is None:
        return parse(arguments, environment, no_file)
    return parse(["--config-file=m.yaml", *arguments], environment, lambda path: file.encode())


class RefusalCase(SynchronousTestCase):
    """Helpers that look at how a mistake is told."""

    def assert_usage(self, arguments: Sequence[str], text: str) -> None:
        """Ends with status 2, and this sentence."""
        self.assertEqual(text, str(self.assertRaises(UsageError, parsed, *arguments)))

    def assert_refused(
        self,
        arguments: Sequence[str],
        text: str,
        environment: Mapping[str, str] = {},
        file: str | None = None,
    ) -> None:
        """Ends with status 1, and this sentence."""
        error = self.assertRaises(ConfigError, parsed, *arguments, environment=environment, file=file)
        self.assertEqual(text, str(error))
        self.assertNotIsInstance(error, UsageError)


class DefaultsTests(SynchronousTestCase):
    """Without any flag a member works at once."""

    def test_defaults(self) -> None:
        """Each field is etcd's default, and a zero that stands for another number is that number."""
        expected = Config(
            name="default",
            data_dir="default.etcd",
            wal_dir=None,
            listen_peer_urls=("http://localhost:2380",),
            listen_client_urls=("http://localhost:2379",),
            heartbeat_interval_ms=100,
            election_timeout_ms=1000,
            initial_election_tick_advance=True,
            snapshot_count=10000,
            snapshot_catchup_entries=5000,
            max_snapshots=5,
            max_wals=5,
            max_txn_ops=128,
            max_request_bytes=1572864,
            max_concurrent_streams=4294967295,
            grpc_keepalive_min_time_seconds=5.0,
            grpc_keepalive_interval_seconds=7200.0,
            grpc_keepalive_timeout_seconds=20.0,
            watch_progress_notify_interval_seconds=600.0,
            backend_batch_interval_seconds=0.1,
            backend_batch_limit=10000,
            max_learners=1,
            initial_advertise_peer_urls=("http://localhost:2380",),
            advertise_client_urls=("http://localhost:2379",),
            initial_cluster={"default": ("http://localhost:2380",)},
            discovery_srv="",
            discovery_srv_name="",
            initial_cluster_state="new",
            initial_cluster_token="etcd-cluster",
            force_new_cluster=False,
            strict_reconfig_check=True,
            pre_vote=True,
            cert_file="",
            key_file="",
            client_cert_file="",
            client_key_file="",
            client_cert_auth=False,
            client_crl_file="",
            client_cert_allowed_hostname=(),
            trusted_ca_file="",
            auto_tls=False,
            peer_cert_file="",
            peer_key_file="",
            peer_client_cert_file="",
            peer_client_key_file="",
            peer_client_cert_auth=False,
            peer_crl_file="",
            peer_cert_allowed_cn=(),
            peer_cert_allowed_hostname=(),
            peer_trusted_ca_file="",
            peer_auto_tls=False,
            self_signed_cert_validity=1,
            cipher_suites=(),
            tls_min_version="TLS1.2",
            tls_max_version="",
            log_level="info",
            log_format="json",
            log_outputs=("default",),
            backend="lmdb",
            peer_transport="tcp",
            fsync_in="auto",
            unsafe_no_fsync=False,
            compaction_batch_limit=1000,
            compaction_sleep_interval_seconds=0.01,
            feature_gates=(),
            warnings=(),
        )
        self.assertEqual(expected, parsed())

    def test_fields_are_flags(self) -> None:
        """Every field is filled by one supported flag, warnings excepted."""
        fields = {field.name for field in dataclasses.fields(Config)} - {"warnings"}
        self.assertEqual(fields, {flag.field for flags in SUPPORTED.values() for flag in flags})

    def test_derived(self) -> None:
        """A tick is a heartbeat, and an election takes whole ticks."""
        config = parsed("--heartbeat-interval=150", "--election-timeout=1000")
        self.assertEqual((0.15, 6), (config.tick_seconds, config.election_ticks))

    def test_addresses(self) -> None:
        """Where to listen is host, port, and whether by TLS; an IPv6 host comes without its brackets."""
        config = parsed(
            "--listen-client-urls=https://[::1]:2379,http://0.0.0.0:12379",
            "--advertise-client-urls=http://a:2379",
            "--auto-tls",
        )
        self.assertEqual((("0.0.0.0", 12379, False), ("::1", 2379, True)), config.client_addresses)
        self.assertEqual((("localhost", 2380, False),), config.peer_addresses)
        self.assertEqual(("a", 1, False), address("http://a:1"))

    def test_data_dir_follows_name(self) -> None:
        """Data is kept below a directory named like the member, unless another is given."""
        self.assertEqual("m1.etcd", parsed("--name=m1").data_dir)
        self.assertEqual("/d", parsed("--name=m1", "--data-dir=/d").data_dir)

    def test_initial_cluster_follows_name_and_url(self) -> None:
        """Unless it is given, the cluster is this member at its advertised URLs."""
        config = parsed("--name=m1", "--initial-advertise-peer-urls=http://10.0.0.1:2380")
        self.assertEqual({"m1": ("http://10.0.0.1:2380",)}, config.initial_cluster)


class ArgumentsTests(RefusalCase):
    """The command line is read as etcd's parser reads it."""

    def test_forms(self) -> None:
        """One dash or two, the value after = or as the next argument; the last one counts."""
        for arguments in (
            ["--name=a"],
            ["-name=a"],
            ["--name", "a"],
            ["-name", "a"],
            ["--name=b", "--name=a"],
        ):
            self.assertEqual("a", parsed(*arguments).name)

    def test_value_that_looks_like_a_flag(self) -> None:
        """The argument after a flag that needs a value is that value, whatever it looks like."""
        self.assertEqual("--name", parsed("--initial-cluster-token", "--name").initial_cluster_token)

    def test_value_with_equals_sign(self) -> None:
        """Only the first = ends the name."""
        config = parsed("--initial-cluster=default=http://localhost:2380")
        self.assertEqual({"default": ("http://localhost:2380",)}, config.initial_cluster)

    def test_switch(self) -> None:
        """A switch alone is true; false needs =false."""
        self.assertTrue(parsed("--unsafe-no-fsync").unsafe_no_fsync)
        self.assertFalse(parsed("--pre-vote=false").pre_vote)
        self.assertFalse(parsed("-pre-vote=F").pre_vote)
        self.assert_refused(["--pre-vote", "false"], '"false" is not a valid flag')

    def test_unknown_flag(self) -> None:
        """A flag nobody knows is a mistake of usage, and so are the ones that 3.6 removed."""
        self.assert_usage(["--nonsense=1"], "flag provided but not defined: -nonsense")
        self.assert_usage(["--enable-v2"], "flag provided but not defined: -enable-v2")

    def test_no_abbreviations(self) -> None:
        """The start of a flag's name is not the flag."""
        self.assert_usage(["--nam=a"], "flag provided but not defined: -nam")

    def test_bad_syntax(self) -> None:
        """Three dashes, or none before a name, is no flag; a value may not be missing."""
        self.assert_usage(["---name=a"], "bad flag syntax: ---name=a")
        self.assert_usage(["--=a"], "bad flag syntax: --=a")
        self.assert_usage(["--name"], "flag needs an argument: -name")

    def test_stray_argument(self) -> None:
        """What is not a flag is refused, also after --."""
        self.assert_refused(["--name=a", "gateway"], '"gateway" is not a valid flag')
        self.assert_refused(["--", "--name=a"], '"--name=a" is not a valid flag')
        self.assert_refused(["-"], '"-" is not a valid flag')

    def test_bad_values(self) -> None:
        """A value that does not parse is a mistake of usage: flag, value and reason are in the text."""
        for argument, reason in {
            "heartbeat-interval=soon": "must be an integer",
            "heartbeat-interval=-1": "must be between 0 and 18446744073709551615",
            "heartbeat-interval=": "must be an integer",
            "max-concurrent-streams=4294967296": "must be between 0 and 4294967295",
            "backend-batch-limit=1.5": "must be an integer",
            "backend-batch-interval=5": "must be a duration, such as 100ms, 5s or 1h",
            "pre-vote=maybe": "must be true or false",
            "initial-cluster-state=old": "must be one of new, existing",
            "log-level=loud": "must be one of debug, info, warn, error, dpanic, panic, fatal",
            "fsync-in=nowhere": "must be one of auto, reactor, thread",
            "v2-deprecation=not-yet": (
                "must be one of write-only, write-only-skip-check, write-only-drop-data, gone"
            ),
            "feature-gates=Nonsense=true": "unrecognized feature gate: Nonsense",
            "listen-peer-urls=ftp://a:1": "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            "listen-peer-urls=http://a": 'URL address does not have the form "host:port": http://a',
            "listen-peer-urls=http://a:99999": (
                'URL address does not have the form "host:port": http://a:99999'
            ),
            "listen-peer-urls=http://a:1/b": "URL must not contain a path: http://a:1/b",
        }.items():
            name, _, text = argument.partition("=")
            self.assert_usage([f"--{argument}"], f'invalid value "{text}" for flag -{name}: {reason}')

    def test_integers(self) -> None:
        """Numbers are written as in Go: decimal, hexadecimal, octal or binary."""
        for text, number in {"0x10": 16, "0b11": 3, "0o17": 15, "017": 15, "08": None}.items():
            if number is None:
                self.assertRaises(UsageError, parsed, f"--max-txn-ops={text}")
            else:
                self.assertEqual(number, parsed(f"--max-txn-ops={text}").max_txn_ops)

    def test_help_and_version(self) -> None:
        """Both are answered at once; a mistake before --help, or anywhere with --version, comes first."""
        for arguments in (["--help"], ["-h"], ["--name=a", "--help", "--nonsense"]):
            self.assertEqual(help_text(), self.assertRaises(Answered, parsed, *arguments).text)
        answer = self.assertRaises(Answered, parsed, "--version").text
        self.assertTrue(answer.startswith("etcd Version: 3.6."), answer)
        self.assertEqual(4, answer.count("\n"))
        self.assertRaises(UsageError, parsed, "--version", "--nonsense")
        self.assertRaises(UsageError, parsed, "--nonsense", "--help")
        self.assertEqual("default", parsed("--version=false").name)


class DurationTests(SynchronousTestCase):
    """Durations are written as in Go."""

    def test_durations(self) -> None:
        """Numbers with units add up, to whole nanoseconds."""
        for text, nanoseconds in {
            "0": 0,
            "100ms": 100_000_000,
            "1.5s": 1_500_000_000,
            ".5s": 500_000_000,
            "1h1m1s": 3_661_000_000_000,
            "3us": 3_000,
            "3µs": 3_000,
            "1.9ns": 1,
            "-2s": -2_000_000_000,
        }.items():
            self.assertEqual(nanoseconds, parse_duration(text), text)

    def test_not_durations(self) -> None:
        """A number without a unit, a unit without a number, and 293 years are refused."""
        for text in ("", "5", "s", "1 s", "1d", "1s2", "+-1s", "2566680h"):
            self.assertRaises(ValueError, parse_duration, text)


class EnvironmentTests(RefusalCase):
    """Each flag is also a variable."""

    def test_variable(self) -> None:
        """ETCD_ and the flag's name, in capitals and underscores."""
        self.assertEqual("ETCD_LISTEN_CLIENT_URLS", variable("listen-client-urls"))
        config = parsed(environment={"ETCD_NAME": "m1", "ETCD_PRE_VOTE": "false", "HOME": "/"})
        self.assertEqual(("m1", False, ()), (config.name, config.pre_vote, config.warnings))

    def test_empty_is_unset(self) -> None:
        """An empty variable is no variable, beside the flag too."""
        self.assertEqual("m1", parsed("--name=m1", environment={"ETCD_NAME": "", "ETCD_X": ""}).name)

    def test_conflict(self) -> None:
        """Flag and variable together are refused, even when they agree."""
        self.assert_refused(
            ["--name=m1"],
            "conflicting environment variable is shadowed by corresponding command-line flag: "
            "ETCD_NAME and --name",
            environment={"ETCD_NAME": "m1"},
        )

    def test_unknown(self) -> None:
        """A variable that is no flag's is only mentioned."""
        config = parsed(environment={"ETCD_NONSENSE": "1", "ETCD_VERSION": "3.6", "ETCDCTL_API": "3"})
        self.assertEqual(
            ("unrecognized environment variable ETCD_NONSENSE", "ETCD_VERSION is ignored: it is a flag only"),
            config.warnings,
        )

    def test_bad_value(self) -> None:
        """A variable that does not parse ends with status 1, unlike the flag."""
        self.assert_refused(
            [],
            'invalid value "soon" for ETCD_HEARTBEAT_INTERVAL: must be an integer',
            environment={"ETCD_HEARTBEAT_INTERVAL": "soon"},
        )

    def test_refused_by_name(self) -> None:
        """What is not supported is refused under the name that the operator used."""
        self.assert_refused(
            [],
            "ETCD_MEMORY_MLOCK is not supported by this version of twistedetcd",
            environment={"ETCD_MEMORY_MLOCK": "true"},
        )


class FileTests(RefusalCase):
    """A configuration file replaces everything else."""

    def test_keys(self) -> None:
        """Keys are flags, durations whole nanoseconds, several URLs one string; the rest stays as it is."""
        config = parsed(
            file="""
            name: m1
            listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
            backend-batch-interval: 2000000000
            heartbeat-interval: 50
            pre-vote: false
            log-outputs: [stderr, stdout]
            initial-cluster-token: 5
            wal-dir:
            """
        )
        self.assertEqual("m1", config.name)
        self.assertEqual(("http://127.0.0.1:1", "http://127.0.0.1:2"), config.listen_client_urls)
        self.assertEqual(2.0, config.backend_batch_interval_seconds)
        self.assertEqual((50, 1000), (config.heartbeat_interval_ms, config.election_timeout_ms))
        self.assertEqual((False, ("stderr", "stdout")), (config.pre_vote, config.log_outputs))
        self.assertEqual(("5", None), (config.initial_cluster_token, config.wal_dir))

    def test_json(self) -> None:
        """JSON will do, tabs and all; so will nothing."""
        self.assertEqual("m1", parsed(file='{\n\t"name": "m1"\n}').name)
        self.assertEqual("m1", parsed(file="{name: m1}").name)
        self.assertEqual(parsed(), parsed(file=""))

    def test_nothing_else_counts(self) -> None:
        """Other flags and all variables are ignored, whatever they say, as long as they parse."""
        config = parsed(
            "--name=a", "--auto-tls", environment={"ETCD_NAME": "b", "ETCD_X": "1"}, file="log-level: warn"
        )
        self.assertEqual(("default", "warn", ()), (config.name, config.log_level, config.warnings))
        self.assert_usage(["--config-file=m.yaml", "--nonsense"], "flag provided but not defined: -nonsense")

    def test_named_by_variable(self) -> None:
        """ETCD_CONFIG_FILE names the file unless the flag does."""
        files = {"a.yaml": b"name: a", "b.yaml": b"name: b"}
        environment = {"ETCD_CONFIG_FILE": "a.yaml"}
        self.assertEqual("a", parse([], environment, files.__getitem__).name)
        self.assertEqual("b", parse(["--config-file", "b.yaml"], environment, files.__getitem__).name)

    def test_wrong_types(self) -> None:
        """A value of another type is refused, with its key."""
        for line, reason in {
            "backend-batch-interval: 5s": "must be an integer number of nanoseconds",
            "heartbeat-interval: '100'": "must be an integer",
            "heartbeat-interval: true": "must be an integer",
            "heartbeat-interval: -1": "must be between 0 and 18446744073709551615",
            "pre-vote: 1": "must be true or false",
            "name: [a]": "must be a string",
            "log-level: loud": "must be one of debug, info, warn, error, dpanic, panic, fatal",
        }.items():
            key = line.partition(":")[0]
            self.assert_refused([], f"invalid value for {key} in the config file: {reason}", file=line)

    def test_unknown_key(self) -> None:
        """A key that means nothing is only mentioned, such as a flag that has another name here."""
        config = parsed(file="nonsense: 1\ncert-file: a\nversion: true\nname: {a: b}")
        self.assertEqual(
            [
                f"{key} in the config file is not known, and ignored"
                for key in ("nonsense", "cert-file", "version", "name.a")
            ],
            list(config.warnings),
        )

    def test_nested_keys(self) -> None:
        """Sockets and discovery have sections; what they set is refused by its path."""
        for file, key in {
            "peer-transport-security: {skip-client-san-verification: true}": (
                "peer-transport-security.skip-client-san-verification"
            ),
            "socket-options: {reuse-port: true}": "socket-options.reuse-port",
            "discovery-config: {client: {auth: {username: a}}}": "discovery-config.client.auth.username",
        }.items():
            self.assert_refused(
                [], f"{key} in the config file is not supported by this version of twistedetcd", file=file
            )
        accepted = (
            "client-transport-security: {cert-file: '', auto-tls: false}\nsocket-options: {reuse-port: false}"
        )
        self.assertEqual(parsed(), parsed(file=accepted))

    def test_keys_name_flags(self) -> None:
        """Each flag has one key, except those that a file cannot set and an old spelling with two."""
        flags = [flag.name for flag in FILE_KEYS.values()]
        twice = {name for name in flags if flags.count(name) > 1}
        self.assertEqual({"experimental-snapshot-catchup-entries"}, twice)
        self.assertEqual(
            {"client-crl-file", "config-file", "discovery-fallback", "peer-crl-file", "raft-read-timeout"}
            | {"raft-write-timeout", "version"},
            {name for name, flag in FLAGS.items() if not flag.ignored} - set(flags),
        )

    def test_unreadable(self) -> None:
        """A file that is not there, or is not YAML, or holds no keys, is one sentence with its path."""
        self.assert_refused(
            ["--config-file=m.yaml"], "cannot read the config file m.yaml: No such file or directory"
        )
        self.assert_refused([], "the config file m.yaml must hold keys and values", file="- a")
        error = self.assertRaises(ConfigError, parsed, file="a: [")
        self.assertTrue(str(error).startswith("the config file m.yaml is not valid YAML: "), error)
        self.assertNotIn("\n", str(error))

    def test_advertised_urls_may_be_left_out(self) -> None:
        """Only flags and variables demand advertised URLs beside listening ones."""
        config = parsed(file="listen-client-urls: http://127.0.0.1:1")
        self.assertEqual(("http://localhost:2379",), config.advertise_client_urls)


class KnownTests(RefusalCase):
    """Every flag of etcd works, or is refused with a sentence that says so."""

    def test_refused_by_name(self) -> None:
        """A known flag that we do not obey is refused by its name."""
        for argument in (
            "--peer-skip-client-san-verification",
            "--quota-backend-bytes=1",
            "--cors=http://a",
            "--enable-grpc-gateway=false",
            "--corrupt-check-time=1h",
            "--discovery-endpoints=a:1",
            "--auto-compaction-retention=1",
            "--feature-gates=CompactHashCheck=true",
            "--feature-gates=TxnModeWriteWithSharedBuffer=false",
            "--experimental-corrupt-check-time=1s",
            "--experimental-txn-mode-write-with-shared-buffer=false",
            "--socket-reuse-port",
        ):
            name = argument.partition("=")[0]
            self.assert_refused([argument], f"{name} is not supported by this version of twistedetcd")

    def test_defaults_are_accepted(self) -> None:
        """A known flag with its own default changes nothing, so it is accepted."""
        for flag in FLAGS.values():
            if not (flag.help or flag.ignored or flag.replaced_by):
                for text in {flag.default, flag.zero or flag.default}:
                    self.assertEqual(parsed(), parsed(f"--{flag.name}={text}"), flag.name)

    def test_zero_is_default(self) -> None:
        """A zero that stands for the default is the default."""
        self.assertEqual(parsed(), parsed("--quota-backend-bytes=2147483648", "--snapshot-count=0"))
        self.assertEqual(parsed(), parsed("--backend-batch-limit=0", "--max-concurrent-streams=0"))
        self.assertEqual(parsed(), parsed("--feature-gates=TxnModeWriteWithSharedBuffer=true,AllBeta=0"))

    def test_lease_checkpoint(self) -> None:
        """The gate of lease checkpoints may be opened, also by its old name, which is mentioned."""
        self.assertFalse(parsed().lease_checkpoint)
        for text in ("LeaseCheckpoint=true", "LeaseCheckpoint=1,LeaseCheckpointPersist=T"):
            config = parsed(f"--feature-gates={text}")
            self.assertEqual((True, ()), (config.lease_checkpoint, config.warnings), text)
        old = "experimental-enable-lease-checkpoint"
        config = parsed(f"--{old}", f"--{old}-persist=true")
        self.assertEqual(("LeaseCheckpoint=true", "LeaseCheckpointPersist=true"), config.feature_gates)
        self.assertEqual(
            {
                f"--{old} is an old name: use feature-gates=LeaseCheckpoint=true",
                f"--{old}-persist is an old name: use feature-gates=LeaseCheckpointPersist=true",
            },
            set(config.warnings),
        )
        self.assertFalse(parsed(f"--{old}=false").lease_checkpoint)

    def test_lease_checkpoint_refused(self) -> None:
        """What contradicts itself is refused in etcd's words."""
        old = "experimental-enable-lease-checkpoint"
        needs = "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
        self.assert_refused(["--feature-gates=LeaseCheckpointPersist=true"], needs)
        self.assert_refused([f"--{old}-persist"], needs)
        self.assert_refused(
            [f"--{old}", "--feature-gates=LeaseCheckpoint=true"],
            f"cannot set --{old} and --feature-gates=LeaseCheckpoint at the same time, "
            "please use --feature-gates only",
        )
        self.assert_refused(
            [f"--{old}", "--feature-gates=CompactHashCheck=true"],
            "--feature-gates is not supported by this version of twistedetcd",
        )

    def test_shortest_lease(self) -> None:
        """One and a half election timeouts in ticks, cut off, and in seconds, rounded up."""
        for heartbeat, election, seconds in (
            (100, 1000, 2),
            (100, 500, 1),
            (300, 1500, 3),
            (1000, 11_000, 16),
        ):
            config = parsed(f"--heartbeat-interval={heartbeat}", f"--election-timeout={election}")
            self.assertEqual(seconds, config.lease_ttl_min_seconds, (heartbeat, election))

    def test_ignored(self) -> None:
        """What etcd itself takes and forgets is taken, with or without a value, and mentioned."""
        config = parsed("--snapshot", "--max-retry-attempts=9", "--v2-deprecation=gone")
        self.assertEqual(
            [
                f"--{name} is no longer supported, and ignored"
                for name in ("snapshot", "max-retry-attempts", "v2-deprecation")
            ],
            list(config.warnings),
        )

    def test_experimental(self) -> None:
        """The experimental name of a flag sets the flag, with a warning; both together are refused."""
        config = parsed("--experimental-compaction-batch-limit=7")
        self.assertEqual(7, config.compaction_batch_limit)
        self.assertEqual(
            ("--experimental-compaction-batch-limit is an old name: use compaction-batch-limit",),
            config.warnings,
        )
        self.assert_refused(
            ["--experimental-compaction-batch-limit=7", "--compaction-batch-limit=7"],
            "cannot set --experimental-compaction-batch-limit and --compaction-batch-limit at the same time, "
            "please use --compaction-batch-limit only",
        )

    def test_help_quotes_defaults(self) -> None:
        """A default cannot be taken for a word of the sentence."""
        self.assertIn("what this member is called (default 'default')\n", help_text())

    def test_help_names_every_flag(self) -> None:
        """The help text has every flag, except the ignored ones."""
        words = {word.partition("=")[0] for word in help_text().split() if word.startswith("--")}
        for flag in FLAGS.values():
            self.assertEqual(not flag.ignored, f"--{flag.name}" in words, flag.name)


class ChecksTests(RefusalCase):
    """Flags must go together; the sentences are etcd's where etcd has one."""

    def test_advertised_urls_are_needed(self) -> None:
        """Whoever chooses where to listen says where clients find it."""
        text = "--advertise-client-urls is required when --listen-client-urls is set explicitly"
        self.assert_refused(["--listen-client-urls=http://127.0.0.1:1"], text)
        self.assert_refused([], text, environment={"ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:1"})

    def test_timing(self) -> None:
        """An election takes five heartbeats at least and 50 seconds at most; a heartbeat is never zero."""
        for arguments, text in (
            (["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
            (
                ["--heartbeat-interval=300"],
                "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
            ),
            (
                ["--election-timeout=60000"],
                "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
            ),
        ):
            self.assert_refused(arguments, text)
        config = parsed("--heartbeat-interval=10000", "--election-timeout=50000")
        self.assertEqual(5, config.election_ticks)

    def test_progress_interval(self) -> None:
        """Watches report their progress ten times a second at most; less is taken as that, with a warning."""
        for text, seconds, warned in (("50ms", 0.1, 1), ("100ms", 0.1, 0), ("1s", 1.0, 0), ("0", 600.0, 0)):
            config = parsed(f"--watch-progress-notify-interval={text}")
            self.assertEqual(seconds, config.watch_progress_notify_interval_seconds)
            self.assertEqual(warned, len(config.warnings))
        config = parsed("--experimental-watch-progress-notify-interval=5s")
        self.assertEqual(5.0, config.watch_progress_notify_interval_seconds)

    def test_listen_hosts(self) -> None:
        """One can listen at an IP address or localhost, not at a name."""
        for url in ("http://example.com:1", "http://:1", "http://1.2.3:1"):
            self.assert_refused([f"--listen-peer-urls={url}"], f"expected IP in URL for binding ({url})")
        for url in ("http://localhost:1", "http://0.0.0.0:0", "http://[::]:1"):
            self.assertEqual((url,), parsed(f"--listen-peer-urls={url}").listen_peer_urls)

    def test_listen_schemes(self) -> None:
        """One can listen on TCP only; what is advertised may be behind a proxy."""
        self.assert_refused(
            ["--listen-peer-urls=unix://127.0.0.1:1"],
            "--listen-peer-urls unix://127.0.0.1:1: unix is not supported by this version of twistedetcd",
        )
        self.assertEqual(
            ("https://a:1",), parsed("--advertise-client-urls=https://a:1").advertise_client_urls
        )

    def test_urls_are_sorted(self) -> None:
        """URLs come in ascending order, each once, without blanks."""
        config = parsed("--advertise-client-urls=http://b:1, http://a:1,http://b:1")
        self.assertEqual(("http://a:1", "http://b:1"), config.advertise_client_urls)

    def test_initial_cluster(self) -> None:
        """Members by name; one with several URLs is named once for each; blanks and empty items are fine."""
        config = parsed("--initial-cluster= b=http://b:2 ,,default=http://b:1,default=http://a:1, ")
        expected = {"b": ("http://b:2",), "default": ("http://a:1", "http://b:1")}
        self.assertEqual(expected, config.initial_cluster)
        self.assertEqual(["b", "default"], list(config.initial_cluster))

    def test_discovery_srv(self) -> None:
        """With a domain to look members up in, nobody is named yet; both flags come from anywhere."""
        flags = parsed("--discovery-srv=example.com", "--discovery-srv-name=blue")
        self.assertEqual({}, flags.initial_cluster)
        self.assertEqual(("example.com", "blue"), (flags.discovery_srv, flags.discovery_srv_name))
        self.assertEqual(flags, parsed(file="{discovery-srv: example.com, discovery-srv-name: blue}"))

    def test_discovery_srv_beside_others(self) -> None:
        """Members are named or looked up, not both; a service's name alone means nothing."""
        self.assert_refused(
            ["--discovery-srv=example.com", "--initial-cluster=default=http://localhost:2380"],
            "multiple discovery or bootstrap flags are set. Choose one of "
            '"initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv"',
        )
        [warning] = parsed("--discovery-srv-name=blue").warnings
        self.assertEqual(
            "--discovery-srv-name means nothing without --discovery-srv, and is ignored", warning
        )

    def test_initial_cluster_without_urls(self) -> None:
        """A name without a URL, or with something else, is refused in etcd's words."""
        for text, reason in {
            "default": "URL scheme must be http, https, unix, or unixs: ",
            "default=http://a:1,b=": "URL scheme must be http, https, unix, or unixs: ",
            "default=ftp://a:1": "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            "default=http://a": 'URL address does not have the form "host:port": http://a',
        }.items():
            self.assert_refused([f"--initial-cluster={text}"], f"error setting up initial cluster: {reason}")

    def test_initial_cluster_of_others(self) -> None:
        """Whether this member is among them matters only when the cluster is founded, not at each start."""
        self.assertEqual({"b": ("http://b:2",)}, parsed("--initial-cluster=b=http://b:2").initial_cluster)

    def test_clustering(self) -> None:
        """What a cluster's members are told."""
        config = parsed(
            "--initial-cluster-state=existing",
            "--force-new-cluster",
            "--strict-reconfig-check=false",
            "--max-learners=2",
        )
        self.assertEqual("existing", config.initial_cluster_state)
        self.assertEqual((True, False), (config.force_new_cluster, config.strict_reconfig_check))
        self.assertEqual(2, config.max_learners)

    def test_logging(self) -> None:
        """Logs go to the standard streams; the one logger is zap, which changes nothing."""
        self.assertEqual(parsed(), parsed("--logger=zap"))
        self.assert_refused(["--logger=capnslog"], 'unknown logger option "capnslog"')
        for outputs in ("/var/log/etcd", "stderr,systemd/journal", ""):
            self.assert_refused(
                [f"--log-outputs={outputs}"],
                "--log-outputs other than default, stderr and stdout is not supported by this version",
            )

    def test_signs(self) -> None:
        """No number or duration is below zero."""
        self.assert_refused(["--backend-batch-limit=-1"], "--backend-batch-limit must not be negative")
        self.assert_refused(["--backend-batch-interval=-1s"], "--backend-batch-interval must not be negative")

    def test_name(self) -> None:
        """A member has a name."""
        self.assert_refused(["--name="], "--name must not be empty")

    def test_large_requests(self) -> None:
        """Requests above 10 MiB are allowed, with a warning."""
        self.assertEqual((), parsed("--max-request-bytes=10485760").warnings)
        config = parsed("--max-request-bytes=10485761")
        self.assertEqual(("--max-request-bytes is above the 10485760 that etcd recommends",), config.warnings)
