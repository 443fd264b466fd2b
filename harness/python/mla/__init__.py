"""mla - libmla from Python: a ctypes binding with numpy arrays and torch tensors.

harness/mla.h is the authority. Every struct there has its mirror here, field by field (mla_config
is Config, mla_work is Work, ...), and every function its prototype in PROTOTYPES; they stand in
structs.py. On top stand a few thin wrappers:

    config(...)                     what never changes in the life of a plan
    batch(...)                      one ragged batch, CSR arrays
    reference(config, batch, ...)   the truth, on the CPU
    Plan                            create, build, upload, run; items, merges, info, format
    reference_plan(plan, ...)       executes a built plan item by item on the CPU
    merge(states, states_lse)       joins attention states over different keys
    kernels(), refusal(), traits()  the ladder, and what a rung takes
    device_query()                  the current GPU as values
    to_bf16(), from_bf16()          numpy has no bfloat16: uint16 arrays hold its bits

Arrays are numpy arrays (uint16: bf16 bits, float16, float32) or torch tensors (bfloat16, float16,
float32). They are passed by address and stride, never copied: a fused 576-wide cache is
cache[..., :512] and cache[..., 512:]. torch is used where the caller brings tensors of it, and
never imported here.

What the library finds wrong is raised as MlaError with the library's own sentence; that there is
no library, another one or an older one, as LibraryError. The library is looked for in $MLA_LIBRARY,
then in lib/ of this checkout's build or of the bundle or installation that this package lies in,
then where the loader finds installed libraries; it is loaded by the first call that needs it.
"""
import ctypes
import reprlib
import sys
from ctypes import c_int32, c_void_p
from typing import NamedTuple

import numpy as np

from mla.structs import (PROTOTYPES, STRUCTS, VERSION, Batch, Capacity, Config, Device, Dtype,
                         InvalidError, KernelInfo, LibraryError, LseBase, MergeArgs, MergeItem,
                         MergeKind, MlaError, PlanInfo, Status, Tensor, Tensors, Traits, Work,
                         library, library_path)

__all__ = ["PROTOTYPES", "STRUCTS", "VERSION", "Batch", "Capacity", "Config", "Device", "Dtype",
           "InvalidError", "Kernel", "KernelInfo", "LibraryError", "LseBase", "MergeArgs",
           "MergeItem", "MergeKind", "MlaError", "Plan", "PlanInfo", "Status", "Tensor", "Tensors",
           "Traits", "Work", "batch", "capacity_of", "config", "device_query", "dtype_of",
           "from_bf16", "is_cuda", "is_torch", "kernels", "library", "library_path", "merge",
           "reference", "reference_plan", "refusal", "tensor", "tensors", "to_bf16", "traits"]

# ---- arrays -------------------------------------------------------------------------------------

_DTYPES = {"bf16": Dtype.BF16, "uint16": Dtype.BF16, "torch.bfloat16": Dtype.BF16,
           "fp16": Dtype.F16, "float16": Dtype.F16, "torch.float16": Dtype.F16,
           "f32": Dtype.F32, "float32": Dtype.F32, "torch.float32": Dtype.F32,
           "e4m3": Dtype.E4M3, "torch.float8_e4m3fn": Dtype.E4M3}
_NUMPY = {Dtype.BF16: np.uint16, Dtype.F16: np.float16, Dtype.F32: np.float32}
_TORCH = {Dtype.BF16: "bfloat16", Dtype.F16: "float16", Dtype.F32: "float32"}


def dtype_of(dtype):
    """A Dtype from a word ("bf16", "fp16", "f32", "e4m3"), a numpy or a torch dtype.

    numpy's uint16 means the bits of bf16. ValueError for anything else."""
    if isinstance(dtype, Dtype):
        return dtype
    name = np.dtype(dtype).name if isinstance(dtype, (type, np.dtype)) else str(dtype)
    try:
        return _DTYPES[name]
    except KeyError:
        raise ValueError(f"dtype {name} is not one of {', '.join(sorted(_DTYPES))}") from None


