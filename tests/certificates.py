"""A certificate authority for tests of TLS on loopback."""

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Authority:
    """Signs server certificates that only `self.client()` trusts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign("Authority of the tests", self._key, [], days=1, authority=True)

    def client(self) -> ssl.SSLContext:
        """A client's context that trusts this authority and no other."""
        pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def server(self, *names: str, days: float = 1, self_signed: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for `names`, valid until `days` from now (in the past if negative)."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(names[0], key, names, days=days, self_signed=self_signed)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            pem.write(certificate.public_bytes(serialization.Encoding.PEM))
            pem.flush()
            context.load_cert_chain(pem.name)
        return context

    def _sign(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        names: tuple[str, ...] | list[str],
        *,
        days: float,
        authority: bool = False,
        self_signed: bool = False,
    ) -> x509.Certificate:
        own = authority or self_signed
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(subject))
            .issuer_name(_subject(subject) if own else self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        return builder.sign(key if own else self._key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
