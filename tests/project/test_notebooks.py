"""The notebooks run from the first cell to the last, and are kept without outputs."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_kept(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.filterwarnings("ignore")  # of Jupyter, which is no part of the project
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    """A result shows its page, and progress is drawn below the cell; a cell that fails is an error."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pages = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert any(page.startswith("<iframe") and "int" in page for page in pages)
    assert all("pre" not in page or page.startswith("<iframe") for page in pages)  # text is no page that rich draws
    text = "".join(output.text for output in shown if output.output_type == "stream")
    assert "float: 9" in text or "float: 100" in text  # trained
    assert "dB" in text and "INFO:tensorflow" not in text
