"""tlschecks: the flags of TLS go together, or are refused in one sentence: etcd's where etcd has one."""

from __future__ import annotations

from tests.test_config import RefusalCase, parsed

CLIENT = ("--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://a:1")
FILES = ("--cert-file=c", "--key-file=k")
PEER = ("--listen-peer-urls=https://127.0.0.1:2",)
PEER_FILES = ("--peer-cert-file=c", "--peer-key-file=k")


class FilesTests(RefusalCase):
    """A certificate comes with its key, and where it is used."""

    def test_sections(self) -> None:
        """A configuration file has a section for clients and one for members."""
        config = parsed(
            file="""
            client-transport-security:
              {cert-file: c, key-file: k, client-cert-auth: true, trusted-ca-file: t, allowed-hostname: [h]}
            peer-transport-security: {cert-file: pc, key-file: pk, trusted-ca-file: pt, allowed-cn: [a, b]}
            cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
            """
        )
        self.assertEqual(("c", "k", "t"), (config.cert_file, config.key_file, config.trusted_ca_file))
        self.assertEqual((True, ("h",)), (config.client_cert_auth, config.client_cert_allowed_hostname))
        self.assertEqual(
            ("pc", "pk", "pt"), (config.peer_cert_file, config.peer_key_file, config.peer_trusted_ca_file)
        )
        self.assertEqual(("a", "b"), config.peer_cert_allowed_cn)
        self.assertEqual(("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",), config.cipher_suites)

    def test_both(self) -> None:
        """One without the other is refused."""
        for prefix in ("", "peer-"):
            for name, text in {
                "key-file": "KeyFile and CertFile must both be present[key: a, cert: ]",
                "cert-file": "KeyFile and CertFile must both be present[key: , cert: a]",
                "client-key-file": (
                    "ClientKeyFile and ClientCertFile must both be present or both absent: [key: a, cert: ]"
                ),
                "client-cert-file": (
                    "ClientKeyFile and ClientCertFile must both be present or both absent: [key: , cert: a]"
                ),
            }.items():
                self.assert_refused([f"--{prefix}{name}=a"], text)

    def test_https(self) -> None:
        """An https URL to listen on needs a certificate, or that one is made."""
        self.assert_refused(
            CLIENT,
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 "
            "with HTTPS scheme",
        )
        self.assert_refused(
            PEER, "cannot listen on TLS for 127.0.0.1:2: KeyFile and CertFile are not presented"
        )
        for flags in (
            (*CLIENT, *FILES),
            (*CLIENT, "--auto-tls"),
            (*PEER, *PEER_FILES),
            (*PEER, "--peer-auto-tls"),
        ):
            self.assertEqual((), parsed(*flags).warnings)

    def test_http(self) -> None:
        """A certificate beside an http URL is not shown there, and nobody is asked for one: a warning."""
        self.assertEqual(
            (
                "http://localhost:2379: scheme is http or unix while key and cert files are present; "
                "ignoring key and cert files",
                "http://localhost:2379: scheme is http or unix while --client-cert-auth is enabled; "
                "ignoring client cert auth for this URL",
            ),
            parsed(*FILES, "--client-cert-auth", "--trusted-ca-file=t").warnings,
        )
        self.assertEqual(
            (
                "http://localhost:2380: scheme is HTTP while key and cert files are present; "
                "ignoring key and cert files",
                "http://localhost:2380: scheme is HTTP while --peer-client-cert-auth is enabled; "
                "ignoring client cert auth for this URL",
            ),
            parsed(*PEER_FILES, "--peer-client-cert-auth", "--peer-trusted-ca-file=t").warnings,
        )

    def test_made_or_given(self) -> None:
        """A certificate that is given comes before one that would be made."""
        config = parsed(*CLIENT, *FILES, "--auto-tls", *PEER, *PEER_FILES, "--peer-auto-tls")
        self.assertEqual(
            ("ignoring client auto TLS since certs given", "ignoring peer auto TLS since certs given"),
            config.warnings,
        )


class DemandsTests(RefusalCase):
    """What is demanded of others' certificates can be checked."""

    def test_authority(self) -> None:
        """Nothing is demanded of a certificate unless it is said who must have signed it."""
        for flag in ("--client-cert-auth", "--client-crl-file=a", "--client-cert-allowed-hostname=a"):
            self.assert_refused(
                [*CLIENT, *FILES, flag],
                f"{flag.partition('=')[0]} needs --trusted-ca-file: it says whose certificates count",
            )
            parsed(*CLIENT, *FILES, flag, "--trusted-ca-file=t")
        for name in ("client-cert-auth", "crl-file=a", "cert-allowed-cn=a", "cert-allowed-hostname=a"):
            flag = f"--peer-{name}"
            self.assert_refused(
                [*PEER, *PEER_FILES, flag],
                f"{flag.partition('=')[0]} needs --peer-trusted-ca-file: it says whose certificates count",
            )
            parsed(*PEER, *PEER_FILES, flag, "--peer-trusted-ca-file=t")

    def test_names_or_hosts(self) -> None:
        """Members are known by common names or by hosts, not by both."""
        self.assert_refused(
            ["--peer-cert-allowed-cn=a,b", "--peer-cert-allowed-hostname=c"],
            'AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a" "b"], hostnames=["c"])',
        )

    def test_made(self) -> None:
        """No authority has signed the certificates that are made."""
        for prefix, listening in {"": CLIENT, "peer-": PEER}.items():
            self.assert_refused(
                [*listening, f"--{prefix}auto-tls", f"--{prefix}trusted-ca-file=t"],
                f"--{prefix}trusted-ca-file cannot be obeyed together with --{prefix}auto-tls: "
                "nobody has signed the certificates that are made",
            )


class VersionsTests(RefusalCase):
    """Versions and cipher suites are those there are."""

    def test_versions(self) -> None:
        """There are two, and the oldest is not after the newest."""
        for name in ("min", "max"):
            self.assert_refused(
                [f"--tls-{name}-version=TLS1.1"],
                'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)',
            )
        self.assert_refused(
            ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        )
        config = parsed("--tls-min-version=", "--tls-max-version=TLS1.2")
        self.assertEqual(("", "TLS1.2"), (config.tls_min_version, config.tls_max_version))

    def test_cipher_suites(self) -> None:
        """They are named as in Go, and chosen for TLS 1.2 only."""
        good = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_RSA_WITH_AES_128_CBC_SHA,TLS_AES_128_GCM_SHA256"
        self.assertEqual(tuple(good.split(",")), parsed(f"--cipher-suites={good}").cipher_suites)
        self.assert_refused(
            ["--cipher-suites=TLS_RSA_WITH_RC4_128_SHA"],
            'unexpected TLS cipher suite "TLS_RSA_WITH_RC4_128_SHA"',
        )
        self.assert_refused(
            [f"--cipher-suites={good}", "--tls-min-version=TLS1.3"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        )

    def test_validity(self) -> None:
        """What is made is valid for some time; that matters only where something is."""
        self.assert_refused(
            ["--auto-tls", "--self-signed-cert-validity=0"],
            "--self-signed-cert-validity must be greater than 0",
        )
        parsed("--self-signed-cert-validity=0")
