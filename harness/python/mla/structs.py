"""structs.py - mla.h in ctypes: its words, structs and prototypes, and the library behind them.

harness/mla.h is the authority. Every struct there has its mirror here, field by field (mla_config
is Config, mla_work is Work, ...), and every function its prototype in PROTOTYPES. Users say mla.X:
the package brings all of it.
"""
import ctypes
import enum
import functools
import operator
import os
import re
from ctypes import c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p

VERSION = "0.2.0"
"""MLA_VERSION of the mla.h that this package mirrors. Later libraries take what it passes."""

# ---- words of mla.h -----------------------------------------------------------------------------


class Status(enum.IntEnum):
    """enum mla_status"""
    OK = 0
    INVALID = 1
    REFUSED = 2
    CAPACITY = 3
    NO_MEMORY = 4
    CUDA = 5
    NO_CUDA = 6


class Dtype(enum.IntEnum):
    """enum mla_dtype"""
    BF16 = 0
    F16 = 1
    F32 = 2
    E4M3 = 3


class LseBase(enum.IntEnum):
    """enum mla_lse_base"""
    NATURAL = 0
    BASE2 = 1


class MergeKind(enum.IntEnum):
    """enum mla_merge_kind"""
    NONE = 0
    SEPARATE = 1
    FUSED = 2


