"""flashinfer_mla.py - FlashInfer's BatchMLAPagedAttentionWrapper over libmla.

A drop-in for flashinfer.mla.BatchMLAPagedAttentionWrapper: the same constructor, plan() and run().
The workspace decides where the work is done: a CUDA tensor sends everything to the kernels of the
ladder, on torch's current stream; a torch CPU tensor, a numpy array or None sends it to the CPU
reference. Where it differs from FlashInfer:

    * What FlashInfer leaves unchecked is checked, and raised as a ValueError in words (an error of
      the library is an mla.MlaError; a wrong argument is both).
    * backend is "auto" or a rung of the ladder ("02_splitk", "02", "splitk"); FlashInfer's own
      "fa2" and "fa3" mean "auto".
    * A workspace that is too small is an error of plan(), which says how many bytes it takes.
    * check_pages() finds page ids out of range, on request. On the CPU they are always checked.
    * Queries that see no key give out 0 and lse -inf, more queries than keys included.

LSE is base 2 unless asked for base e, as in FlashInfer.
"""
import math
import sys

import numpy as np

import mla


def _host(array):
    """A sequence, numpy array or torch tensor on the host; of a CUDA tensor, a synchronous copy."""
    return array.detach().cpu().numpy() if mla.is_torch(array) else np.asarray(array)


def _place(array):
    """"the host" or "cuda:0"."""
    return str(array.device) if mla.is_cuda(array) else "the host"


def _is_int32(array):
    return str(array.dtype) in ("int32", "torch.int32")


def _copy_into(buffer, values):
    """The first len(values) entries of a persistent buffer; asynchronous on a device."""
    if mla.is_torch(buffer):
        values = sys.modules["torch"].as_tensor(values)
        buffer[:len(values)].copy_(values, non_blocking=True)
    else:
        buffer[:len(values)] = _host(values)