def is_torch(array):
    """Is this a torch tensor? Never imports torch: who has a tensor has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def is_cuda(array):
    """Is this a torch tensor in CUDA memory?"""
    return is_torch(array) and array.is_cuda


def _numpy_tensor(array, name, written):
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}, expected a numpy array or a torch "
                        "tensor")
    if array.dtype not in (np.uint16, np.float16, np.float32) or not array.dtype.isnative:
        raise ValueError(f"{name}: dtype is {array.dtype}, expected uint16 (the bits of bf16), "
                         "float16 or float32")
    if written and not array.flags.writeable:
        raise ValueError(f"{name} is written, but the array is read-only")
    return array.ctypes.data, dtype_of(array.dtype), array.shape, array.strides, array.itemsize


def _torch_tensor(array):
    size = array.element_size()
    return (array.data_ptr(), dtype_of(array.dtype), array.shape,
            [size * stride for stride in array.stride()], size)


def tensor(array, name="array", written=False):
    """A Tensor that views a numpy array or torch tensor of 1 to 3 dimensions; None gives NULL.

    The array must outlive the view. written: refuse a read-only array."""
    if array is None:
        return Tensor()
    data, dtype, shape, strides, size = (_torch_tensor(array) if is_torch(array)
                                         else _numpy_tensor(array, name, written))
    ndim = len(shape)
    if not 1 <= ndim <= 3:
        raise ValueError(f"{name} has {ndim} dimensions, expected 1 to 3")
    view = Tensor(data, dtype, ndim, tuple(shape), tuple(strides))
    if shape[-1] <= 1 or 0 in shape:
        view.stride[ndim - 1] = size  # of no meaning there, and numpy and torch leave it so
    return view


def _empty(like, shape, dtype):
    """A new array where like lies; zeros, because rows beyond the batch are not written."""
    if is_torch(like):
        torch = sys.modules["torch"]
        return torch.zeros(shape, dtype=getattr(torch, _TORCH[dtype]), device=like.device)
    return np.zeros(shape, _NUMPY[dtype])


def to_bf16(values):
    """Floats to the bits of bfloat16 (uint16), rounded once to nearest, ties to even.

    NaN stays NaN (its quiet bit is set), overflow becomes infinity."""
    values = np.asarray(values)
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
    bits = single.view(np.uint32)
    if values.dtype.itemsize > 4:  # round to odd first, so that the second rounding sees the tail
        away = np.abs(single.astype(values.dtype)) > np.abs(values)
        inexact = ~np.isnan(values) & (single.astype(values.dtype) != values)
        bits = np.where(inexact, (bits - away) | 1, bits).astype(np.uint32)
    rounded = (bits + np.uint32(0x7fff) + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)


def from_bf16(bits):
    """The bits of bfloat16 (uint16) as float32, exact."""
    bits = np.asarray(bits)
    if bits.dtype != np.uint16:
        raise ValueError(f"bits have dtype {bits.dtype}, expected uint16")
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


# ---- problems -----------------------------------------------------------------------------------


def _scale(value):
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"sm_scale is {reprlib.repr(value)}, expected a number that f32 "
                          "holds") from None


def config(num_heads, sm_scale, *, head_dim_ckv=512, head_dim_kpe=64, page_size=64, causal=False,
           lse_base="e", q_dtype="bf16", ckv_dtype=None, kpe_dtype=None, out_dtype=None,
           fixed_split=0):
    """A Config.

    sm_scale: the model's own softmax scale, e.g. 192**-0.5; never 576**-0.5. Of either sign; what
    f32 cannot hold, times log2 e, too, is refused by whatever takes the Config. head_dim_kpe 0: no
    rope part. lse_base: "e" or "2". dtypes: see dtype_of; ckv and out default to q's, kpe to ckv's.
    fixed_split: 0, or n to split every request at keys n, 2n, ... whatever the batch."""
    bases = {"e": LseBase.NATURAL, "2": LseBase.BASE2}
    if lse_base not in bases:
        raise ValueError(f"lse_base is {lse_base!r}, expected 'e' or '2'")
    q = dtype_of(q_dtype)
    ckv = q if ckv_dtype is None else dtype_of(ckv_dtype)
    return Config(num_heads=num_heads, head_dim_ckv=head_dim_ckv, head_dim_kpe=head_dim_kpe,
                  page_size=page_size, causal=causal, lse_base=bases[lse_base], q_dtype=q,
                  ckv_dtype=ckv, kpe_dtype=ckv if kpe_dtype is None else dtype_of(kpe_dtype),
                  out_dtype=q if out_dtype is None else dtype_of(out_dtype),
                  fixed_split=fixed_split, sm_scale=_scale(sm_scale))


def _int32_array(values, name):
    """A contiguous int32 copy of a 1-D array of integers on the host."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions, expected 1")
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {array.dtype}, expected integers")
    beyond = np.flatnonzero((array < -2**31) | (array >= 2**31))
    if beyond.size:
        raise ValueError(f"{name}[{beyond[0]}] is {array[beyond[0]]}, expected a 32-bit integer")
    return np.array(array, np.int32)


