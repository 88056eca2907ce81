"""Access control of the preview, over real connections."""

import json
import socket
from collections.abc import Iterator

import pytest
from preview.serving import EVERYWHERE, HANDSHAKE, Served, errors, serving
from running import PATIENCE

from edge_daemon.preview.auth import SECURITY_HEADERS

pytestmark = pytest.mark.usefixtures("_quick_uvicorn")

OTHER_SITE = "http://evil.example"

READ = ("/", "/session", "/minute.json", "/main.js")
GUARDED = ("/", "/session", "/minute.json", "/main.js", "/nothing")


@pytest.fixture
def local() -> Iterator[Served]:
    with serving(Served()) as served:
        yield served


@pytest.fixture
def remote() -> Iterator[Served]:
    with serving(Served(EVERYWHERE)) as served:
        yield served


def cookie(served: Served) -> str:
    """The cookie that replaces the token."""
    answer = served.request(f"/?token={served.token}")
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def refused_viewer(served: Served, **headers: str) -> int:
    answer = served.request("/live", **HANDSHAKE, **headers)
    assert answer.headers["Content-Security-Policy"] or answer.status == 400
    return answer.status


@pytest.mark.parametrize("path", READ)
def test_local_client_needs_no_token(local: Served, path: str) -> None:
    assert "token" not in local.url
    assert local.request(path).status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]", "10.0.0.7"])
def test_ip_addresses_and_localhost_are_accepted_hosts(local: Served, host: str) -> None:
    assert local.request("/session", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "me@evil"],
)
def test_unknown_host_name_is_refused(local: Served, host: str) -> None:
    for path in READ:
        answer = local.request(path, Host=host)
        assert answer.status in {400, 421}
        assert b"porch" not in answer.body
    assert refused_viewer(local, Host=host) in {400, 421}


def test_own_host_name_is_accepted_only_with_token_login(local: Served, remote: Served) -> None:
    own = socket.gethostname()
    for name in (own, f"{own}.local", f"{own}.fritz.box"):
        assert local.request("/", Host=name).status == 421
        assert remote.request("/", Host=name).status == 401


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OTHER_SITE},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    ],
)
def test_cross_site_request_is_refused(local: Served, path: str, headers: dict[str, str]) -> None:
    answer = local.request(path, **headers)
    assert answer.status == 403
    assert b"porch" not in answer.body


def test_cross_site_websocket_is_refused(local: Served) -> None:
    assert refused_viewer(local, Origin=OTHER_SITE) == 403
    assert refused_viewer(local, Sec_Fetch_Site="cross-site") == 403
    with local.viewer(Origin=f"http://127.0.0.1:{local.port}") as viewer:
        assert viewer.next().header["viewers"] == 1


def test_refused_websocket_is_no_error_in_the_log(
    remote: Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert refused_viewer(remote) == 401
    with remote.viewer(Cookie=cookie(remote)) as viewer:
        assert viewer.next().header["viewers"] == 1
    assert errors(caplog.records) == []


def test_cross_site_link_opens_only_the_page(local: Served) -> None:
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert local.request("/", **followed).status == 200
    assert local.request("/minute.json", **followed).status == 403
    assert local.request("/", "POST", **followed).status == 403


@pytest.mark.parametrize("path", ["/pause", "/resume"])
def test_change_without_form_token_is_refused(local: Served, path: str) -> None:
    for headers in ({}, {"X_Preview_Token": "wrong"}, {"X_Preview_Token": "\xe9"}):
        assert local.request(path, "POST", **headers).status == 403
    assert not local.pause.paused


def test_cross_site_change_with_form_token_is_refused(local: Served) -> None:
    token = local.form_token()
    for headers in ({"Origin": OTHER_SITE}, {"Sec_Fetch_Site": "same-site"}):
        assert local.request("/pause", "POST", X_Preview_Token=token, **headers).status == 403
    assert not local.pause.paused


def test_change_with_form_token_is_made(local: Served) -> None:
    own = {"X_Preview_Token": local.form_token(), "Origin": f"http://127.0.0.1:{local.port}"}
    assert local.request("/pause", "POST", Sec_Fetch_Site="same-origin", **own).status == 204
    assert local.pause.paused
    assert local.request("/resume", "POST", Sec_Fetch_Site="same-origin", **own).status == 204
    assert not local.pause.paused


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_other_methods_than_post_change_nothing(local: Served, method: str) -> None:
    assert local.request("/pause", method, X_Preview_Token=local.form_token()).status == 405
    assert not local.pause.paused


@pytest.mark.parametrize("path", GUARDED)
def test_remote_client_without_token_gets_the_login_page(remote: Served, path: str) -> None:
    answer = remote.request(path)
    assert answer.status == 401
    assert b"porch" not in answer.body
    assert b"requires a token" in answer.body


def test_host_with_a_public_path_does_not_bypass_login(remote: Served) -> None:
    for host in ("127.0.0.1/preview.css", "127.0.0.1/preview.css?", "127.0.0.1/icon.svg#"):
        for path in READ:
            assert remote.request(path, Host=host).status in {400, 401, 421}
        assert refused_viewer(remote, Host=host) in {400, 401, 421}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": "edge-daemon=x"},
        {"X_Preview_Token": "x"},
        {"Authorization": "Bearer x"},
    ],
)
def test_remote_client_without_token_cannot_watch_or_change(
    remote: Served, headers: dict[str, str]
) -> None:
    assert refused_viewer(remote, **headers) == 401
    assert remote.request("/pause", "POST", **headers).status == 401
    assert not remote.pause.paused


