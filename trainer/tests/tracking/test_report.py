import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from emotion_trainer.cli import main
from emotion_trainer.tracking.summary import summarise
from emotion_trainer.training.runs import Run


class Page(HTMLParser):
    """The cells of the page's table, its plots, and what it would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.plots = 0
        self.loaded: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_cell = self._in_cell or tag == "td"
        self.plots += tag == "svg"
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        self.loaded += [value or "" for name, value in attrs if name == "src"]

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data.strip()


@pytest.fixture
def work(place: Path, tmp_path: Path) -> Path:
    """Two runs, the second without an export and without predictions, and what is no run."""
    work = tmp_path / "work"
    shutil.copytree(place / "run", work / "whole")
    bare = shutil.ignore_patterns("*.predictions.npz", "*.tflite")
    shutil.copytree(place / "run", work / "bare", ignore=bare)
    (work / "mlflow.db").touch()
    return work


def page(work: Path, *arguments: str) -> str:
    out = work.parent / "report.html"
    paths = [str(path) for path in sorted(work.iterdir(), reverse=True)]
    assert main(["report", *paths, "--out", str(out), *arguments]) == 0
    return out.read_text(encoding="utf-8")


def test_runs_are_compared(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page(work)
    found = Page(text)
    summary = summarise(Run(work / "whole"))
    metrics = summary.predictions["int8"].metrics
    _, whole, bare = found.rows
    assert whole[:7] == [
        *("whole", "tiny", "resnet", f"{summary.mmac:.1f}", f"{summary.parameters:,}"),
        *("4 of 4", str(summary.best.number)),
    ]
    assert whole[7:9] == [f"{summary.best.score:.4f}", f"{metrics.accuracy:.4f}"]
    name, recall = min(metrics.recall.items(), key=lambda item: item[1])
    assert whole[10] == f"{name} {recall:.2f}"
    assert bare[7:11] == [f"{summary.best.score:.4f}", "-", "-", "-"]
    assert found.plots == 4, "curves, accuracy and cost, and two of the run with predictions"
    assert not found.loaded
    assert "(PublicTest)" in text
    assert str(work.parent / "report.html") in capsys.readouterr().out


def test_report_with_data_computes_missing_figures(work: Path, place: Path) -> None:
    found = Page(page(work, "--data", str(place / "sheets")))
    assert found.plots == 6
    assert found.rows[2][8] == "-"
    assert found.rows[2][9] != "-"


def test_report_two_runs_of_one_name_are_distinguished(work: Path) -> None:
    shutil.copytree(work / "whole", work / "deeper" / "whole")
    out = work.parent / "report.html"
    runs = [str(work / "whole"), str(work / "deeper" / "whole")]
    assert main(["report", *runs, "--out", str(out)]) == 0
    assert [row[0] for row in Page(out.read_text()).rows[1:]] == runs


def test_report_without_a_run_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out.html")]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "out.html").exists()