def batch(qo_indptr, kv_indptr, kv_len, q_pos0=None):
    """A Batch of B requests, from sequences or arrays on the host, which are copied.

    qo_indptr [B+1] queries, kv_indptr [B+1] pages (not keys), kv_len [B] keys, q_pos0 [B] position
    of each request's first query if causal (None: kv_len - qo_len)."""
    arrays = {"qo_indptr": qo_indptr, "kv_indptr": kv_indptr, "kv_len": kv_len, "q_pos0": q_pos0}
    kept = {name: _int32_array(values, name) for name, values in arrays.items()
            if values is not None or name != "q_pos0"}
    size = len(kept["kv_len"])
    for name, array in kept.items():
        expected = size + 1 if name.endswith("indptr") else size
        if len(array) != expected:
            raise ValueError(f"{name} has {len(array)} entries, expected {expected}: kv_len has "
                             f"{size}, one per request")
    made = Batch(batch_size=size, **{name: array.ctypes.data_as(ctypes.POINTER(c_int32))
                                     for name, array in kept.items()})
    made.kept = kept
    return made


def capacity_of(cfg, bat):
    """The smallest Capacity that holds the batch."""
    capacity = Capacity()
    library().mla_capacity_of(cfg, bat, capacity)
    return capacity


def _page_ids(array):
    """(address, count) of a 1-D contiguous int32 array."""
    if is_torch(array):
        good = str(array.dtype) == "torch.int32" and array.dim() == 1 and array.is_contiguous()
        address, count = array.data_ptr(), array.numel()
    elif isinstance(array, np.ndarray):
        good = array.dtype == np.int32 and array.ndim == 1 and array.flags.c_contiguous
        address, count = array.ctypes.data, array.size
    else:
        raise TypeError(f"kv_indices is a {type(array).__name__}, expected a numpy array or a "
                        "torch tensor")
    if not good:
        raise ValueError(f"kv_indices is {array.dtype} {tuple(array.shape)}, expected a contiguous "
                         "int32 array [num_kv_indices]")
    return address, count