@pytest.mark.parametrize("token", ["", "x", "%C3%A9", "a" * 5000])
def test_wrong_token_is_refused(remote: Served, token: str) -> None:
    for path in ("/", "/live", "/minute.json"):
        answer = remote.request(f"{path}?token={token}")
        assert (answer.status, answer.headers["Set-Cookie"]) == (401, None)
        assert remote.request(path, Cookie=f"edge-daemon-{remote.port}={token}").status == 401


def test_token_in_url_becomes_a_cookie(remote: Served) -> None:
    answer = remote.request(f"/?token={remote.token}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    attributes = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert attributes == {"httponly", "path=/", "samesite=strict"}


def test_cookie_authorises_all_requests(remote: Served) -> None:
    key = {"Cookie": cookie(remote)}
    for path in READ:
        assert remote.request(path, **key).status == 200
    with remote.viewer(**key) as viewer:
        assert viewer.next().header["viewers"] == 1
    token = remote.form_token(**key)
    assert token not in {remote.token, cookie(remote)}
    assert remote.request("/pause", "POST", **key).status == 403
    assert remote.request("/pause", "POST", X_Preview_Token=token, **key).status == 204


def test_cross_site_request_with_cookie_is_refused(remote: Served) -> None:
    key = {"Cookie": cookie(remote)}
    assert remote.request("/minute.json", Origin=OTHER_SITE, **key).status == 403
    assert refused_viewer(remote, Origin=OTHER_SITE, **key) == 403


def test_token_differs_at_each_start(remote: Served) -> None:
    with serving(Served(EVERYWHERE)) as second:
        assert len(remote.token) >= 20
        assert second.token != remote.token
        answer = second.request("/", Cookie=f"edge-daemon-{second.port}={remote.token}")
        assert answer.status == 401


def test_login_page_gets_its_style_without_token(remote: Served) -> None:
    page = remote.request("/").body.decode()
    for path in ("/preview.css", "/icon.svg"):
        assert f'href="{path}"' in page
        assert remote.request(path).status == 200


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/main.js", {}),
        ("/session", {}),
        ("/nothing", {}),
        ("/pause", {}),
        ("/", {"Host": "evil.example"}),
        ("/", {"Origin": OTHER_SITE}),
    ],
)
def test_every_response_has_the_security_headers(
    local: Served, path: str, headers: dict[str, str]
) -> None:
    answer = local.request(path, **headers)
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "Server" not in answer.headers


def test_content_security_policy_allows_own_files_only() -> None:
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/token.html",
        "/app.py",
        "/../app.py",
        "/..%2fapp.py",
        "//etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_only_page_files_are_served(local: Served, path: str) -> None:
    assert local.request(path).status == 404


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/main.js", "text/javascript; charset=utf-8"),
        ("/preview.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/minute.json", "application/json"),
    ],
)
def test_responses_have_their_content_type(local: Served, path: str, kind: str) -> None:
    assert local.request(path).headers["Content-Type"] == kind


def test_last_minute_is_a_download_without_images(local: Served) -> None:
    result = local.show()
    answer = local.request("/minute.json")
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="edge-daemon-porch-2')
    message = json.loads(answer.body)
    (result_frame,) = message["frames"]
    assert (result_frame["frame"], result_frame["width"]) == (
        result.frame.index,
        result.frame.width,
    )
    (known,) = result_frame["faces"]
    assert (known["probabilities"]["happy"], known["raw"]["happy"]) == (0.7, 0.9)
    assert "crop" not in known
    assert message["condition"]["broker"] == "none"


def test_endless_request_head_is_refused(local: Served) -> None:
    with socket.create_connection(("127.0.0.1", local.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 40_000)
        assert connection.recv(12) == b"HTTP/1.1 400"
