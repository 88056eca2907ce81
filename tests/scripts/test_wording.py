"""The wording check: what it finds."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Checkout:
    """A small repository with the wording check in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "scripts").mkdir()
        for name in ("wording", "wording.toml"):
            shutil.copy(ROOT / "scripts" / name, folder / "scripts")
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "scripts/wording", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    def findings(self) -> list[str]:
        """The path, line and text of each finding."""
        return [line.rpartition(": use ")[0] for line in self.run()[1]]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    return Checkout(tmp_path)


def test_word_and_part_of_identifier_are_found(checkout: Checkout) -> None:
    checkout.write("docs/page.md", "Fine.\nIt said so, again\nand again.\nA retold story.\n")
    checkout.write("code/part.py", "def whoToldIt():\n    most_told = 1\n    MOST_FACES = 8\n")
    assert checkout.findings() == [
        "code/part.py:1: 'Told'",
        "code/part.py:2: 'told'",
        "code/part.py:3: 'MOST_FACES'",
        "docs/page.md:2: 'said'",
        "docs/page.md:2: 'again and again'",
    ]


def test_name_in_comment_or_string_is_no_finding(checkout: Checkout) -> None:
    checkout.write("code.py", '# a value that is given\ntext = "given"\ngiven = 1\n')
    assert checkout.findings() == ["code.py:3: 'given'"]


def test_any_finding_fails(checkout: Checkout) -> None:
    checkout.write("docs/a.md", "again\n")
    assert checkout.run() == (0, [])
    checkout.write("docs/b.md", "anew\n")
    exit_code, lines = checkout.run()
    assert (exit_code, len(lines)) == (1, 1)


def test_path_restricts_the_findings(checkout: Checkout) -> None:
    checkout.write("docs/a.md", "anew\n")
    checkout.write("code/b.md", "anew\n")
    assert len(checkout.run("docs")[1]) == 1


def test_exception_applies_to_its_path_and_word(checkout: Checkout) -> None:
    rules = checkout.folder / "scripts/wording.toml"
    entry = '[[allow]]\npath = "docs/*"\nword = "told"\nreason = "a quotation"\n'
    rules.write_text(rules.read_text() + entry)
    checkout.write("docs/a.md", "told anew\n")
    checkout.write("code/a.md", "told\n")
    assert checkout.findings() == ["code/a.md:1: 'told'", "docs/a.md:1: 'anew'"]
