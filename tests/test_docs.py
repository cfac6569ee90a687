"""The docs are true: code in the README runs, files that they name exist."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from docs import scaling  # noqa: E402
from docs.zoo_table import rows  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    assert names["logits"].shape == (2, 10)
    assert list(names["stages"]) == ["stem", "stage1", "stage2", "stage3", "stage4"]
    assert "(2, 4, 4, 32)" in capsys.readouterr().out


def test_python_of_the_page_on_analyses_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/analysis.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    assert names["error"].shape == (9,)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    for config in re.findall(r"--config=(\S+\.py)", text):
        assert (ROOT / config).exists(), config


def test_table_of_named_networks_is_that_of_the_code():
    assert "\n".join(rows()) in (ROOT / "docs" / "models.md").read_text()


def test_table_of_expected_scaling_is_that_of_its_script():
    assert "\n".join(scaling.rows()) in (ROOT / "docs" / "parallelism.md").read_text()
