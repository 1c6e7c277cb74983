"""Run the notebook docs/tutorial.ipynb and store what it shows: `python -m tests.docs.tutorial`."""

from typing import Any

import nbformat
from nbclient import NotebookClient

from ascent.runners import platform
from docs.generators.notebook import FILE


def executed() -> Any:
    """Return the notebook with the output of its cells, run now. Raises CellExecutionError if one fails.

    What cells print on standard error is progress, which differs each time, and is left out.
    """
    notebook = nbformat.read(FILE, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    for k, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{k}"
        cell["metadata"] = {}
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    notebook.metadata = {"language_info": {"name": "python"}, "platform": platform.platform_key()}
    return notebook


def shown(notebook: Any) -> list[str]:
    """Return the text that the cells show, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [
        output.text if output.output_type == "stream" else output.data["text/plain"] for output in outputs
    ]


if __name__ == "__main__":
    nbformat.write(executed(), FILE)
