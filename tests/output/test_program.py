"""The program as an analyst runs it: real files in, real files out."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Program, clean_environment
from disks import fill_up, small_disk
from drawing import draw_scene
from output.media import FACE, frames_of, make_video, probe, rate_of, times_of
from running import camera, running

from edge_daemon.records import EMOTIONS

HAAR = ("--detector", "haar")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "face.mp4")


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "long.mp4", frames=3000)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("edge-daemon: ")]


def test_run_of_a_video_writes_all_outputs(program: Program, tmp_path: Path, video: Path) -> None:
    names = ("annotated.mp4", "results.csv", "results.parquet")
    outputs = [word for name in names for word in ("--output", tmp_path / name)]
    done = program("run", video, *HAAR, *outputs)
    assert (done.returncode, done.stdout, error_lines(done)) == (0, "", [])
    source, copy = probe(video), probe(tmp_path / "annotated.mp4")
    assert (copy["codec_name"], copy["pix_fmt"]) == ("h264", "yuv420p")
    for key in ("width", "height", "nb_read_frames", "avg_frame_rate"):
        assert copy[key] == source[key]
    rows = rows_of(tmp_path / "results.csv")
    assert [int(row["frame"]) for row in rows] == list(range(10))
    assert {row["track_id"] for row in rows} == {"1"}
    assert [float(row["position_s"]) for row in rows] == pytest.approx(times_of(video), abs=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_run_of_a_video_annotates_around_the_face(
    program: Program, tmp_path: Path, video: Path
) -> None:
    copy, table = tmp_path / "annotated.mp4", tmp_path / "results.csv"
    assert program("run", video, *HAAR, "--output", copy, "--output", table).returncode == 0
    row = rows_of(table)[5]
    x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
    before, after = frames_of(video)[5].astype(int), frames_of(copy)[5].astype(int)
    changed = np.abs(after - before).max(axis=2) > 60
    face = changed[y + 3 : y + height - 3, x + 3 : x + width - 3]
    assert face.size > 50 * 50
    assert face.mean() < 0.001
    assert changed[y - 3 : y, x : x + width].any(axis=0).mean() > 0.9  # the box
    assert changed.sum() > 4 * (width + height)  # and the label


@pytest.mark.parametrize("rate", ["30000/1001", "12.5"])
def test_run_of_a_video_keeps_its_frame_rate(program: Program, tmp_path: Path, rate: str) -> None:
    video = make_video(tmp_path / "a.mp4", rate)
    assert program("run", video, *HAAR, "--output", tmp_path / "b.mp4").returncode == 0
    assert float(rate_of(tmp_path / "b.mp4")) == pytest.approx(float(rate_of(video)), rel=1e-4)


def test_run_of_an_odd_sized_video_rounds_up(program: Program, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mkv", size=(321, 241))
    assert program("run", video, *HAAR, "--output", tmp_path / "b.mkv").returncode == 0
    copy = probe(tmp_path / "b.mkv")
    assert (copy["width"], copy["height"]) == (322, 242)


def test_run_of_a_variable_rate_video_keeps_its_times(program: Program, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4")
    uneven = tmp_path / "uneven.mp4"
    command = ["ffmpeg", "-v", "error", "-i", video, "-vf", "setpts='(N+N*N/4)/25/TB'"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "1/90000", uneven]
    subprocess.run(command, check=True)
    assert program("run", uneven, *HAAR, "--output", tmp_path / "b.mp4").returncode == 0
    assert times_of(tmp_path / "b.mp4") == pytest.approx(times_of(uneven), abs=1e-3)


def test_run_of_a_video_that_grows_annotates_around_the_face(
    program: Program, tmp_path: Path, video: Path
) -> None:
    both = tmp_path / "both.ts"
    with both.open("wb") as joined:
        for width in (320, 640):
            part = ("-vf", f"scale={width}:-1", "-pix_fmt", "yuv420p", "-f", "mpegts", "-")
            subprocess.run(["ffmpeg", "-v", "error", "-i", video, *part], stdout=joined, check=True)
    copy = tmp_path / "copy.mp4"
    assert program("run", both, *HAAR, "--output", copy).returncode == 0
    first, *_, last = frames_of(copy)
    assert first.shape == last.shape
    x, y, side = FACE
    third = side // 3
    for frame in (first, last):
        is_coloured = np.ptp(frame.astype(int), axis=2) > 60  # on a grey image
        around = is_coloured[y - third : y + side + third, x - third : x + side + third]
        assert around.any()
        middle = is_coloured[y + third : y + 2 * third, x + third : x + 2 * third]
        assert not middle.any()


def test_run_of_a_folder_writes_copies_and_names(program: Program, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, scene in {"a.png": draw_scene(FACE), "b.jpg": draw_scene()}.items():
        assert cv2.imwrite(str(photos / name), scene)
    out, table = tmp_path / "out", tmp_path / "t.csv"
    assert program("run", photos, *HAAR, "--output", out, "--output", table).returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.jpg"]
    (row,) = rows_of(table)
    assert (row["file"], row["position_s"], row["time"]) == ("a.png", "", "")
    assert sum(float(row[name]) for name in EMOTIONS) == pytest.approx(1, abs=1e-3)
    copy = cv2.imread(str(out / "a.png"))
    assert copy is not None
    assert np.ptp(copy[:, :, 0].astype(int) - copy[:, :, 2]) > 50  # colours on a grey image


def test_run_of_a_folder_accepts_names_of_any_bytes(program: Program, tmp_path: Path) -> None:
    photos, out, table = (tmp_path / name for name in ("photos", "out", "t.csv"))
    photos.mkdir()
    longest = "\N{CJK UNIFIED IDEOGRAPH-5199}" * 83 + "aa.jpg"  # 255 bytes
    names = {b"caf\xe9.jpg": "caf\N{REPLACEMENT CHARACTER}.jpg", longest.encode(): longest}
    _, photo = cv2.imencode(".jpg", draw_scene(FACE))
    for name in names:
        (photos / os.fsdecode(name)).write_bytes(photo.tobytes())
    page = tmp_path / "page.html"
    done = program("run", photos, *HAAR, "--output", out, "--output", table, "--summary", page)
    assert (done.returncode, error_lines(done)) == (0, [])
    assert {os.fsencode(path.name) for path in out.iterdir()} == names.keys()
    assert [row["file"] for row in rows_of(table)] == sorted(names.values())
    assert all(name in page.read_text("utf-8") for name in names.values())


def test_run_of_rotated_photos_equals_that_of_upright_ones(
    program: Program, tmp_path: Path
) -> None:
    tables = []
    for degrees in (0, 180):
        photos, out = tmp_path / f"photos{degrees}", tmp_path / f"out{degrees}"
        table = tmp_path / f"{degrees}.csv"
        photos.mkdir()
        turned = np.rot90(draw_scene(FACE), degrees // 90)
        assert cv2.imwrite(str(photos / "a.png"), np.ascontiguousarray(turned))
        rotation = ("--set", f"capture.rotation={degrees}")
        words = (*HAAR, *rotation, "--output", out, "--output", table)
        assert program("run", photos, *words).returncode == 0
        assert [path.name for path in out.iterdir()] == ["a.png"]
        tables.append([{key: row[key] for key in EMOTIONS} for row in rows_of(table)])
    upright, rotated = tables
    assert len(upright) == 1
    assert rotated == upright  # also the prior, which is that of photos


def test_run_of_a_video_adapts_the_prior(program: Program, tmp_path: Path, video: Path) -> None:
    tables = []
    for prior in ("auto", "estimated"):
        table = tmp_path / f"{prior}.csv"
        words = (*HAAR, "--set", f"inference.prior={prior}", "--output", table)
        assert program("run", video, *words).returncode == 0
        tables.append([[float(row[name]) for name in EMOTIONS] for row in rows_of(table)])
    fixed, adapted = tables
    assert adapted[0] == fixed[0]
    assert adapted[-1] != fixed[-1]


def test_run_of_a_rotated_video_writes_the_rotated_copy(
    program: Program, tmp_path: Path, video: Path
) -> None:
    copy = tmp_path / "copy.mp4"
    rotation = ("--set", "capture.rotation=90")
    assert program("run", video, *HAAR, *rotation, "--output", copy).returncode == 0
    source, rotated = probe(video), probe(copy)
    assert (rotated["width"], rotated["height"]) == (source["height"], source["width"])
    assert rotated["nb_read_frames"] == source["nb_read_frames"]


def test_run_of_an_image_writes_its_copy(program: Program, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), draw_scene(FACE))
    copy = tmp_path / "copy.webp"
    assert program("run", tmp_path / "a.png", *HAAR, "--output", copy).returncode == 0
    assert cv2.imread(str(copy)) is not None


def test_run_with_outputs_overrides_the_configured_sink(
    program: Program, tmp_path: Path, video: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('sink = "mqtt"\n[mqtt]\nhost = "broker.invalid"\n')
    done = program("run", video, *HAAR, "--config", config, "--output", tmp_path / "t.csv")
    assert (done.returncode, "broker" in done.stderr) == (0, False)


def test_run_with_jsonl_and_a_table_reports_the_same(
    program: Program, tmp_path: Path, video: Path
) -> None:
    table = tmp_path / "t.csv"
    done = program("run", video, *HAAR, "--sink", "jsonl", "--output", table)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for row, line in zip(rows_of(table), lines, strict=True):
        (face,) = line["faces"]
        assert [int(row[key]) for key in ("x", "y", "width", "height")] == face["box"]
        assert row["emotion"] == face["emotion"]
        assert {name: float(row[name]) for name in EMOTIONS} == face["probabilities"]
        assert row["uncertain"] == str(face["uncertain"]).lower()


def test_existing_file_is_replaced(program: Program, tmp_path: Path, video: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("old")
    assert program("run", video, *HAAR, "--output", table).returncode == 0
    assert len(rows_of(table)) == 10


def test_existing_file_stays_when_the_source_cannot_be_read(
    program: Program, tmp_path: Path
) -> None:
    table, damaged = tmp_path / "t.csv", tmp_path / "damaged.mp4"
    table.write_text("old")
    damaged.write_bytes(b"no video")
    done = program("run", damaged, *HAAR, "--output", table)
    assert (done.returncode, table.read_text()) == (1, "old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.mp4", "t.csv"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_run_leaves_a_playable_video(
    tmp_path: Path, long_video: Path, number: signal.Signals
) -> None:
    copy, table = tmp_path / "b.mp4", tmp_path / "t.csv"
    words = ("run", long_video, *HAAR, "--sink", "jsonl", "--output", copy, "--output", table)
    with running(tmp_path / "state", *words) as run:
        run.wait_for('"track_id"', count=5)
        assert not copy.exists()
        code, _ = run.end(number)
    assert code == 0
    assert 5 <= int(probe(copy)["nb_read_frames"]) < 3000
    assert len(rows_of(table)) >= 5
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["b.mp4", "t.csv", "t.parquet"])
def test_full_disk_is_one_line_and_exit_code_1(
    program: Program, tmp_path: Path, video: Path, name: str
) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        ballast = fill_up(disk)
        done = program("run", video, *HAAR, "--output", disk / name)
        (line,) = error_lines(done)
        assert line.startswith(f"edge-daemon: {disk / name}: ")
        assert "No space left on device" in line
        assert done.returncode == 1
        assert list(disk.iterdir()) == [ballast]


def test_video_of_a_camera_is_refused(program: Program, tmp_path: Path) -> None:
    done = program("run", "http://127.0.0.1:9/", "--output", tmp_path / "a.mp4")
    (line,) = error_lines(done)
    assert (done.returncode, line.startswith("edge-daemon: --output: ")) == (2, True)


def test_table_of_a_camera_has_times(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    with camera(draw_scene(FACE)) as live:
        words = ("run", live.url, *HAAR, "--sink", "jsonl", "--output", table)
        with running(tmp_path / "state", *words) as run:
            run.wait_for('"track_id"', count=3)
            code, _ = run.end(signal.SIGTERM)
    times = [row["time"] for row in rows_of(table)]
    assert code == 0
    assert len(times) >= 3
    assert times == sorted(times)
    assert all(time.endswith("Z") for time in times)


def test_table_of_a_camera_survives_a_kill_and_a_restart(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    counts = []
    with camera(draw_scene(FACE)) as live:
        words = ("run", live.url, *HAAR, "--sink", "jsonl", "--output", table)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
            with running(tmp_path / "state", *words) as run:
                run.wait_for('"track_id"', count=3)
                run.end(number)
                counts.append(sum('"track_id"' in line for line in run.out))
    names = ("t-1.csv", "t-2.csv", "t.csv")
    assert sorted(path.name for path in tmp_path.glob("t*.csv")) == list(names)
    killed, *ended = [len(rows_of(tmp_path / name)) for name in names]
    # The table is written after the line, so a kill can come between them.
    assert counts[0] - 1 <= killed <= counts[0] + 1
    assert all(count >= 3 for count in ended)


@pytest.mark.parametrize(
    ("library", "name", "extra"),
    [("PIL", "a.mp4", "output"), ("PIL", "a.png", "output"), ("pyarrow", "a.parquet", "parquet")],
)
def test_output_without_its_library_names_the_extra(
    tmp_path: Path, video: Path, library: str, name: str, extra: str
) -> None:
    (tmp_path / f"{library}.py").write_text(f"raise ImportError('no {library}')")
    option = "--summary" if name == "a.png" else "--output"
    done = subprocess.run(
        [sys.executable, "-m", "edge_daemon", "run", video, *HAAR, option, tmp_path / name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(tmp_path) | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )
    (line,) = error_lines(done)
    assert f"pip install 'edge-daemon[{extra}]'" in line
    assert done.returncode == 2
