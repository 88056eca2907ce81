import ssl
from pathlib import Path

import pytest
import trustme

from edge_daemon.config.settings import MqttSettings
from edge_daemon.errors import SettingsError
from edge_daemon.publishing.broker import broker_from


def settings(**given: object) -> MqttSettings:
    return MqttSettings.model_validate(given)


def refusal(**given: object) -> str:
    with pytest.raises(SettingsError) as refused:
        broker_from(settings(**given))
    (problem,) = refused.value.problems
    assert "\n" not in problem
    return problem


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    return file


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "client.pem"
    own = trustme.CA().issue_cert("camera")
    own.cert_chain_pems[0].write_to_path(file)
    own.private_key_pem.write_to_path(tmp_path / "client.key")
    return file


@pytest.mark.parametrize(
    ("given", "port"),
    [({}, 1883), ({"tls": True}, 8883), ({"port": 1}, 1), ({"port": 1, "tls": True}, 1)],
)
def test_port_is_the_usual_one_unless_said_otherwise(given: dict[str, object], port: int) -> None:
    broker = broker_from(settings(**given))
    assert (broker.port, broker.address) == (port, f"localhost:{port}")


def test_password_is_the_files_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes("pä ss \r\nmore".encode())
    assert broker_from(settings(username="me", password_file=file)).password == "pä ss "


def test_password_without_a_user_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret")
    problem = refusal(password_file=file)
    assert problem.startswith("mqtt.username: ")
    assert "secret" not in problem


def test_password_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(username="me", password_file=tmp_path)


def test_with_tls_the_brokers_certificate_and_name_are_checked(authority: Path) -> None:
    tls = broker_from(settings(tls=True, ca_file=authority)).tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(tls.get_ca_certs()) == 1
    assert broker_from(settings()).tls is None


@pytest.mark.parametrize("key", ["ca_file", "certificate_file", "key_file"])
def test_certificates_without_tls_are_refused_rather_than_ignored(key: str) -> None:
    assert refusal(**{key: "x.pem"}) == f"mqtt.{key}: set, but mqtt.tls is not; set that to true"


def test_key_without_a_certificate_is_refused() -> None:
    assert refusal(tls=True, key_file="x.key").startswith("mqtt.certificate_file: ")


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_files_that_hold_no_certificate_are_refused_by_name(
    tmp_path: Path, authority: Path, content: bytes | None
) -> None:
    file = tmp_path / "x.pem"
    if content is not None:
        file.write_bytes(content)
    assert refusal(tls=True, ca_file=file).startswith(f"mqtt.ca_file: {file}: ")
    problem = refusal(tls=True, ca_file=authority, certificate_file=file)
    assert problem.startswith(f"mqtt.certificate_file, mqtt.key_file: {file}, ")


def test_own_certificate_needs_its_own_key(
    tmp_path: Path, authority: Path, certificate: Path
) -> None:
    given = {"tls": True, "ca_file": authority, "certificate_file": certificate}
    assert broker_from(settings(**given, key_file=tmp_path / "client.key")).tls
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(other)
    assert str(other) in refusal(**given, key_file=other)
    assert str(certificate) in refusal(**given)
