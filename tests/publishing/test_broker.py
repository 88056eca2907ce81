import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trustme
from pydantic import ValidationError
from special_files import UNREADABLE, UNREADABLE_IDS

from edge_daemon.config.settings import MqttSettings
from edge_daemon.errors import SettingsError
from edge_daemon.publishing.broker import (
    CLOCK_HINT,
    MAX_PASSWORD_BYTES,
    broker_from,
    with_hint,
)


def settings(**options: object) -> MqttSettings:
    return MqttSettings.model_validate(options)


PROBLEM: Final = re.compile(r"mqtt\.\w+(, mqtt\.\w+)*: [^;]+ \(got [^;)]+\); [^;]+")
"""SETTING: PROBLEM (got VALUE); FIX"""


def refusal(**options: object) -> str:
    with pytest.raises(SettingsError) as refused:
        broker_from(settings(**options))
    (problem,) = refused.value.problems
    assert PROBLEM.fullmatch(problem)
    return problem


@pytest.mark.parametrize("problem", ["certificate is not yet valid", "certificate has expired"])
def test_hint_of_a_certificate_out_of_its_time_is_the_clock(problem: str) -> None:
    reason = f"certificate refused: {problem}"
    assert with_hint(reason) == f"{reason}; {CLOCK_HINT}"


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
    ("options", "port"),
    [
        ({}, 1883),
        ({"tls": True}, 8883),
        ({"port": 1, "tls": True}, 1),
        ({"transport": "websockets"}, 80),
        ({"transport": "websockets", "tls": True}, 443),
    ],
)
def test_broker_port_defaults_by_transport(options: dict[str, object], port: int) -> None:
    broker = broker_from(settings(**options))
    assert (broker.port, broker.address) == (port, f"localhost:{port}")


def test_broker_password_is_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes("pä ss \r\nmore".encode())
    assert broker_from(settings(username="me", password_file=file)).password == "pä ss "


def test_broker_password_without_user_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret")
    problem = refusal(password_file=file)
    assert problem.startswith("mqtt.username: ")
    assert "secret" not in problem


def test_broker_without_user_ignores_the_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt-password").write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert broker_from(settings(username="me")).password == "secret"
    assert broker_from(settings()).password is None


def test_broker_long_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x" * (MAX_PASSWORD_BYTES + 1))
    assert str(file) in refusal(username="me", password_file=file)


def test_broker_unreadable_password_file_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(username="me", password_file=tmp_path)


def test_broker_tls_checks_certificate_and_name(authority: Path) -> None:
    tls = broker_from(settings(tls=True, ca_file=authority)).tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(tls.get_ca_certs()) == 1
    assert broker_from(settings()).tls is None


@pytest.mark.parametrize("key", ["ca_file", "certificate_file", "key_file"])
def test_broker_certificates_without_tls_are_refused(key: str) -> None:
    assert refusal(**{key: "x.pem"}).startswith(f"mqtt.{key}: ")


def test_broker_key_without_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.key"
    file.touch()
    assert refusal(tls=True, key_file=file).startswith("mqtt.certificate_file: ")


FILES = ["password_file", "ca_file", "certificate_file", "key_file", "websocket_headers_file"]


@pytest.mark.parametrize("key", FILES)
@pytest.mark.parametrize("make", UNREADABLE, ids=UNREADABLE_IDS)
def test_broker_with_special_file_is_refused(
    tmp_path: Path, key: str, make: Callable[[Path], None]
) -> None:
    file = tmp_path / "special"
    make(file)
    options = {
        "password_file": {"username": "me"},
        "websocket_headers_file": {"transport": "websockets"},
    }.get(key, {"tls": True})
    problem = refusal(**options, **{key: file})
    assert problem.startswith(f"mqtt.{key}: cannot be read: ")
    assert f"(got {file}); " in problem


@pytest.mark.parametrize("key", ["websocket_path", "websocket_headers_file"])
def test_broker_websocket_setting_with_tcp_is_refused(key: str) -> None:
    assert refusal(**{key: "/x"}).startswith(f"mqtt.{key}: needs mqtt.transport (got /x); ")


def test_broker_websocket_headers_are_read(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer a:b\n\nX-Site:7\n")
    broker = broker_from(settings(transport="websockets", websocket_headers_file=file))
    assert broker.websocket_headers == {"Authorization": "Bearer a:b", "X-Site": "7"}


@pytest.mark.parametrize("line", ["no colon", "a b: c", ": c", "a: \x01"])
def test_broker_invalid_websocket_header_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "headers"
    file.write_text(line)
    problem = refusal(transport="websockets", websocket_headers_file=file)
    assert problem.startswith("mqtt.websocket_headers_file: ")


@pytest.mark.parametrize(
    ("host", "used"), [("::1", "::1"), ("[fe80::1]", "fe80::1"), ("Broker.local", "Broker.local")]
)
def test_settings_host_is_name_or_address(host: str, used: str) -> None:
    assert broker_from(settings(host=host)).host == used


@pytest.mark.parametrize(
    ("host", "fixes"),
    [
        ("mqtt://b:1884", {"mqtt.host to b", "mqtt.port to 1884"}),
        ("mqtts://b", {"mqtt.host to b", "mqtt.tls to true"}),
        ("wss://b:443/mqtt", {"mqtt.transport to websockets", "mqtt.tls to true"}),
        ("b:1884", {"mqtt.host to b", "mqtt.port to 1884"}),
        ("[::1]:1884", {"mqtt.host to ::1", "mqtt.port to 1884"}),
        ("me@b", {"mqtt.host to b"}),
        ("b:70000", set()),
    ],
)
def test_settings_host_as_url_is_refused_with_fix(host: str, fixes: set[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(host=host)
    (error,) = refused.value.errors()
    assert error["loc"] == ("host",)
    assert all(fix in error["msg"] for fix in fixes)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_broker_invalid_certificate_files_are_refused(
    tmp_path: Path, authority: Path, content: bytes | None
) -> None:
    file = tmp_path / "x.pem"
    if content is not None:
        file.write_bytes(content)
    problem = refusal(tls=True, ca_file=file)
    assert problem.startswith("mqtt.ca_file: ")
    assert f"(got {file}); " in problem
    problem = refusal(tls=True, ca_file=authority, certificate_file=file)
    assert problem.startswith("mqtt.certificate_file")
    assert str(file) in problem


def test_broker_certificate_with_other_key_is_refused(
    tmp_path: Path, authority: Path, certificate: Path
) -> None:
    options = {"tls": True, "ca_file": authority, "certificate_file": certificate}
    assert broker_from(settings(**options, key_file=tmp_path / "client.key")).tls
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(other)
    assert str(other) in refusal(**options, key_file=other)
    assert str(certificate) in refusal(**options)
