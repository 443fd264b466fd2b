"""peers_case.py - what peers.py times its implementations on: cells, captures, and their truth.

A Case holds numpy arrays, or torch tensors on the GPU where it was generated there; page tables
and lengths are numpy arrays always. The truth is libmla's CPU reference, on as many requests and
heads as it can do in seconds, with the bounds of harness/check.h.
"""
import hashlib
import json
import os
import re

import numpy as np

import mla
from mla import results

CKV, KPE = 512, 64
CELLS = """b128_4Kv_h128_q1 b128_8K_h128_q1 b128_8Kv_h128_q1 b128_16K_h128_q1 b128_4Kv_h128_q2
    b128_8Kv_h128_q2 b256_2Kv_h128_q1 b128_8K_h64_q1 b128_8K_h32_q1 b128_8K_h16_q1 b128_16K_h16_q1
    b1_128K_h128_q1 b1_128K_h16_q1 b1_8K_h128_q1 b1_1K_h128_q1 b4_4K_h128_q1 b4_4K_h16_q1
    b16_2K_h16_q1 b32_1K_h128_q1 b64_1K_h16_q1""".split()  # the suite "peers" of mla bench
TRUTH_BUDGET = 4e9  # multiply-adds that the reference may take for a case: a few seconds
TRUTH_REQUESTS = 4

# harness/check.h, where they are derived
ELEMENT_FACTOR, ELEMENT_FLOOR, ROW_RMS = 2.0, 1 / 128, 0.005
EPS = {"bf16": 2.0**-8, "fp16": 2.0**-11}
LSE_ABS, LSE_REL, LSE_CANCEL, LSE_SUM = 1e-5, 2.0**-19, 1 / 8, 2.0**-26