def _roomy(need, have, num_heads):
    """A Capacity for need and more, so that a growing batch seldom takes a new plan."""
    queries = min(2**29, (2**31 - 1) // num_heads)
    limits = {"max_requests": 2**29, "max_queries": queries, "max_qo_len": queries,
              "max_kv_len": 2**30, "max_kv_tokens": 2**40, "max_pages": 2**40}
    grown = {}
    for name, limit in limits.items():
        least = max(getattr(need, name), getattr(have, name) if have else 0)
        grown[name] = max(least, min(1 << (least - 1).bit_length(), limit))
    return mla.Capacity(**grown)


class BatchMLAPagedAttentionWrapper:
    """Paged MLA attention with matrix absorption: decode and incremental prefill.

        wrapper = BatchMLAPagedAttentionWrapper(torch.empty(128 << 20, dtype=torch.int8).cuda())
        wrapper.plan(qo_indptr, kv_indptr, kv_indices, kv_len, 128, 512, 64, page_size, causal,
                     192**-0.5, torch.bfloat16, torch.bfloat16)
        out, lse = wrapper.run(q_nope, q_pe, ckv_cache, kpe_cache, return_lse=True)

    plan() and run() belong on one stream, or on streams that the caller orders."""

    def __init__(self, float_workspace_buffer, use_cuda_graph=False, qo_indptr=None,
                 kv_indptr=None, kv_indices=None, kv_len_arr=None, backend="auto"):
        """float_workspace_buffer: scratch for partial states, 128 MB suffices for most; it also
        says where the work is done. It may be shared by wrappers whose runs a stream orders.

        use_cuda_graph: run() may be captured, and plan() again changes what replays do. Then the
        buffers are required, int32, where the workspace is: qo_indptr [B+1], kv_indptr [B+1],
        kv_len_arr [B] fix the batch size B; kv_indices holds as many page ids as any plan will
        use. The first plan() fixes everything but the batch, and the largest number of queries.

        backend: "auto" or a rung of the ladder."""
        self._backend = "auto" if backend in ("fa2", "fa3") else backend
        self._home = _place(float_workspace_buffer)
        self._device = float_workspace_buffer.device if self._home != "the host" else None
        self._scratch = self._take_workspace(float_workspace_buffer)
        self._check_backend(backend)
        self._buffers = None
        if use_cuda_graph:
            self._buffers = {"qo_indptr": qo_indptr, "kv_indptr": kv_indptr,
                             "kv_indices": kv_indices, "kv_len_arr": kv_len_arr}
            self._check_buffers()
        self._plan = self._capacity = None  # on a device: the mla.Plan and its mla.Capacity
        self._planned = self._frozen = None  # configs: of the mla.Plan; of the first plan()
        self._config = self._batch = self._kv_indices = None  # of the last plan()

    # ---- what was given to the constructor ----

    def _take_workspace(self, workspace):
        if self._device is None:
            return None
        if not workspace.is_contiguous():
            raise ValueError("float_workspace_buffer is not contiguous")
        flat = workspace.view(sys.modules["torch"].uint8).reshape(-1)
        return flat[-flat.data_ptr() % 256:]

    def _check_backend(self, backend):
        names = ["auto"]
        for kernel in mla.kernels():
            number, idea = kernel.name.split("_", 1)
            names += [kernel.name, number, idea]
        if self._backend not in names:
            raise ValueError(f"backend is {backend!r}, expected one of {', '.join(names)}")
        if self._device is None and self._backend != "auto":
            raise ValueError(f"backend {backend!r} runs on a CUDA device, but "
                             "float_workspace_buffer is on the host")

    def _check_buffers(self):
        for name, buffer in self._buffers.items():
            if buffer is None:
                raise ValueError(f"{name} is None: with use_cuda_graph the buffer is required")
            if not _is_int32(buffer) or buffer.ndim != 1 or len(buffer) == 0:
                raise ValueError(f"{name} is {buffer.dtype} {tuple(buffer.shape)}, expected int32 "
                                 "in one dimension, not empty")
            if not mla.is_torch(buffer) and not buffer.flags.writeable:
                raise ValueError(f"{name} is read-only")
            if _place(buffer) != self._home:
                raise ValueError(f"{name} is on {_place(buffer)}, float_workspace_buffer on "
                                 f"{self._home}")
        size = len(self._buffers["kv_len_arr"])
        for name in ("qo_indptr", "kv_indptr"):
            if len(self._buffers[name]) != size + 1:
                raise ValueError(f"{name} has {len(self._buffers[name])} entries, expected "
                                 f"{size + 1}: kv_len_arr has {size}, one per request")

    # ---- plan ----

    def plan(self, qo_indptr, kv_indptr, kv_indices, kv_len_arr, num_heads, head_dim_ckv,
             head_dim_kpe, page_size, causal, sm_scale, q_data_type, kv_data_type):
        """Lays a batch of B requests out. Not to be captured; copies CUDA arrays to the host.

        qo_indptr [B+1]: first query of each request. kv_indptr [B+1]: first entry of each request
        in kv_indices, in pages. kv_indices [>= kv_indptr[B]] int32: page ids; kept, not copied,
        unless use_cuda_graph. kv_len_arr [B]: keys (tokens of the cache) of each request. sm_scale:
        of the head dimension before absorption, e.g. 192**-0.5. causal: query i of a request sees
        key j iff j <= kv_len - qo_len + i. Data types: torch or numpy dtypes, or "bf16", "fp16",
        "f32"; the output has q's.

        ValueError names what is wrong; afterwards nothing is planned. mla.MlaError: no kernel takes
        this problem on this GPU, and why."""
        self._batch = None
        if self._device is not None:
            self._check_not_capturing("plan()")
        config = mla.config(num_heads, sm_scale, head_dim_ckv=head_dim_ckv,
                            head_dim_kpe=head_dim_kpe, page_size=page_size, causal=causal,
                            lse_base="2", q_dtype=q_data_type, ckv_dtype=kv_data_type)
        batch = mla.batch(_host(qo_indptr), _host(kv_indptr), _host(kv_len_arr))
        need = mla.capacity_of(config, batch)  # also checks every value
        self._check_page_table(kv_indices, batch)
        if self._buffers:
            self._check_frozen(config, batch)
        if self._device is not None:
            with sys.modules["torch"].cuda.device(self._device):
                self._plan_on_device(config, batch, need)
        self._kv_indices = self._keep_page_table(kv_indices, qo_indptr, kv_indptr, kv_len_arr,
                                                 batch)
        if self._buffers:
            self._frozen = config
        self._config, self._batch = config, batch

    def _check_not_capturing(self, what):
        torch = sys.modules["torch"]
        with torch.cuda.device(self._device):
            if torch.cuda.is_current_stream_capturing():
                raise ValueError(f"{what} is being captured in a CUDA graph, which takes a wrapper "
                                 "with use_cuda_graph, planned before the capture")

    @staticmethod
    def _check_page_table(kv_indices, batch):
        if not hasattr(kv_indices, "dtype") or not _is_int32(kv_indices) or kv_indices.ndim != 1:
            found = getattr(kv_indices, "dtype", type(kv_indices).__name__)
            shape = tuple(getattr(kv_indices, "shape", ()))
            raise ValueError(f"kv_indices is {found} {shape}, expected int32 in one dimension")
        if len(kv_indices) < batch.total_pages:
            raise ValueError(f"kv_indices has {len(kv_indices)} entries, kv_indptr[-1] is "
                             f"{batch.total_pages}")

    def _check_frozen(self, config, batch):
        size, most = len(self._buffers["kv_len_arr"]), len(self._buffers["kv_indices"])
        if batch.batch_size != size:
            raise ValueError(f"the batch has {batch.batch_size} requests; with use_cuda_graph the "
                             f"buffers fix it to {size}")
        if batch.total_pages > most:
            raise ValueError(f"the batch has {batch.total_pages} page table entries, the "
                             f"kv_indices buffer holds {most}")
        if self._frozen is not None and bytes(config) != bytes(self._frozen):
            changed = [f"{name} from {getattr(self._frozen, name)} to {getattr(config, name)}"
                       for name, *_ in config._fields_
                       if getattr(config, name) != getattr(self._frozen, name)]
            raise ValueError(f"plan() changes {', '.join(changed)}; with use_cuda_graph the first "
                             "plan() fixes it, because a captured graph keeps it")

    def _keep_page_table(self, kv_indices, qo_indptr, kv_indptr, kv_len_arr, batch):
        """What run() reads: the persistent buffer, or the caller's own array."""
        if self._buffers:
            _copy_into(self._buffers["qo_indptr"], qo_indptr)
            _copy_into(self._buffers["kv_indptr"], kv_indptr)
            _copy_into(self._buffers["kv_len_arr"], kv_len_arr)
            _copy_into(self._buffers["kv_indices"], kv_indices[:batch.total_pages])
            return self._buffers["kv_indices"]
        if self._device is None:
            return _host(kv_indices) if mla.is_cuda(kv_indices) else kv_indices
        torch = sys.modules["torch"]
        return torch.as_tensor(kv_indices).to(self._device, non_blocking=True).contiguous()

    def _plan_on_device(self, config, batch, need):
        same = self._plan is not None and bytes(config) == bytes(self._planned)
        if not same or not self._fits(batch):
            self._renew(config, batch, need, self._capacity if same else None)
            self._plan.build(batch)
        self._plan.upload()

    def _fits(self, batch):
        """Builds the batch in place; False if it is beyond the capacity of a plan that may grow."""
        try:
            self._plan.build(batch)
        except mla.InvalidError as error:
            if error.status != mla.Status.CAPACITY or self._buffers:
                raise
            return False
        return True

    def _renew(self, config, batch, need, have):
        capacity = self._graph_capacity(config, batch) if self._buffers \
            else _roomy(need, have, config.num_heads)
        plan = mla.Plan(config, capacity, self._backend)
        takes, given = plan.info.scratch_bytes, self._scratch.numel()
        if takes > given:
            raise ValueError(f"float_workspace_buffer gives {given} bytes, {plan.info.kernel_name} "
                             f"takes {takes} for this problem")
        if self._plan is not None:
            self._plan.close()
        self._plan, self._capacity, self._planned = plan, capacity, config

    def _graph_capacity(self, config, batch):
        pages = len(self._buffers["kv_indices"])
        return mla.Capacity(max_requests=batch.batch_size, max_queries=max(batch.total_q, 1),
                            max_kv_tokens=pages * config.page_size, max_pages=pages)

    # ---- run ----

    def run(self, q_nope, q_pe, ckv_cache, kpe_cache, out=None, lse=None, return_lse=False, *,
            return_lse_base_on_e=False):
        """Attention of the planned batch: out, or (out, lse) if return_lse.

        q_nope [total_q, H, head_dim_ckv], absorbed; q_pe [total_q, H, head_dim_kpe], rotated;
        ckv_cache [pages, page_size, head_dim_ckv]; kpe_cache [pages, page_size, head_dim_kpe]; they
        may be views of one fused cache. q_pe and kpe_cache: None, or of width 0, where head_dim_kpe
        is 0. out like q_nope and lse [total_q, H] f32 are made unless given; a given lse is always
        written. With use_cuda_graph q may have more rows than the batch: rows beyond it are not
        written. LSE is base 2, or base e if return_lse_base_on_e.

        On a device: asynchronous on torch's current stream, never synchronises. ValueError names
        what is wrong."""
        if self._batch is None:
            raise ValueError("nothing is planned: call plan() first, with success")
        self._check_arrays(q_nope, out, lse)
        if self._config.head_dim_kpe == 0:
            q_pe, kpe_cache = self._no_rope(q_pe, "q_pe"), self._no_rope(kpe_cache, "kpe_cache")
        elif q_pe is None or kpe_cache is None:
            raise ValueError(f"q_pe or kpe_cache is None, head_dim_kpe is "
                             f"{self._config.head_dim_kpe}")
        elif q_pe.shape[0] != q_nope.shape[0]:
            raise ValueError(f"q_pe has {q_pe.shape[0]} rows, q_nope {q_nope.shape[0]}")
        if out is None:
            out = self._empty(q_nope, q_nope.shape, q_nope.dtype)
        if lse is None and return_lse:
            lse = self._empty(q_nope, q_nope.shape[:2], "float32")
        arguments = mla.tensors(q_nope, q_pe, ckv_cache, kpe_cache, self._kv_indices, out, lse,
                                self._scratch)
        if self._device is None:
            self._run_on_host(arguments, return_lse_base_on_e)
        else:
            self._run_on_device(arguments, lse if return_lse_base_on_e else None)
        return (out, lse) if return_lse else out

    def _check_arrays(self, q_nope, out, lse):
        if q_nope.ndim != 3:
            raise ValueError(f"q_nope has {q_nope.ndim} dimensions, expected 3")
        rows, total = q_nope.shape[0], self._batch.total_q
        if _place(q_nope) != self._home:
            raise ValueError(f"q_nope is on {_place(q_nope)}, float_workspace_buffer on "
                             f"{self._home}")
        if rows < total or (rows > total and not self._buffers):
            raise ValueError(f"q_nope has {rows} rows, qo_indptr[-1] is {total}")
        if out is not None and tuple(out.shape) != tuple(q_nope.shape):
            raise ValueError(f"out has shape {tuple(out.shape)}, q_nope {tuple(q_nope.shape)}")
        if lse is not None and tuple(lse.shape) != (rows, self._config.num_heads):
            raise ValueError(f"lse has shape {tuple(lse.shape)}, expected "
                             f"{(rows, self._config.num_heads)}")

    @staticmethod
    def _no_rope(array, name):
        if array is not None and array.shape[-1] != 0:
            raise ValueError(f"{name} has {array.shape[-1]} columns, head_dim_kpe is 0")

    @staticmethod
    def _empty(like, shape, dtype):
        if mla.is_torch(like):
            torch = sys.modules["torch"]
            dtype = torch.float32 if dtype == "float32" else dtype
            return torch.empty(shape, dtype=dtype, device=like.device)
        return np.empty(shape, dtype)

    def _run_on_host(self, arguments, base_e):
        config = mla.Config.from_buffer_copy(self._config)
        config.lse_base = mla.LseBase.NATURAL if base_e else mla.LseBase.BASE2
        mla.library().mla_reference(config, self._batch, arguments)

    def _run_on_device(self, arguments, base_e_lse):
        torch = sys.modules["torch"]
        if not self._buffers:
            self._check_not_capturing("run()")
        with torch.cuda.device(self._device):
            self._plan.run(arguments)
        if base_e_lse is not None:
            base_e_lse.mul_(math.log(2))

    def check_pages(self, ckv_cache):
        """ValueError if the planned batch uses a page id that ckv_cache does not have.

        Synchronises the stream: for debugging, not for every step."""
        if self._batch is None:
            raise ValueError("nothing is planned: call plan() first, with success")
        arguments = mla.tensors(None, None, ckv_cache, None, self._kv_indices, None)
        if self._device is None:
            mla.library().mla_check_pages_host(self._config, self._batch, arguments)
        else:
            with sys.modules["torch"].cuda.device(self._device):
                self._plan.check_pages(arguments)