def tensors(q_nope, q_pe, ckv, kpe, kv_indices, out, lse=None, scratch=None):
    """Tensors over arrays that all lie on the host or all on one CUDA device.

    q_nope [>= total_q, H, ckv], q_pe [>= total_q, H, kpe], ckv [pages, page_size, ckv],
    kpe [pages, page_size, kpe], kv_indices [>= kv_indptr[B]] int32, out like q_nope, lse
    [>= total_q, H] f32 or None, scratch: a contiguous CUDA tensor of bytes or None. q_pe and kpe
    are None where head_dim_kpe is 0. out, lse and scratch may share no byte with an input, with
    each other or with themselves (strides): whatever takes the Tensors raises InvalidError."""
    arrays = {"q_nope": q_nope, "q_pe": q_pe, "ckv": ckv, "kpe": kpe, "kv_indices": kv_indices,
              "out": out, "lse": lse, "scratch": scratch}
    if ckv is None:
        raise TypeError("ckv is None, expected a numpy array or a torch tensor")
    places = {name: str(array.device) if is_cuda(array) else "the host"
              for name, array in arrays.items() if array is not None}
    for name, place in places.items():
        if place != places["ckv"]:
            raise ValueError(f"{name} is on {place}, ckv on {places['ckv']}")
    address, count = _page_ids(kv_indices)
    made = Tensors(q_nope=tensor(q_nope, "q_nope"), q_pe=tensor(q_pe, "q_pe"),
                   ckv=tensor(ckv, "ckv"), kpe=tensor(kpe, "kpe"), out=tensor(out, "out", True),
                   lse=tensor(lse, "lse", True), kv_indices=address, num_kv_indices=count)
    if scratch is not None:
        if not scratch.is_contiguous():
            raise ValueError("scratch is not contiguous")
        made.scratch = scratch.data_ptr()
        made.scratch_bytes = scratch.numel() * scratch.element_size()
    made.kept = arrays
    made.on_cuda = is_cuda(ckv)
    return made


def _expect_place(made, on_cuda, what):
    if made.on_cuda != on_cuda:
        raise ValueError(f"{what} takes {'CUDA tensors' if on_cuda else 'arrays on the host'}, "
                         f"these lie {'on the host' if on_cuda else 'on a CUDA device'}")


def _outputs(cfg, q_nope, out, lse):
    rows = tuple(np.shape(q_nope)[:1]) + (cfg.num_heads,)
    if out is None:
        out = _empty(q_nope, rows + (cfg.head_dim_ckv,), Dtype(cfg.out_dtype))
    if lse is None:
        lse = _empty(q_nope, rows, Dtype.F32)
    return out, lse


def reference(cfg, bat, q_nope, q_pe, ckv, kpe, kv_indices, out=None, lse=None):
    """The truth: fp64 sums on the CPU, OpenMP. Returns (out, lse).

    Shapes as in tensors(). out is rounded once to cfg.out_dtype, lse is f32 in cfg.lse_base; both
    are made unless given. A query that sees no key gives out 0 and lse -inf. Page ids are checked.
    Raises MlaError."""
    out, lse = _outputs(cfg, q_nope, out, lse)
    made = tensors(q_nope, q_pe, ckv, kpe, kv_indices, out, lse)
    _expect_place(made, False, "reference")
    library().mla_reference(cfg, bat, made)
    return out, lse


# ---- the ladder ---------------------------------------------------------------------------------


class Kernel(NamedTuple):
    """One line of the ladder."""
    name: str  # "01_naive"
    summary: str
    arch: str  # "sm_80": there and on newer GPUs; "sm_90a": there only
    built: bool  # False: this library was built without nvcc
    fixed_split: bool  # promises bitwise batch invariance in fixed-split mode
    ideas: str  # words that say what it shows: "split"


def kernels():
    """The ladder, a list of Kernel in the order of teaching."""
    lib, lines = library(), []
    for index in range(lib.mla_kernel_count()):
        info = KernelInfo()
        lib.mla_kernel_get(index, info)
        lines.append(Kernel(info.name.decode(), info.summary.decode(), info.arch.decode(),
                            bool(info.built), bool(info.fixed_split), info.ideas.decode()))
    return lines


def device_query():
    """The current CUDA device as a Device. MlaError with Status.NO_CUDA without one."""
    device = Device()
    library().mla_device_query(device)
    return device


def _kernel_name(kernel):
    if not isinstance(kernel, str):
        raise TypeError(f"kernel is a {type(kernel).__name__}, expected a name like \"01_naive\"")
    if "\0" in kernel:
        raise ValueError(f"kernel is {kernel!r}, expected a name like \"01_naive\"")
    return kernel.encode(errors="replace")


