"""What is made from the code is as the code is now: the tree in README, the command line's help pages."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_generated_documents_are_not_stale():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_file_of_the_package_is_in_the_tree():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "stillmark").rglob("*.py"):
        assert path.name == "__init__.py" or f" {path.name} " in readme or f"/{path.name} " in readme, path


def test_links_between_documents_lead_somewhere():
    import re

    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page}: {target}"
