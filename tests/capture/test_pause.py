import logging
import threading
from pathlib import Path

import pytest

from edge_daemon.capture import SourceKind, pause_from_settings
from edge_daemon.capture.status import Pause
from edge_daemon.config.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "paused"


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_nothing_is_paused_at_first_and_nothing_is_written(file: Path) -> None:
    assert not Pause(file).paused
    assert not file.parent.exists()


def test_pause_of_devices_with_one_state_folder_is_kept_apart(tmp_path: Path) -> None:
    def pause(device_id: str) -> Pause:
        return pause_from_settings(
            Settings(state_dir=tmp_path, device_id=device_id), SourceKind.CAMERA
        )

    pause("front").set(True)
    pause("back").set(True)
    pause("front").set(False)
    assert not pause("front").paused
    assert pause("back").paused


def test_pause_under_a_former_device_id_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    former, current = (Settings(state_dir=tmp_path, device_id=name) for name in ("porch", "hall"))
    pause_from_settings(former, SourceKind.CAMERA).set(True)
    assert not pause_from_settings(current, SourceKind.CAMERA).paused
    (record,) = caplog.records
    assert (record.message, vars(record)["device_ids"]) == (
        "pause of another device_id ignored",
        "porch",
    )


def test_pause_is_remembered_until_it_is_taken_back(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Pause(file).set(True)
    again = Pause(file)
    assert again.paused
    assert logged(caplog) == ["still paused"]
    assert vars(caplog.records[0])["file"] == str(file)
    again.set(False)
    assert not Pause(file).paused
    assert list(file.parent.iterdir()) == []


def test_pause_without_a_file_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Pause().set(True)
    assert not Pause().paused
    assert list(tmp_path.iterdir()) == []


def test_each_change_is_logged_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pause = Pause(file)
    calls: list[bool] = []
    with pause.subscribed(lambda: calls.append(pause.paused)):
        for paused in (False, True, True, False, False):
            pause.set(paused)
    assert calls == [True, False]
    assert logged(caplog) == ["paused", "resumed"]


def test_change_takes_effect_before_it_is_remembered(file: Path) -> None:
    pause = Pause(file)
    remembered: list[bool] = []
    with pause.subscribed(lambda: remembered.append(file.exists())):
        pause.set(True)
    assert remembered == [False]
    assert file.exists()


@pytest.mark.parametrize("content", [b"", b"\x00\xff torn", b"false"])
def test_file_of_any_content_means_paused(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    assert Pause(file).paused


def test_dangling_link_means_paused(file: Path) -> None:
    file.parent.mkdir()
    file.symlink_to("nowhere")
    assert Pause(file).paused


def test_what_cannot_be_looked_at_means_paused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    pause = Pause(loop / "paused")
    assert pause.paused
    assert "could not read pause state" in logged(caplog)[0]
    pause.set(False)
    assert not pause.paused


def test_pause_of_unknown_state_counts_as_unsaved(tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    folder.symlink_to(folder)
    pause = Pause(folder / "paused")
    assert not pause.set(True)
    folder.unlink()
    assert pause.set(True)
    assert Pause(folder / "paused").paused


def test_pause_that_cannot_be_remembered_holds_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").touch()
    pause = Pause(tmp_path / "state" / "paused")
    pause.set(True)
    assert pause.paused
    assert logged(caplog) == ["could not save pause state"]


def test_second_change_waits_until_the_first_is_remembered(file: Path) -> None:
    pause = Pause(file)
    second = threading.Thread(target=pause.set, args=(False,))

    def overlap() -> None:
        if pause.paused:
            second.start()
            second.join(0.3)

    with pause.subscribed(overlap):
        pause.set(True)
        second.join()
    assert not pause.paused
    assert not file.exists()