class Case:
    """One attention problem. q [total_q, H, 576] and cache [pages, page_size, 576] are fused."""

    def __init__(self, name, sha256, q, cache, qo_indptr, kv_indptr, kv_indices, kv_len, *,
                 sm_scale, causal, dtype, q_pos0=None):
        self.name, self.sha256, self.q, self.cache = name, sha256, q, cache
        self.qo_indptr, self.kv_indptr, self.kv_indices, self.kv_len = (
            np.ascontiguousarray(array, np.int32)
            for array in (qo_indptr, kv_indptr, kv_indices, kv_len))
        self.sm_scale, self.causal, self.dtype = sm_scale, causal, dtype
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

    def work(self):
        """(flop, bytes) of the problem: visible pairs; visible cache slots, q, out, lse once."""
        pairs, slots = 0, {}
        for request in range(len(self.kv_len)):
            seen = self.seen(request)
            pairs += int(seen.sum())
            last = int(seen[-1]) if len(seen) else 0
            for index, page in enumerate(self.pages(request)[:-(-last // self.page_size)]):
                here = min(self.page_size, last - index * self.page_size)
                slots[int(page)] = max(slots.get(int(page), 0), here)
        rows = int(self.qo_indptr[-1]) * self.num_heads
        return (2 * pairs * self.num_heads * (2 * CKV + KPE),
                sum(slots.values()) * 2 * (CKV + KPE) + rows * (2 * (CKV + KPE) + 2 * CKV + 4))

    def summary(self):
        """"case" of a result file."""
        flop, size = self.work()
        lengths = self.kv_len if len(self.kv_len) else np.zeros(1, np.int32)
        return {"name": self.name, "sha256": self.sha256, "batch_size": len(self.kv_len),
                "num_heads": self.num_heads, "total_q": int(self.qo_indptr[-1]),
                "kv_tokens": int(self.kv_len.sum()), "kv_len_min": int(lengths.min()),
                "kv_len_max": int(lengths.max()), "page_size": self.page_size,
                "causal": bool(self.causal), "dtype": self.dtype, "flop": flop, "bytes": size}


# ---- cells --------------------------------------------------------------------------------------


def parse_cell(name):
    """A dict of a cell's shape from its name, as mla bench has it. ResultError."""
    shape = {"q": 1, "p": 64}
    for word in re.split("[_ ]", name):
        keys, part = re.fullmatch(r"(\d+)(K?)(v?)", word), re.fullmatch(r"([bhqp])(\d+)", word)
        if keys:
            shape["kv"] = int(keys[1]) * (1024 if keys[2] else 1)
            shape["varied"] = bool(keys[3])
        elif part:
            shape[part[1]] = int(part[2])
        else:
            raise results.ResultError(f'cell "{name}": found "{word}", expected parts such as '
                                      "b128, 8K, 8Kv, h128, q2, p64")
    if not {"b", "h", "kv"} <= set(shape) or min(shape[key] for key in "bhqp") < 1 \
            or shape["kv"] < 1:
        raise results.ResultError(f'cell "{name}": expected at least one request, key and head, as '
                                  "in b4_4K_h128")
    return shape


def make_cell(name, place, seed=1):
    """A cell's Case: N(0, 1) in bf16, pages in random order, scale 192^-0.5, causal if q > 1."""
    shape = parse_cell(name)
    rng = np.random.default_rng(seed)
    batch, keys, page_size = shape["b"], shape["kv"], shape["p"]
    kv_len = rng.integers((keys + 1) // 2, keys + keys // 2 + 1, batch) if shape["varied"] \
        else np.full(batch, keys)
    kv_indptr = np.concatenate([[0], np.cumsum(-(-kv_len // page_size))])
    recipe = {"cell": name, "seed": seed, "generator": f"peers.py on {place.name}",
              "kv_len": kv_len.tolist()}
    return Case(name, hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
                place.normal((batch * shape["q"], shape["h"], CKV + KPE), seed),
                place.normal((int(kv_indptr[-1]), page_size, CKV + KPE), seed + 1),
                shape["q"] * np.arange(batch + 1), kv_indptr, rng.permutation(int(kv_indptr[-1])),
                kv_len, sm_scale=192**-0.5, causal=shape["q"] > 1, dtype="bf16")


# ---- captures -----------------------------------------------------------------------------------


def _reader():
    """mla.h5, which reads bf16 without converting it."""
    try:
        from mla import h5
    except ImportError as error:
        raise results.ResultError(f"captures need h5py: {error}") from None
    return h5


def load_capture(path, wanted=None):
    """The Case of step/layer `wanted` ("001/005"), or the first, of a capture. ResultError."""
    h5 = _reader()
    try:
        with h5.h5py.File(path, "r") as file:
            return _load_open(h5, path, file, wanted)
    except (OSError, KeyError, h5.CaptureError) as error:
        raise results.ResultError(f"{path}: {error}") from None


def _load_open(h5, path, file, wanted):
    if h5.read_string(file, "kind") == "model-forward":
        raise results.ResultError(f"{path}: kind is model-forward, which peers cannot take: its "
                                  "queries are not absorbed")
    config = file["config"].attrs
    dtype = h5.read_string(file["config"], "dtype")
    others = {dtype} | {h5.read_string(file["config"], key) for key in
                        ("ckv_dtype", "kpe_dtype", "out_dtype") if key in config}
    if others - set(EPS) or len(others) > 1 or config["kv_lora_rank"] != CKV \
            or config["qk_rope_head_dim"] != KPE:
        raise results.ResultError(f"{path}: {'/'.join(sorted(others))} with "
                                  f"{config['kv_lora_rank']} + {config['qk_rope_head_dim']} "
                                  "columns; peers take bf16 or fp16 with 512 + 64")
    step, layer = _choose(path, file, wanted)
    at, cache = file[f"steps/{step}"], file[f"layers/{layer}"]
    inputs = at[f"layers/{layer}"]
    used = [inputs["q_nope"], inputs["q_pe"], cache["ckv_cache"], cache["kpe_cache"],
            *(at[key] for key in ("qo_indptr", "kv_indptr", "kv_page_indices", "kv_len"))]
    arrays = [h5.read_raw(dataset)[0] for dataset in used]
    digest = hashlib.sha256("".join(h5.read_string(d, "sha256") for d in used).encode())
    return Case(f"{os.path.basename(path)}:{step}/{layer}", digest.hexdigest(),
                np.concatenate(arrays[0:2], axis=2), np.concatenate(arrays[2:4], axis=2),
                *arrays[4:], sm_scale=float(config["softmax_scale"]),
                causal=bool(config["causal"]), dtype=dtype,
                q_pos0=at["q_pos0"][:] if "q_pos0" in at else None)


def _choose(path, file, wanted):
    there = [(step, layer) for step in sorted(file["steps"]) for layer in sorted(file["layers"])]
    if wanted is None:
        return there[0]
    parts = wanted.split("/")
    for step, layer in there:
        if len(parts) == 2 and all(part.isdigit() for part in parts) and \
                (int(step), int(layer)) == tuple(map(int, parts)):
            return step, layer
    raise results.ResultError(f"{path}: there is no case {wanted}; it has {there[0][0]}/"
                              f"{there[0][1]} to {there[-1][0]}/{there[-1][1]}")


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
        """CHECK_LSE_ABS + SUM * keys + REL * the largest |score|, or CANCEL * sm_scale |q| |k|."""
        case, bounds, row = self.case, [], 0
        for index, request in enumerate(self.requests):
            own = indices[kv_indptr[index]:kv_indptr[index + 1]]
            keys = cache[own].reshape(-1, CKV + KPE)[:case.kv_len[request]]
            norms = np.linalg.norm(keys, axis=1)
            for seen in case.seen(request):
                score = np.abs(q[row] @ keys[:seen].T).max(axis=1, initial=0)
                reach = LSE_CANCEL * np.linalg.norm(q[row], axis=1) * norms[:seen].max(initial=0)
                bounds.append(LSE_ABS + LSE_SUM * case.kv_len[request]
                              + LSE_REL * abs(case.sm_scale) * np.maximum(score, reach))
                row += 1
        return np.array(bounds).reshape(len(self.rows), len(self.heads))

    def judge(self, out, lse, place, unseen=-np.inf):
        """Errors over their bounds, as in a result file; lse natural, or None. NaN is infinite.
        unseen: what this implementation gives as the lse of a row that sees no key."""
        got = _floats(place.numpy(out, self.rows)[:, self.heads]).astype(np.float64)
        sums = np.maximum(self.sums, ELEMENT_FLOOR
                          * np.sqrt(np.mean(self.sums**2, axis=2, keepdims=True)))
        error = np.abs(got - self.out)
        rms = np.sqrt((error**2).mean(axis=2))
        want = np.sqrt((self.out.astype(np.float64)**2).mean(axis=2))
        errors = {"element": _worst(error, ELEMENT_FACTOR * EPS[self.case.dtype] * sums),
                  "rms": _worst(rms, ROW_RMS * want), "lse": 0.0}
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