def refusal(kernel, cfg, device):
    """Why a kernel does not take this config on this device, in words; None if it does.

    kernel: "01_naive", "01", "naive" or "auto". MlaError for what is no kernel or no config."""
    try:
        library().mla_kernel_accepts(_kernel_name(kernel), cfg, device)
    except MlaError as error:
        if error.status != Status.REFUSED:
            raise
        return error.text
    return None


def traits(kernel, cfg, device):
    """The Traits of a kernel for this config and device. MlaError if it refuses."""
    found = Traits()
    library().mla_kernel_traits(_kernel_name(kernel), cfg, device, found)
    return found


# ---- plan and run -------------------------------------------------------------------------------


def _stream(stream):
    """A cudaStream_t as an address: of a torch stream or an int; None: torch's current stream, or
    the default stream where torch does not use CUDA."""
    if stream is None:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return None
        stream = torch.cuda.current_stream()
    return getattr(stream, "cuda_stream", stream)


def _rows(pointer, count, struct):
    """A copy of count C structs as a numpy structured array."""
    if count == 0:
        return np.zeros(0, np.dtype(struct))
    return np.ctypeslib.as_array(pointer, (count,)).copy()


class Plan:
    """The layout of a batch over the workers of a GPU, and what runs it.

        with Plan(cfg, capacity_of(cfg, bat)) as plan:
            plan.build(bat)
            plan.upload()
            plan.run(tensors(...))

    Building needs no GPU where the device is given as values. One plan is used by one thread at a
    time. Streams: a torch stream, a cudaStream_t as int, or None for torch's current stream."""

    def __init__(self, cfg, capacity, kernel="auto", device=None):
        """kernel: a name, number or idea of the ladder, or "auto". device: None asks the current
        CUDA device. MlaError names the bad field or says why the kernel refuses."""
        device = device_query() if device is None else device
        self._create("mla_plan_create", _kernel_name(kernel), cfg, device, capacity)

    @classmethod
    def for_traits(cls, traits_, cfg, device, capacity):
        """A plan without a kernel, for Traits alone: to be built, printed and executed by
        reference_plan."""
        plan = cls.__new__(cls)
        plan._create("mla_plan_create_for_traits", traits_, cfg, device, capacity)
        return plan

    def _create(self, function, *arguments):
        self._handle = None
        lib, handle = library(), c_void_p()
        getattr(lib, function)(*arguments, ctypes.byref(handle))
        self._handle, self._destroy = handle, lib.mla_plan_destroy

    def close(self):
        """Frees the plan, its device memory too. Runs must be done; closing twice is fine."""
        handle, self._handle = self.__dict__.get("_handle"), None
        if handle:
            self._destroy(handle)

    __del__ = close

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _open(self):
        if self._handle is None:
            raise ValueError("the plan was closed")
        return self._handle

    def build(self, bat):
        """Lays the work of a batch out, on the host. On an error the plan is left without one."""
        library().mla_plan_build(self._open(), bat)

    def prepare(self):
        """Loads the kernel and allocates on the device; upload() does it if nobody did."""
        library().mla_plan_prepare(self._open())

    def upload(self, stream=None):
        """Sends the built plan to the device, asynchronously. Not to be captured in a graph."""
        library().mla_plan_upload(self._open(), _stream(stream))

    def run(self, made, stream=None):
        """Runs the kernel on Tensors in the stream, asynchronously; may be captured in a graph.

        made.scratch: at least info.scratch_bytes at a multiple of 256 bytes, if that is not 0."""
        _expect_place(made, True, "run")
        library().mla_run(self._open(), made, _stream(stream))

    def check_pages(self, made, stream=None):
        """MlaError if the batch uses a page that the cache lacks. Synchronises the stream."""
        _expect_place(made, True, "check_pages")
        library().mla_check_pages(self._open(), made, _stream(stream))

    @property
    def info(self):
        """PlanInfo; batch_size is -1 before a batch was built."""
        info = PlanInfo()
        library().mla_plan_get_info(self._open(), info)
        return info

    @property
    def config(self):
        """A copy of the plan's Config."""
        return Config.from_buffer_copy(library().mla_plan_config(self._open()).contents)

    @property
    def batch(self):
        """A copy of the plan's Batch, q_pos0 filled in; None before a batch was built."""
        pointer = library().mla_plan_batch(self._open())
        if not pointer:
            return None
        found, size = pointer.contents, pointer.contents.batch_size
        counts = {"qo_indptr": size + 1, "kv_indptr": size + 1, "kv_len": size, "q_pos0": size}
        return batch(**{name: getattr(found, name)[:count] for name, count in counts.items()})

    @property
    def items(self):
        """The work items, sorted by worker: a structured array with the fields of Work."""
        return _rows(library().mla_plan_items(self._open()), self.info.num_items, Work)

    @property
    def workers(self):
        """int32 [num_workers + 1]: worker w executes items[workers[w]:workers[w + 1]]."""
        info = self.info
        count = info.num_workers + 1 if info.batch_size >= 0 else 0
        return _rows(library().mla_plan_workers(self._open()), count, c_int32)

    @property
    def merges(self):
        """The merge list: a structured array with the fields of MergeItem."""
        return _rows(library().mla_plan_merges(self._open()), self.info.num_merges, MergeItem)

    def format(self, json=False):
        """The plan as text for people, or as JSON."""
        lib, handle = library(), self._open()
        size = lib.mla_plan_format(handle, json, None, 0) + 1
        buffer = ctypes.create_string_buffer(size)
        lib.mla_plan_format(handle, json, buffer, size)
        return buffer.value.decode()


