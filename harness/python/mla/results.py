"""results.py - reading and writing result files ("mla-results"), for plots, pages and peers.

A result file is what `mla bench --json` writes; data/results/README.md describes it. Nothing here
needs more than Python itself.
"""
import fnmatch
import json
import re

SCHEMA = "mla-results"
SCHEMA_VERSION = 1
ORDER = [("graph", "cold"), ("launch", "cold"), ("graph", "hot"), ("launch", "hot")]


class ResultError(Exception):
    """A sentence about a file that cannot be used."""


def _expect(good, path, place, found, expected):
    if not good:
        words = json.dumps(found)
        words = words if len(words) <= 40 else words[:40] + "..."
        raise ResultError(f"{path}: {place} is {words}, expected {expected}")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_timing(path, place, timing):
    _expect(isinstance(timing, dict), path, place, timing, "an object")
    for key in ("mode", "cache"):
        _expect(isinstance(timing.get(key), str), path, f"{place}.{key}", timing.get(key),
                "a string")
    for key in ("median_us", "q1_us", "q3_us", "min_us"):
        value = timing.get(key)
        _expect(_is_number(value) and value > 0, path, f"{place}.{key}", value, "a time above 0")


def _check_measurement(path, place, measurement):
    _expect(isinstance(measurement, dict), path, place, measurement, "an object")
    case = measurement.get("case")
    _expect(isinstance(case, dict), path, f"{place}.case", case, "an object")
    _expect(isinstance(case.get("name"), str), path, f"{place}.case.name", case.get("name"),
            "a string")
    for key in ("flop", "bytes", "kv_tokens", "batch_size", "num_heads", "total_q"):
        _expect(_is_number(case.get(key)) and case[key] >= 0, path, f"{place}.case.{key}",
                case.get(key), "a number")
    for key in ("implementation", "status"):
        _expect(isinstance(measurement.get(key), str), path, f"{place}.{key}",
                measurement.get(key), "a string")
    if measurement["status"] != "PASS":
        return
    timings = measurement.get("timings")
    _expect(isinstance(timings, list) and timings, path, f"{place}.timings", timings,
            "an array with something in it")
    for index, timing in enumerate(timings):
        _check_timing(path, f"{place}.timings[{index}]", timing)


def load_json(path, schema, version):
    """The file's object, if it says that it has this schema. ResultError."""
    try:
        with open(path, encoding="utf-8") as file:
            root = json.load(file)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path}: is no JSON: {error}") from None
    _expect(isinstance(root, dict), path, "it", root, "an object")
    _expect(root.get("schema") == schema, path, "schema", root.get("schema"), f'"{schema}"')
    _expect(root.get("schema_version") == version, path, "schema_version",
            root.get("schema_version"), str(version))
    return root


def load_ceilings(path, gpu):
    """What mla ceilings wrote about a GPU, in the form of a result file's "ceilings": {"read_gbs":
    ...}. None if it says nothing of that GPU. ResultError."""
    entries = load_json(path, "mla-ceilings", 1).get("gpus")
    _expect(isinstance(entries, dict), path, "gpus", entries, "an object")
    entry = entries.get(gpu)
    if entry is None:
        return None
    _expect(isinstance(entry, dict), path, f"gpus.{gpu}", entry, "an object")
    found = {}
    for key, value in entry.items():
        if isinstance(value, dict):  # beside "date"; {"why": ...} is what could not be measured
            median = value.get("median")
            _expect("why" in value or (_is_number(median) and median > 0), path, f"{key}.median",
                    median, "a number above 0")
            found[key] = median
    return found


def load(path):
    """The result file as a dict, checked as far as plots and pages go. ResultError."""
    root = load_json(path, SCHEMA, SCHEMA_VERSION)
    for key in ("environment", "ceilings"):
        _expect(root.get(key) is None or isinstance(root[key], dict), path, key, root.get(key),
                "an object")
    for key, value in (root.get("ceilings") or {}).items():
        _expect(value is None or (_is_number(value) and value > 0), path, f"ceilings.{key}", value,
                "a number above 0")
    measurements = root.get("measurements")
    _expect(isinstance(measurements, list), path, "measurements", measurements, "an array")
    for index, measurement in enumerate(measurements):
        _check_measurement(path, f"measurements[{index}]", measurement)
    return root


def gpu_name(root):
    """"NVIDIA H200", or "no GPU"."""
    return (root.get("environment") or {}).get("gpu") or "no GPU"


def kind_of(implementation):
    """"rung" (02_splitk), "peer" (flashinfer:fa3) or "cpu" (online)."""
    if ":" in implementation:
        return "peer"
    return "rung" if re.match(r"\d+[a-z]?_", implementation) else "cpu"


def implementation_key(implementation):
    """Sorts the CPU first, then rungs in their order, then peers."""
    return ["cpu", "rung", "peer"].index(kind_of(implementation)), implementation


def timing_of(measurement, mode=None, cache=None):
    """The timing in this mode and state of the cache; None for either: the first there is in ORDER.
    None if there is none, or the measurement did not pass."""
    if measurement["status"] != "PASS":
        return None
    found = {(t["mode"], t["cache"]): t for t in reversed(measurement["timings"])}
    for key in ORDER:
        if key in found and mode in (None, key[0]) and cache in (None, key[1]):
            return found[key]
    return None


def case_matches(measurement, pattern):
    """Does --case choose it? None chooses all."""
    return pattern is None or fnmatch.fnmatchcase(measurement["case"]["name"], pattern)


def tensor_ceiling(ceilings):
    """The higher of the measured tensor rates in TFLOP/s (cuBLAS bounds nobody else), or None."""
    rates = [(ceilings or {}).get(key) for key in ("mma_tflops", "wgmma_tflops", "gemm_tflops")]
    return max((rate for rate in rates if rate), default=None)


def percent_text(percent):
    """"41 %", or "0.6 %": a whole number unless that would be 0 or close to it."""
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1f} %"


def bound_us(case, ceilings):
    """(microseconds, "memory" or "tensor") that the measured ceilings allow, or None without."""
    read, tensor = (ceilings or {}).get("read_gbs"), tensor_ceiling(ceilings)
    if not read or not tensor:
        return None
    return max((case["bytes"] / read * 1e-3, "memory"), (case["flop"] / tensor * 1e-6, "tensor"))
