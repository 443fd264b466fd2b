"""peers_case.py - what peers.py times its implementations on: cells, captures, and their truth.

What a cell is, its lengths, its work and the tolerances come from the program (`mla cases --json`).
A Case holds numpy arrays, or torch tensors on the GPU where it was generated there; page tables
and lengths are numpy arrays always. The truth is libmla's CPU reference, on as many requests and
heads as it can do in seconds.
"""
import hashlib
import json

import numpy as np

import mla
from mla import results

CKV, KPE = 512, 64  # what the peers take
DTYPES = ("bf16", "fp16")
TRUTH_BUDGET = 4e9  # multiply-adds that the reference may take for a case: a few seconds
TRUTH_REQUESTS = 4


class Case:
    """One attention problem. q [total_q, H, 576] and cache [pages, page_size, 576] are fused.

    summary: "case" of a result file. tolerances: by which outputs are judged."""

    def __init__(self, summary, tolerances, q, cache, qo_indptr, kv_indptr, kv_indices, kv_len,
                 q_pos0=None):
        self.summary, self.tolerances, self.q, self.cache = summary, tolerances, q, cache
        self.qo_indptr, self.kv_indptr, self.kv_indices, self.kv_len = (
            np.ascontiguousarray(array, np.int32)
            for array in (qo_indptr, kv_indptr, kv_indices, kv_len))
        self.sm_scale, self.causal, self.dtype = (summary[key] for key in
                                                  ("sm_scale", "causal", "dtype"))
        self.q_pos0 = None if q_pos0 is None else np.ascontiguousarray(q_pos0, np.int32)

    @property
    def num_heads(self):
        return self.q.shape[1]

    @property
    def page_size(self):
        return self.cache.shape[1]

    def config(self):
        return mla.config(self.num_heads, self.sm_scale, page_size=self.page_size,
                          causal=self.causal, q_dtype=self.dtype)

    def batch(self):
        return mla.batch(self.qo_indptr, self.kv_indptr, self.kv_len, self.q_pos0)

    def seen(self, request):
        """Keys that each query of a request sees."""
        count = self.qo_indptr[request + 1] - self.qo_indptr[request]
        keys = int(self.kv_len[request])
        if not self.causal:
            return np.full(count, keys)
        first = keys - count if self.q_pos0 is None else self.q_pos0[request]
        return np.clip(first + 1 + np.arange(count), 0, keys)

    def pages(self, request):
        """Page ids that hold the keys of a request."""
        begin = self.kv_indptr[request]
        return self.kv_indices[begin:begin - (-int(self.kv_len[request]) // self.page_size)]

    def uniform_qo(self):
        """Queries per request if all have as many, and at least one; else None."""
        counts = set(np.diff(self.qo_indptr).tolist())
        return counts.pop() if len(counts) == 1 and 0 not in counts else None


# ---- cells --------------------------------------------------------------------------------------


def _summary(known, **changes):
    """What a result file says of a case: all that the program does, but where it comes from."""
    return {**{key: value for key, value in known.items() if key not in ("suite", "cell")},
            **changes}


def make_cell(said, index, place):
    """The Case of a cell that the program described: its lengths; N(0, 1) in bf16 and pages in
    random order of our own, so that inputs are made where they are used."""
    known, seed = said["cases"][index], said["seed"]
    rng = np.random.default_rng(seed)
    kv_len, page_size = np.array(known["kv_len"]), known["page_size"]
    kv_indptr = np.concatenate([[0], np.cumsum(-(-kv_len // page_size))])
    recipe = {"cell": known["sha256"], "seed": seed, "generator": f"peers.py on {place.name}"}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return Case(_summary(known, sha256=digest), said["tolerances"],
                place.normal((known["total_q"], known["num_heads"], CKV + KPE), seed),
                place.normal((int(kv_indptr[-1]), page_size, CKV + KPE), seed + 1),
                _offsets(known["qo_len"]), kv_indptr, rng.permutation(int(kv_indptr[-1])), kv_len)


# ---- captures -----------------------------------------------------------------------------------


def _reader():
    """mla.h5, which reads bf16 without converting it."""
    try:
        from mla import h5
    except ImportError as error:
        raise results.ResultError(f"captures need h5py: {error}") from None
    return h5


def load_capture(path, said, index=0):
    """The Case of a capture's case that the program described. ResultError."""
    h5 = _reader()
    try:
        with h5.reading(path) as file:
            return _load_open(h5, path, file, said, said["cases"][index])
    except (OSError, KeyError, h5.CaptureError) as error:
        raise results.ResultError(f"{path}: {error}") from None


def _load_open(h5, path, file, said, known):
    if h5.read_string(file, "kind") == "model-forward":
        raise results.ResultError(f"{path}: kind is model-forward, which peers cannot take: its "
                                  "queries are not absorbed")
    config = file["config"].attrs
    others = {h5.read_string(file["config"], key) for key in
              ("dtype", "ckv_dtype", "kpe_dtype", "out_dtype") if key in config}
    if others - set(DTYPES) or len(others) > 1 or config["kv_lora_rank"] != CKV \
            or config["qk_rope_head_dim"] != KPE:
        raise results.ResultError(f"{path}: {'/'.join(sorted(others))} with "
                                  f"{config['kv_lora_rank']} + {config['qk_rope_head_dim']} "
                                  "columns; peers take bf16 or fp16 with 512 + 64")
    step, layer = known["name"].rsplit(":", 1)[1].split("/")
    at, cache = file[f"steps/{step}"], file[f"layers/{layer}"]
    inputs = at[f"layers/{layer}"]
    used = [inputs["q_nope"], inputs["q_pe"], cache["ckv_cache"], cache["kpe_cache"],
            *(at[key] for key in ("qo_indptr", "kv_indptr", "kv_page_indices", "kv_len"))]
    arrays = [h5.read_raw(dataset)[0] for dataset in used]
    return Case(_summary(known), said["tolerances"], np.concatenate(arrays[0:2], axis=2),
                np.concatenate(arrays[2:4], axis=2), *arrays[4:],
                q_pos0=at["q_pos0"][:] if "q_pos0" in at else None)


# ---- truth --------------------------------------------------------------------------------------


class Truth:
    """The reference's values for some requests and heads, and the bounds on errors there."""

    def __init__(self, case, place):
        self.case = case
        self.requests = self._choose_requests()
        cost = sum(int(case.seen(r).sum()) for r in self.requests) * (3 * CKV + KPE)
        count = int(min(case.num_heads, max(2, TRUTH_BUDGET / max(cost, 1))))
        self.heads = np.unique(np.linspace(0, case.num_heads - 1, count).astype(int))
        self.rows = np.concatenate([np.arange(*case.qo_indptr[r:r + 2]) for r in self.requests]
                                   or [np.zeros(0, int)]).astype(int)
        self.out, self.sums, self.lse, self.lse_bound = self._compute(place)

    def _choose_requests(self):
        """First, last, longest and shortest of those that have queries."""
        queries = np.flatnonzero(np.diff(self.case.qo_indptr))
        if len(queries) == 0:
            return []
        lengths = self.case.kv_len[queries]
        wanted = [queries[0], queries[-1], queries[lengths.argmax()], queries[lengths.argmin()]]
        return sorted(set(map(int, wanted)))[:TRUTH_REQUESTS]

    def _compute(self, place):
        """out [rows, heads, 512], sum_j p_j |v_j|, natural lse, and the bound on its error.

        The reference gives sums of |v| if |v| stands behind v, under queries of zero."""
        case = self.case
        pages = np.unique(np.concatenate([case.pages(r) for r in self.requests]
                                         or [np.zeros(0, np.int32)]))
        cache = place.numpy(case.cache, pages)
        q = np.ascontiguousarray(place.numpy(case.q, self.rows)[:, self.heads])
        ckv = cache[..., :CKV]
        magnitude = ckv & 0x7fff if ckv.dtype == np.uint16 else np.abs(ckv)
        batch, indices = self._batch(pages)
        config = mla.config(len(self.heads), case.sm_scale, head_dim_ckv=2 * CKV,
                            page_size=case.page_size, causal=case.causal, q_dtype=case.dtype,
                            out_dtype="f32")
        both = np.concatenate([ckv, magnitude], axis=2)
        wide = np.concatenate([q[..., :CKV], np.zeros_like(q[..., :CKV])], axis=2)
        out, lse = mla.reference(config, batch, wide, np.ascontiguousarray(q[..., CKV:]), both,
                                 np.ascontiguousarray(cache[..., CKV:]), indices)
        bound = self._lse_bound(_floats(q), _floats(cache), batch.kept["kv_indptr"], indices)
        return out[..., :CKV], out[..., CKV:], lse, bound

    def _batch(self, pages):
        """The chosen requests as a batch of their own, over the chosen pages."""
        case = self.case
        tables = [np.searchsorted(pages, case.pages(r)) for r in self.requests]
        counts = [case.qo_indptr[r + 1] - case.qo_indptr[r] for r in self.requests]
        q_pos0 = None if case.q_pos0 is None else case.q_pos0[self.requests]
        batch = mla.batch(_offsets(counts), _offsets(list(map(len, tables))),
                          case.kv_len[self.requests], q_pos0)
        return batch, np.concatenate(tables or [[]]).astype(np.int32)

    def _lse_bound(self, q, cache, kv_indptr, indices):
        """lse_abs + lse_sum * keys + lse_rel * the largest |score|, which counts as lse_cancel *
        sm_scale |q| |k| at least."""
        case, allowed, bounds, row = self.case, self.case.tolerances, [], 0
        for index, request in enumerate(self.requests):
            own = indices[kv_indptr[index]:kv_indptr[index + 1]]
            keys = cache[own].reshape(-1, CKV + KPE)[:case.kv_len[request]]
            norms = np.linalg.norm(keys, axis=1)
            for seen in case.seen(request):
                score = np.abs(q[row] @ keys[:seen].T).max(axis=1, initial=0)
                reach = (allowed["lse_cancel"] * np.linalg.norm(q[row], axis=1)
                         * norms[:seen].max(initial=0))
                bounds.append(allowed["lse_abs"] + allowed["lse_sum"] * case.kv_len[request]
                              + allowed["lse_rel"] * abs(case.sm_scale)
                              * np.maximum(score, reach))
                row += 1
        return np.array(bounds).reshape(len(self.rows), len(self.heads))

    def judge(self, out, lse, place, unseen=-np.inf):
        """Errors over their bounds, as in a result file; lse natural, or None. NaN is infinite.
        unseen: what this implementation gives as the lse of a row that sees no key."""
        got = _floats(place.numpy(out, self.rows)[:, self.heads]).astype(np.float64)
        allowed = self.case.tolerances
        sums = np.maximum(self.sums, allowed["element_floor"]
                          * np.sqrt(np.mean(self.sums**2, axis=2, keepdims=True)))
        error = np.abs(got - self.out)
        rms = np.sqrt((error**2).mean(axis=2))
        want = np.sqrt((self.out.astype(np.float64)**2).mean(axis=2))
        eps = allowed["eps"][self.case.dtype]
        errors = {"element": _worst(error, allowed["element_factor"] * eps * sums),
                  "rms": _worst(rms, allowed["row_rms"] * want), "lse": 0.0}
        if lse is not None:
            found = place.numpy(lse, self.rows)[:, self.heads].astype(np.float64)
            same = found == np.where(self.lse == -np.inf, unseen, self.lse)
            with np.errstate(invalid="ignore"):
                difference = np.where(same, 0, np.abs(found - self.lse))
            errors["lse"] = _worst(difference, self.lse_bound)
        return errors


def _offsets(counts):
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _floats(array):
    return mla.from_bf16(array) if array.dtype == np.uint16 else array.astype(np.float32)


def _worst(error, bound):
    """The largest error over its bound; 0 over 0 is 0, NaN is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0, error / bound)
    if ratio.size == 0:
        return 0.0
    return float("inf") if np.isnan(ratio).any() else float(ratio.max())