class MlaError(RuntimeError):
    """What libmla reports. status: a Status; text: its sentence."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = Status(status)
        self.text = text


class InvalidError(MlaError, ValueError):
    """An argument is wrong (INVALID), or beyond the capacity of the plan (CAPACITY)."""


class LibraryError(RuntimeError, OSError):
    """There is no libmla.so that this package can use, in a sentence."""


def _check(status, _function, _arguments):
    """errcheck of every function that returns an mla_status."""
    if status:
        wrong = status in (Status.INVALID, Status.CAPACITY)
        text = library().mla_last_error().decode(errors="replace")
        raise (InvalidError if wrong else MlaError)(status, text)


# ---- structs of mla.h ---------------------------------------------------------------------------

_THREE = c_int64 * 3
_INTEGERS = {c_int32: (-2**31, 2**31 - 1), c_uint32: (0, 2**32 - 1), c_int64: (-2**63, 2**63 - 1)}


class _Struct(ctypes.Structure):
    """Fills struct_size, takes numpy integers, and refuses integers that C would cut off."""

    def __init__(self, **values):
        types = dict(self._fields_)
        for name, value in values.items():
            if types.get(name) in _INTEGERS:
                least, most = _INTEGERS[types[name]]
                try:
                    values[name] = operator.index(value)
                except TypeError:
                    raise TypeError(f"{type(self).__name__}.{name} is {value!r}, expected an "
                                    "integer") from None
                if not least <= values[name] <= most:
                    raise ValueError(f"{type(self).__name__}.{name} is {value}, expected {least} "
                                     f"to {most}")
        if "struct_size" in types:
            values["struct_size"] = ctypes.sizeof(self)
        super().__init__(**values)

    def __repr__(self):
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name, *_ in self._fields_
                           if name not in ("struct_size", "reserved"))
        return f"{type(self).__name__}({fields})"


class Tensor(_Struct):
    """mla_tensor: a strided array; strides in bytes. tensor() makes one of an array."""
    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("ndim", c_int32),
                ("extent", _THREE), ("stride", _THREE)]
    __init__ = ctypes.Structure.__init__  # many are made per run, of values that fit


class Config(_Struct):
    """mla_config; config() makes one with defaults."""
    _fields_ = [("struct_size", c_uint32), ("num_heads", c_int32), ("head_dim_ckv", c_int32),
                ("head_dim_kpe", c_int32), ("page_size", c_int32), ("causal", c_int32),
                ("lse_base", c_int32), ("q_dtype", c_int32), ("ckv_dtype", c_int32),
                ("kpe_dtype", c_int32), ("out_dtype", c_int32), ("fixed_split", c_int32),
                ("sm_scale", c_double)]


class Batch(_Struct):
    """mla_batch; batch() makes one of arrays, which it then keeps alive."""
    _fields_ = [("struct_size", c_uint32), ("batch_size", c_int32),
                ("qo_indptr", ctypes.POINTER(c_int32)), ("kv_indptr", ctypes.POINTER(c_int32)),
                ("kv_len", ctypes.POINTER(c_int32)), ("q_pos0", ctypes.POINTER(c_int32))]

    @property
    def total_q(self):
        """Queries of the batch, qo_indptr[B]."""
        return self.qo_indptr[self.batch_size] if self.batch_size else 0

    @property
    def total_pages(self):
        """Entries of kv_indices that the batch may use, kv_indptr[B]."""
        return self.kv_indptr[self.batch_size] if self.batch_size else 0


class Device(_Struct):
    """mla_device: arch (90: compute capability 9.0), sm_count, smem_per_block in bytes."""
    _fields_ = [("struct_size", c_uint32), ("arch", c_int32), ("sm_count", c_int32),
                ("smem_per_block", c_int32)]


class Capacity(_Struct):
    """mla_capacity: the largest batch that a plan can take; 0 where mla.h gives 0 a meaning."""
    _fields_ = [("struct_size", c_uint32), ("max_requests", c_int32), ("max_queries", c_int32),
                ("max_qo_len", c_int32), ("max_kv_len", c_int32), ("reserved", c_int32),
                ("max_kv_tokens", c_int64), ("max_pages", c_int64)]


class Traits(_Struct):
    """mla_traits: what the planner needs to know about a kernel."""
    _fields_ = [("struct_size", c_uint32), ("tile_rows", c_int32), ("kv_granule", c_int32),
                ("ctas_per_sm", c_int32), ("ctas_per_worker", c_int32), ("item_cost", c_int32),
                ("merge_cost", c_int32), ("merge", c_int32), ("align", c_int32),
                ("threads", c_int32)]


class KernelInfo(_Struct):
    """mla_kernel_info; kernels() gives them as tuples."""
    _fields_ = [("struct_size", c_uint32), ("built", c_int32), ("name", c_char_p),
                ("summary", c_char_p), ("arch", c_char_p), ("fixed_split", c_int32),
                ("reserved", c_int32), ("ideas", c_char_p)]


class Work(_Struct):
    """mla_work: a piece of attention, rows x keys of one request."""
    _fields_ = [("request", c_int32), ("row_begin", c_int32), ("row_end", c_int32),
                ("kv_begin", c_int32), ("kv_end", c_int32), ("partial", c_int32),
                ("q_begin", c_int32), ("page_begin", c_int32), ("q_pos0", c_int32),
                ("reserved", c_int32 * 3)]


class MergeItem(_Struct):
    """mla_merge_item: a tile whose keys were split."""
    _fields_ = [("row_begin", c_int32), ("rows", c_int32), ("partial", c_int32),
                ("num_splits", c_int32)]


class PlanInfo(_Struct):
    """mla_plan_info: counts, rows and bytes of a plan. kernel_name is kernel as a str."""
    _fields_ = [("struct_size", c_uint32), ("batch_size", c_int32), ("total_q", c_int32),
                ("num_workers", c_int32), ("num_items", c_int32), ("num_merges", c_int32),
                ("max_items", c_int32), ("max_merges", c_int32), ("partial_rows", c_int64),
                ("max_partial_rows", c_int64), ("blob_bytes", c_int64),
                ("scratch_bytes", c_int64), ("max_worker_cost", c_int64),
                ("mean_worker_cost", c_int64), ("kernel", c_char_p), ("traits", Traits)]

    @property
    def kernel_name(self):
        """"02_splitk", or "" if the plan was made for traits."""
        return self.kernel.decode()


class Tensors(_Struct):
    """mla_tensors; tensors() makes one of arrays, which it then keeps alive."""
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("q_nope", Tensor),
                ("q_pe", Tensor), ("ckv", Tensor), ("kpe", Tensor), ("ckv_scale", Tensor),
                ("kpe_scale", Tensor), ("out", Tensor), ("lse", Tensor),
                ("kv_indices", c_void_p), ("num_kv_indices", c_int64), ("scratch", c_void_p),
                ("scratch_bytes", c_int64)]


class MergeArgs(_Struct):
    """mla_merge_args; merge() fills them."""
    _fields_ = [("struct_size", c_uint32), ("lse_base", c_int32), ("states", Tensor),
                ("states_lse", Tensor), ("out", Tensor), ("lse", Tensor)]


STRUCTS = {"mla_tensor": Tensor, "mla_config": Config, "mla_batch": Batch, "mla_device": Device,
           "mla_capacity": Capacity, "mla_traits": Traits, "mla_kernel_info": KernelInfo,
           "mla_work": Work, "mla_merge_item": MergeItem, "mla_plan_info": PlanInfo,
           "mla_tensors": Tensors, "mla_merge_args": MergeArgs}

# ---- functions of mla.h -------------------------------------------------------------------------

_P = ctypes.POINTER
_STATUS = "mla_status"  # becomes an int whose non-zero values are raised

PROTOTYPES = {
    "mla_last_error": (c_char_p, []),
    "mla_version": (c_char_p, []),
    "mla_status_name": (c_char_p, [c_int]),
    "mla_device_query": (_STATUS, [_P(Device)]),
    "mla_capacity_of": (_STATUS, [_P(Config), _P(Batch), _P(Capacity)]),
    "mla_kernel_count": (c_int, []),
    "mla_kernel_get": (_STATUS, [c_int, _P(KernelInfo)]),
    "mla_kernel_accepts": (_STATUS, [c_char_p, _P(Config), _P(Device)]),
    "mla_kernel_traits": (_STATUS, [c_char_p, _P(Config), _P(Device), _P(Traits)]),
    "mla_plan_create": (_STATUS, [c_char_p, _P(Config), _P(Device), _P(Capacity), _P(c_void_p)]),
    "mla_plan_create_for_traits": (_STATUS, [_P(Traits), _P(Config), _P(Device), _P(Capacity),
                                             _P(c_void_p)]),
    "mla_plan_destroy": (None, [c_void_p]),
    "mla_plan_build": (_STATUS, [c_void_p, _P(Batch)]),
    "mla_plan_get_info": (_STATUS, [c_void_p, _P(PlanInfo)]),
    "mla_plan_config": (_P(Config), [c_void_p]),
    "mla_plan_batch": (_P(Batch), [c_void_p]),
    "mla_plan_items": (_P(Work), [c_void_p]),
    "mla_plan_workers": (_P(c_int32), [c_void_p]),
    "mla_plan_merges": (_P(MergeItem), [c_void_p]),
    "mla_plan_format": (c_size_t, [c_void_p, c_int, c_char_p, c_size_t]),
    "mla_plan_prepare": (_STATUS, [c_void_p]),
    "mla_plan_upload": (_STATUS, [c_void_p, c_void_p]),
    "mla_run": (_STATUS, [c_void_p, _P(Tensors), c_void_p]),
    "mla_check_pages": (_STATUS, [c_void_p, _P(Tensors), c_void_p]),
    "mla_check_pages_host": (_STATUS, [_P(Config), _P(Batch), _P(Tensors)]),
    "mla_merge": (_STATUS, [_P(MergeArgs), c_void_p]),
    "mla_merge_host": (_STATUS, [_P(MergeArgs)]),
    "mla_reference": (_STATUS, [_P(Config), _P(Batch), _P(Tensors)]),
    "mla_reference_plan": (_STATUS, [c_void_p, _P(Tensors)]),
}


_HERE = os.path.dirname(os.path.abspath(__file__))


def home():
    """The folder whose lib/ and bin/ belong to this package: this checkout's build/, or the bundle
    or installation that it lies in as share/mla/python/mla."""
    shared = _HERE.split(os.sep)[-4:] == ["share", "mla", "python", "mla"]
    up = [_HERE, *[os.pardir] * (4 if shared else 3), *([] if shared else ["build"])]
    return os.path.normpath(os.path.join(*up))


def library_path():
    """The libmla.so that library() loads: $MLA_LIBRARY, that of home(), or the loader's."""
    chosen = os.environ.get("MLA_LIBRARY")
    if chosen:
        return chosen
    own = os.path.join(home(), "lib", "libmla.so")
    return own if os.path.exists(own) else "libmla.so"


