"""Who gets to see the preview, asked over real connections."""

import json
import socket
from collections.abc import Iterator

import pytest
from preview.serving import EVERYWHERE, HANDSHAKE, Served, serving
from running import PATIENCE

from edge_daemon.preview.auth import HEADERS

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
    """The cookie that the token is changed for."""
    answer = served.ask(f"/?token={served.token}")
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def refused_watcher(served: Served, **headers: str) -> int:
    answer = served.ask("/live", **HANDSHAKE, **headers)
    assert answer.headers["Content-Security-Policy"] or answer.status == 400
    return answer.status


@pytest.mark.parametrize("path", READ)
def test_this_machine_sees_the_preview_without_a_token(local: Served, path: str) -> None:
    assert "token" not in local.url
    assert local.ask(path).status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]", "10.0.0.7"])
def test_addresses_and_local_names_are_this_machines(local: Served, host: str) -> None:
    assert local.ask("/session", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "me@evil"],
)
def test_name_that_was_made_to_point_here_is_refused(local: Served, host: str) -> None:
    for path in READ:
        answer = local.ask(path, Host=host)
        assert answer.status in {400, 421}
        assert b"porch" not in answer.body
    assert refused_watcher(local, Host=host) in {400, 421}


def test_own_name_counts_only_where_a_token_is_asked_for_as_networks_can_rebind_it(
    local: Served, remote: Served
) -> None:
    own = socket.gethostname()
    for name in (own, f"{own}.local"):
        assert local.ask("/", Host=name).status == 421
        assert remote.ask("/", Host=name).status == 401


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
def test_pages_of_others_get_nothing(local: Served, path: str, headers: dict[str, str]) -> None:
    answer = local.ask(path, **headers)
    assert answer.status == 403
    assert b"porch" not in answer.body


def test_watchers_of_others_get_nothing(local: Served) -> None:
    assert refused_watcher(local, Origin=OTHER_SITE) == 403
    assert refused_watcher(local, Sec_Fetch_Site="cross-site") == 403
    with local.watch(Origin=f"http://127.0.0.1:{local.port}") as watcher:
        assert watcher.look().glance["watchers"] == 1


def test_link_from_elsewhere_opens_the_page_and_nothing_else(local: Served) -> None:
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert local.ask("/", **followed).status == 200
    assert local.ask("/minute.json", **followed).status == 403
    assert local.ask("/", "POST", **followed).status == 403


@pytest.mark.parametrize("path", ["/pause", "/resume"])
def test_change_needs_the_pages_token_even_on_this_machine(local: Served, path: str) -> None:
    for headers in ({}, {"X_Preview_Token": "wrong"}, {"X_Preview_Token": "\xe9"}):
        assert local.ask(path, "POST", **headers).status == 403
    assert not local.pause.paused


def test_change_with_the_token_from_another_site_is_refused(local: Served) -> None:
    token = local.form_token()
    for headers in ({"Origin": OTHER_SITE}, {"Sec_Fetch_Site": "same-site"}):
        assert local.ask("/pause", "POST", X_Preview_Token=token, **headers).status == 403
    assert not local.pause.paused


def test_change_by_the_page_is_made(local: Served) -> None:
    own = {"X_Preview_Token": local.form_token(), "Origin": f"http://127.0.0.1:{local.port}"}
    assert local.ask("/pause", "POST", Sec_Fetch_Site="same-origin", **own).status == 204
    assert local.pause.paused
    assert local.ask("/resume", "POST", Sec_Fetch_Site="same-origin", **own).status == 204
    assert not local.pause.paused


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_only_post_changes_anything(local: Served, method: str) -> None:
    assert local.ask("/pause", method, X_Preview_Token=local.form_token()).status == 405
    assert not local.pause.paused


@pytest.mark.parametrize("path", GUARDED)
def test_others_see_nothing_without_the_token(remote: Served, path: str) -> None:
    answer = remote.ask(path)
    assert answer.status == 401
    assert b"porch" not in answer.body
    assert b"needs its token" in answer.body


