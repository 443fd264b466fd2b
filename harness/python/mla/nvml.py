"""nvml.py - clocks and power of a GPU, from the driver's own library, where it is there.

harness/device/nvml.h does the same for the program, which peers.py is no part of.
"""
import ctypes
import statistics

LIBRARY = "libnvidia-ml.so.1"
CLOCK_SM, CLOCK_MEM = 1, 2


class Nvml:
    """The device of this UUID, "GPU-...". OSError if there is no such library or device."""

    def __init__(self, uuid, library=LIBRARY):
        self.library = ctypes.CDLL(library)
        self.device = ctypes.c_void_p()
        if self.library.nvmlInit_v2():
            raise OSError(f"{library}: nvmlInit_v2 failed")
        if self.library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(self.device)):
            raise OSError(f"{library}: has no device {uuid}")

    def _number(self, name, *words):
        """What a function of the library says, None if it does not."""
        value = ctypes.c_uint()
        status = getattr(self.library, name)(self.device, *words, ctypes.byref(value))
        return value.value if not status and value.value else None

    def read(self):
        """{figure: number} now, of what is told; the SM's clock first, because it changes fastest.
        The driver averages power over a second."""
        found = {"sm_mhz": self._number("nvmlDeviceGetClockInfo", CLOCK_SM),
                 "mem_mhz": self._number("nvmlDeviceGetClockInfo", CLOCK_MEM),
                 "power_w": self._number("nvmlDeviceGetPowerUsage")}
        if found["power_w"]:
            found["power_w"] /= 1000
        return {key: value for key, value in found.items() if value}


def opened(uuid, library=LIBRARY):
    """An Nvml, or None where it cannot be had."""
    try:
        return Nvml(uuid, library)
    except (OSError, AttributeError):
        return None


def load(readings):
    """"clocks" of a timing, from the readings that were made during its samples; None of none."""
    clocks = {}
    for key in ("sm_mhz", "mem_mhz", "power_w"):
        values = [reading[key] for reading in readings if key in reading]
        clocks[key] = {"min": min(values), "median": statistics.median(values),
                       "max": max(values), "n": len(values)} if values else None
    return clocks if clocks["sm_mhz"] else None
