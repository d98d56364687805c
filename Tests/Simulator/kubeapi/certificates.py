"""A private CA for one test, a certificate for the server and one for a client."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def make(folder: Path, addresses: list[str]) -> None:
    """Writes ca.crt, other-ca.crt (which signed nothing here), server.crt/.key and client.crt/.key."""
    authority, key = _authority("test authority")
    other, _ = _authority("another authority")
    (folder / "ca.crt").write_bytes(_pem(authority))
    (folder / "other-ca.crt").write_bytes(_pem(other))
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    _leaf(folder, "server", "kube-apiserver", authority, key, ExtendedKeyUsageOID.SERVER_AUTH, names)
    _leaf(folder, "client", "system:node:test", authority, key, ExtendedKeyUsageOID.CLIENT_AUTH, [])


def _builder(subject: str, issuer: x509.Name | None) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.timezone.utc)
    return (x509.CertificateBuilder().subject_name(name).issuer_name(issuer or name)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2)))


def _authority(subject: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, None).public_key(key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def _leaf(folder: Path, file: str, subject: str, authority: x509.Certificate, signer: ec.EllipticCurvePrivateKey,
          usage: x509.ObjectIdentifier, names: list[x509.GeneralName]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, authority.subject).public_key(key.public_key())
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    (folder / f"{file}.crt").write_bytes(_pem(builder.sign(signer, hashes.SHA256())))
    (folder / f"{file}.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