def reference_plan(plan, q_nope, q_pe, ckv, kpe, kv_indices, out=None, lse=None):
    """Executes a built plan item by item on the CPU, partial states and merge in fp64.

    As reference(), but split as the plan says: shows that the plan is right, not a kernel."""
    out, lse = _outputs(plan.config, q_nope, out, lse)
    made = tensors(q_nope, q_pe, ckv, kpe, kv_indices, out, lse)
    _expect_place(made, False, "reference_plan")
    library().mla_reference_plan(plan._open(), made)
    return out, lse


def merge(states, states_lse, lse_base="e", out=None, lse=None, stream=None):
    """Joins attention states over different keys into one. Returns (out, lse).

    states [num_states, rows, head_dim] bf16, fp16 or f32; states_lse [num_states, rows] f32 in
    lse_base ("e" or "2"), as is lse. A state with lse -inf is not read, one with NaN makes its row
    NaN; +inf is an InvalidError on the host and counts as NaN on the device. Host arrays are merged
    on the CPU in fp64, CUDA tensors in the stream, asynchronously."""
    bases = {"e": LseBase.NATURAL, "2": LseBase.BASE2}
    if lse_base not in bases:
        raise ValueError(f"lse_base is {lse_base!r}, expected 'e' or '2'")
    view = tensor(states, "states")
    if out is None:
        out = _empty(states, tuple(states.shape[1:]), Dtype(view.dtype))
    if lse is None:
        lse = _empty(states, tuple(states.shape[1:2]), Dtype.F32)
    for name, array in (("states_lse", states_lse), ("out", out), ("lse", lse)):
        if is_cuda(array) != is_cuda(states):
            raise ValueError(f"{name} and states are not in the same memory")
    arguments = MergeArgs(lse_base=bases[lse_base], states=view,
                          states_lse=tensor(states_lse, "states_lse"),
                          out=tensor(out, "out", True), lse=tensor(lse, "lse", True))
    if is_cuda(states):
        library().mla_merge(arguments, _stream(stream))
    else:
        library().mla_merge_host(arguments)
    return out, lse