_ADVICE = ": run make, or set MLA_LIBRARY to a libmla.so"


def _expect_ours(path, lib):
    """LibraryError unless lib is a libmla of this package's version or a later one."""
    missing = [name for name in PROTOTYPES if not hasattr(lib, name)]
    if "mla_version" in missing:
        raise LibraryError(f"{path} is no libmla.so, it has no mla_version(){_ADVICE}")
    lib.mla_version.restype = c_char_p
    said = (lib.mla_version() or b"").decode(errors="replace")
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", said)
    if not found or [int(part) for part in found.groups()] < [int(part)
                                                             for part in VERSION.split(".")]:
        raise LibraryError(f"{path} is libmla {said!r}, expected {VERSION} or later{_ADVICE} of "
                           "that version")
    if missing:
        raise LibraryError(f"{path} is libmla {said!r} without {', '.join(missing[:3])}, which "
                           f"{VERSION} has{_ADVICE} that is whole")


@functools.lru_cache(maxsize=None)
def library():
    """The loaded library with all prototypes set. LibraryError says how to get one."""
    path = library_path()
    try:
        lib = ctypes.CDLL(path)
    except OSError as error:
        raise LibraryError(f"{path} cannot be loaded ({error}){_ADVICE}") from None
    _expect_ours(path, lib)
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(lib, name)
        function.argtypes = arguments
        function.restype = c_int if result == _STATUS else result
        if result == _STATUS:
            function.errcheck = _check
    return lib
