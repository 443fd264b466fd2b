"""results.py - what a result file ("mla-results") is, for plots, pages and peers.

A result file is what `mla bench --json` writes; data/results/README.md describes it. Nothing here
needs more than Python itself.
"""
import fnmatch
import json
import math
import re
import statistics

from mla import inputs

SCHEMA = "mla-results"
SCHEMA_VERSION = 1
LIMITS = {"bytes": "memory", "flop": "tensor"}  # what bounds a case: the word for it in pages
ORDER = [("graph", "cold"), ("launch", "cold"), ("graph", "hot"), ("launch", "hot"),
         ("host", "hot")]  # the CPU's copies of its inputs are what it just wrote
LEAST_SAMPLES = 6  # STATS_LEAST of base/stats.h: fewer do not hold their median in 95 of 100 cases
NOISE = 0.005  # what mla bench asks for unless told otherwise: quartile distance over median


TIME = "a time from 1e-6 to 1e15 us"


class ResultError(inputs.InputError):
    """A sentence about a file, or a case, that cannot be used."""


def _expect(good, path, place, found, expected):
    if not good:
        words = json.dumps(found)
        words = words if len(words) <= 40 else words[:40] + "..."
        raise ResultError(f"{path}: {place} is {words}, expected {expected}")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_time(value):
    return _is_number(value) and 1e-6 <= value <= 1e15


def _check_timing(path, place, timing):
    _expect(isinstance(timing, dict), path, place, timing, "an object")
    for key in ("mode", "cache"):
        _expect(isinstance(timing.get(key), str), path, f"{place}.{key}", timing.get(key),
                "a string")
    for key in ("median_us", "q1_us", "q3_us", "min_us"):
        value = timing.get(key)
        _expect(_is_time(value), path, f"{place}.{key}", value, TIME)
    samples = timing.get("samples_us")
    _expect(samples is None or (isinstance(samples, list) and samples), path,
            f"{place}.samples_us", samples, "an array with something in it")
    for index, sample in enumerate(samples or ()):
        _expect(_is_time(sample), path, f"{place}.samples_us[{index}]", sample, TIME)
    if samples:
        median = statistics.median(samples)
        _expect(math.isclose(timing["median_us"], median), path, f"{place}.median_us",
                timing["median_us"], f"the median of its samples, {median:g}")
    clocks = timing.get("clocks")
    _expect(clocks is None or isinstance(clocks, dict), path, f"{place}.clocks", clocks,
            "an object")
    for key, figure in (clocks or {}).items():
        _expect(figure is None or (isinstance(figure, dict) and all(
            _is_number(figure.get(word)) for word in ("min", "median", "max"))), path,
            f"{place}.clocks.{key}", figure, "an object with min, median and max")


def _check_measurement(path, place, measurement):
    _expect(isinstance(measurement, dict), path, place, measurement, "an object")
    case = measurement.get("case")
    _expect(isinstance(case, dict), path, f"{place}.case", case, "an object")
    _expect(isinstance(case.get("name"), str), path, f"{place}.case.name", case.get("name"),
            "a string")
    for key in ("flop", "bytes", "kv_tokens", "batch_size", "num_heads", "total_q"):
        _expect(_is_number(case.get(key)) and case[key] >= 0, path, f"{place}.case.{key}",
                case.get(key), "a number")
    bound, by = case.get("bound_us"), case.get("bound_by")
    _expect(bound is None or (_is_number(bound) and bound > 0), path, f"{place}.case.bound_us",
            bound, "a time above 0")
    _expect(bound is None or by in LIMITS, path, f"{place}.case.bound_by", by,
            " or ".join(f'"{key}"' for key in LIMITS))
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
        root = inputs.read_json(path)
    except inputs.InputError as error:
        raise ResultError(str(error)) from None
    _expect(isinstance(root, dict), path, "it", root, "an object")
    _expect(root.get("schema") == schema, path, "schema", root.get("schema"), f'"{schema}"')
    _expect(root.get("schema_version") == version, path, "schema_version",
            root.get("schema_version"), str(version))
    return root


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
    _show_names(root)
    return root


def _show_names(root):
    """Names go to terminals, pages and pictures: as inputs.shown() has them from here on."""
    environment = root.get("environment") or {}
    for key in ("gpu", "cpu"):
        if environment.get(key) is not None:
            environment[key] = inputs.shown(environment[key])
    for measurement in root["measurements"]:
        measurement["case"]["name"] = inputs.shown(measurement["case"]["name"])
        measurement["implementation"] = inputs.shown(measurement["implementation"])


def gpu_name(root):
    """"NVIDIA H200", or "no GPU"."""
    return (root.get("environment") or {}).get("gpu") or "no GPU"


def cpu_name(root):
    """"Intel(R) Xeon(R) ...", or "a CPU"."""
    return (root.get("environment") or {}).get("cpu") or "a CPU"


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


def is_settled(timing):
    """Was the noise below what was asked for? By the quartiles where the file does not say so."""
    return timing.get("settled",
                      (timing["q3_us"] - timing["q1_us"]) / timing["median_us"] < NOISE)


def has_enough_samples(timing):
    """Enough for a median that is known? A file without its samples is not doubted."""
    return len(timing.get("samples_us") or range(LEAST_SAMPLES)) >= LEAST_SAMPLES


def sign_of(timing):
    """What stands beside a median, in tables, pages and pictures: "!" noisy, "?" few samples."""
    return ("" if is_settled(timing) else "!") + ("" if has_enough_samples(timing) else "?")


SIGNS = {"!": "noise (quartile distance over median) above what was asked for, 0.5 % if nothing was",
         "?": f"fewer than {LEAST_SAMPLES} samples, whose median is not known in 95 of 100 cases"}


def clocks_text(root, timings):
    """The SM clock of these times and whether it is that of their samples; "" if nobody told.
    Older files read it once before the samples, or twice in all."""
    own = [timing["clocks"]["sm_mhz"] for timing in timings
           if timing.get("clocks") and timing["clocks"].get("sm_mhz")]
    before = [timing["sm_mhz"] for timing in timings if timing.get("sm_mhz")]
    clocks = ((root.get("environment") or {}).get("clocks") or {}).get("sm_mhz") or []
    if own:
        medians = [figure["median"] for figure in own]
        return f"SM clock {_range(medians)} MHz while the samples were taken"
    if before:
        return f"SM clock {_range(before)} MHz just before the samples"
    if clocks:
        return (f"SM clock {' and '.join(f'{mhz:,.0f}' for mhz in clocks)} MHz beside the first and "
                "the last case, that of the samples is not known")
    return ""


def _range(values):
    """"1,695 to 1,980", or "1,980"."""
    words = dict.fromkeys(f"{value:,.0f}" for value in (min(values), max(values)))
    return " to ".join(words)


def case_matches(measurement, pattern):
    """Does --case choose it? None chooses all."""
    return pattern is None or fnmatch.fnmatchcase(measurement["case"]["name"], pattern)


def percent_text(percent):
    """"41 %", or "0.6 %": a whole number unless that would be 0 or close to it."""
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1f} %"


def case_key(case):
    """What tells the cases of a file apart."""
    return case["name"], case.get("sha256")


def bound_of(case):
    """(microseconds, "memory" or "tensor") of the least time that the measured ceilings allow, or
    None if they were not measured."""
    return (case["bound_us"], LIMITS[case["bound_by"]]) if case.get("bound_us") else None