def test_others_see_nothing_by_a_host_that_looks_like_a_public_path(remote: Served) -> None:
    for host in ("127.0.0.1/preview.css", "127.0.0.1/preview.css?", "127.0.0.1/icon.svg#"):
        for path in READ:
            assert remote.ask(path, Host=host).status in {400, 401, 421}
        assert refused_watcher(remote, Host=host) in {400, 401, 421}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": "edge-daemon=x"},
        {"X_Preview_Token": "x"},
        {"Authorization": "Bearer x"},
    ],
)
def test_others_watch_nothing_and_change_nothing_without_the_token(
    remote: Served, headers: dict[str, str]
) -> None:
    assert refused_watcher(remote, **headers) == 401
    assert remote.ask("/pause", "POST", **headers).status == 401
    assert not remote.pause.paused


@pytest.mark.parametrize("token", ["", "x", "%C3%A9", "a" * 5000])
def test_wrong_token_is_refused(remote: Served, token: str) -> None:
    for path in ("/", "/live", "/minute.json"):
        answer = remote.ask(f"{path}?token={token}")
        assert (answer.status, answer.headers["Set-Cookie"]) == (401, None)
        assert remote.ask(path, Cookie=f"edge-daemon-{remote.port}={token}").status == 401


def test_token_is_changed_for_a_cookie_and_leaves_the_address(remote: Served) -> None:
    answer = remote.ask(f"/?token={remote.token}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    attributes = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert attributes == {"httponly", "path=/", "samesite=strict"}


def test_cookie_opens_all(remote: Served) -> None:
    key = {"Cookie": cookie(remote)}
    for path in READ:
        assert remote.ask(path, **key).status == 200
    with remote.watch(**key) as watcher:
        assert watcher.look().glance["watchers"] == 1
    token = remote.form_token(**key)
    assert token not in {remote.token, cookie(remote)}
    assert remote.ask("/pause", "POST", **key).status == 403
    assert remote.ask("/pause", "POST", X_Preview_Token=token, **key).status == 204


def test_cookie_does_not_help_pages_of_others(remote: Served) -> None:
    key = {"Cookie": cookie(remote)}
    assert remote.ask("/minute.json", Origin=OTHER_SITE, **key).status == 403
    assert refused_watcher(remote, Origin=OTHER_SITE, **key) == 403


def test_token_is_another_at_each_start(remote: Served) -> None:
    with serving(Served(EVERYWHERE)) as second:
        assert len(remote.token) >= 20
        assert second.token != remote.token
        answer = second.ask("/", Cookie=f"edge-daemon-{second.port}={remote.token}")
        assert answer.status == 401


def test_without_a_token_only_the_looks_of_the_entrance_are_served(remote: Served) -> None:
    page = remote.ask("/").body.decode()
    for path in ("/preview.css", "/icon.svg"):
        assert f'href="{path}"' in page
        assert remote.ask(path).status == 200


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
def test_every_answer_carries_the_headers(
    local: Served, path: str, headers: dict[str, str]
) -> None:
    answer = local.ask(path, **headers)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "Server" not in answer.headers


def test_policy_lets_in_nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = HEADERS["Content-Security-Policy"]
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
def test_nothing_is_served_but_the_pages_files(local: Served, path: str) -> None:
    assert local.ask(path).status == 404


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
def test_answers_say_what_they_are(local: Served, path: str, kind: str) -> None:
    assert local.ask(path).headers["Content-Type"] == kind


def test_last_minute_is_saved_as_a_file_and_has_no_picture(local: Served) -> None:
    result = local.show()
    answer = local.ask("/minute.json")
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="edge-daemon-porch-2')
    told = json.loads(answer.body)
    (shown,) = told["frames"]
    assert (shown["frame"], shown["width"]) == (result.frame.index, result.frame.width)
    (known,) = shown["faces"]
    assert (known["probabilities"]["happy"], known["raw"]["happy"]) == (0.7, 0.9)
    assert "crop" not in known
    assert told["condition"]["broker"] == "none"


def test_head_of_a_request_may_not_be_endless(local: Served) -> None:
    with socket.create_connection(("127.0.0.1", local.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 40_000)
        assert connection.recv(12) == b"HTTP/1.1 400"
