"""certificates: authorities of the tests' own, and what they sign, as files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
CLIENT_ONLY = BOTH[:1]
SERVER_ONLY = BOTH[1:]


class Authority:
    """
    One that signs certificates.

    Args:
        directory: For its files and those of what it signs; made if it is not there.
        name: Its common name; several of one directory need several names.
        above: Who has signed its own certificate, which then follows those that it issues; itself if nobody.
    """

    def __init__(
        self, directory: str | Path, name: str = "authority", above: Authority | None = None
    ) -> None:
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._revoked: list[int] = []
        self._is_root = above is None
        signer = above or self
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder(signer._name, self._name, self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3650))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signer._key, SHA256())
        )
        self.ca_file = str(self.directory / f"{name}.pem")
        Path(self.ca_file).write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        hosts: Sequence[str] = (),
        days: float = 30,
        cn: str | None = None,
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
        begins_in_days: float = -1000,
    ) -> tuple[str, str]:
        """
        Sign a certificate; one of the same name before it is replaced.

        Args:
            name: Of its files.
            hosts: Its alternative names: DNS names and IP addresses.
            days: How long it is valid; it has expired if that is negative.
            cn: Its common name, if not the name of its files.
            usages: What it is meant for; whatever one likes if none.
            begins_in_days: When it begins to be valid.

        Returns:
            The paths of the certificate and of its key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(self._name, _name(name if cn is None else cn), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins_in_days))
            .not_valid_after(now + timedelta(days=days))
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        certificate = builder.sign(self._key, SHA256())
        cert_file, key_file = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        chain = [certificate] if self._is_root else [certificate, self.certificate]
        cert_file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
        key_file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        return str(cert_file), str(key_file)

    def revoke(self, cert_file: str) -> None:
        """Have a certificate in the lists that are made from now on."""
        certificate = x509.load_pem_x509_certificate(Path(cert_file).read_bytes())
        self._revoked.append(certificate.serial_number)

    def crl_file(self, encoding: Encoding = Encoding.PEM) -> str:
        """Write the list of what is revoked; returns its path, which is always the same."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, now, now + timedelta(days=1))
        for number in self._revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder(number, now - timedelta(days=1)).build()
            )
        path = self.directory / "revoked.crl"
        path.write_bytes(builder.sign(self._key, SHA256()).public_bytes(encoding))
        return str(path)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
