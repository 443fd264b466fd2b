"""run.py - executes the notebooks, each in its own kernel, with notebooks/ as working directory.

    notebooks/run.sh [NOTEBOOK...]       executes in place: outputs are written into the files

execute() is what tests/test_notebooks.py uses too. A cell that raises stops everything.
"""
import os
import sys

import nbclient
import nbformat

HERE = os.path.dirname(os.path.abspath(__file__))
CELL_SECONDS = 120
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # kernels warn of their debugger otherwise


def names():
    """The notebooks, in order."""
    return sorted(name for name in os.listdir(HERE) if name.endswith(".ipynb"))


def why_not(name):
    """Why a notebook cannot run here, in words; None if it can."""
    captures = os.path.join(HERE, "..", "data", "captures")
    if name.startswith("00_") and not any(file.endswith(".h5") for file in os.listdir(captures)):
        return "data/captures holds no capture"
    return None


def join_streams(outputs):
    """Prints that follow each other as one output, however they were delivered."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == "stream" and output["name"] == last.get("name"):
            last["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def execute(name):
    """The notebook as it looks after execution; raises what nbclient raises."""
    notebook = nbformat.read(os.path.join(HERE, name), as_version=4)
    nbclient.NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3",
                            record_timing=False,
                            resources={"metadata": {"path": HERE}}).execute()
    for cell in notebook.cells:
        if cell["cell_type"] == "code":
            cell["outputs"] = join_streams(cell["outputs"])
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"],
                         "language_info": {"name": "python"}}  # no versions: they change nothing
    return notebook


def main(chosen):
    for name in chosen or names():
        name = os.path.basename(name)
        why = why_not(name)
        if why:
            print(f"SKIPPED {name}, {why}")
            continue
        notebook = execute(name)
        nbformat.write(notebook, os.path.join(HERE, name))
        size = os.path.getsize(os.path.join(HERE, name))
        print(f"ok {name}, {len(notebook.cells)} cells, {size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
