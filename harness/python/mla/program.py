"""program.py - asks the program mla what it alone knows: cells and their lengths, what cases cost,
how fast they can be at best, and by which tolerances they are judged.

The program is $MLA_PROGRAM, or bin/mla beside the lib/ of the library in use or of this package's
own build, bundle or installation, or the one on PATH.
"""
import os
import subprocess
import sys

from mla import inputs, results, structs


def path():
    """The program that cases() runs."""
    chosen = os.environ.get("MLA_PROGRAM")
    if chosen:
        return chosen
    library = os.path.dirname(structs.library_path())
    homes = [os.path.join(library, os.pardir)] if library else []
    for home in [*homes, structs.home()]:
        beside = os.path.normpath(os.path.join(home, "bin", "mla"))
        if os.path.exists(beside):
            return beside
    return "mla"


def cases(*words):
    """What `mla cases --json` says, an object with "seed", "gpu", "ceilings", "tolerances" and
    "cases"; data/results/README.md describes it. ResultError with the program's own sentence."""
    command = [path(), "cases", "--json", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise results.ResultError(f"{command[0]} cannot be run ({error}): run make, or set "
                                  "MLA_PROGRAM to the program mla") from None
    if done.returncode:
        sentence = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise results.ResultError(f"{' '.join(command)}: {sentence}")
    sys.stderr.write(done.stderr)  # what is not known is said there
    try:
        root = inputs.parse_json(done.stdout)
    except ValueError as error:
        raise results.ResultError(f"{' '.join(command)}: is no JSON: {error}") from None
    return root


def load_results(file):
    """A result file, as results.load() gives it. A file from before bounds were written gets them
    from the program, which works them out from the file's own work and ceilings. ResultError."""
    root = results.load(file)
    found = [measurement["case"] for measurement in root["measurements"]]
    if not root.get("ceilings") or ("tensor_tflops" in root["ceilings"]
                                    and all("bound_us" in case for case in found)):
        return root
    said = cases("--", file)
    for case in said["cases"]:
        case["name"] = inputs.shown(case["name"])  # as results.load() has it
    known = {results.case_key(case): case for case in said["cases"]}
    for case in found:
        case.update({key: known[results.case_key(case)][key] for key in ("bound_us", "bound_by")})
    root["ceilings"] = said["ceilings"]
    return root
