"""test_python.py - the Python binding and the drop-in class, against numpy in float64.

    build/venv/bin/python tests/test_python.py

Needs numpy and a built libmla.so ($MLA_LIBRARY, or lib/ of $MLA_BUILD, default build). Where torch
is installed its CPU tensors are tested too, and its CUDA tensors where there is a GPU.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("MLA_BUILD", os.path.join(ROOT, "build"))
os.environ.setdefault("MLA_LIBRARY", os.path.join(BUILD, "lib", "libmla.so"))
sys.path.insert(0, os.path.join(ROOT, "harness", "python"))

import flashinfer_mla  # noqa: E402
import mla  # noqa: E402

try:
    import torch
except ImportError:
    torch = None

POISON_PAGE = 2147480000
EPS = {"bf16": 2.0**-8, "fp16": 2.0**-11, "f32": 2.0**-24}  # half a unit in the last place of 1


def store(values, dtype):
    """float64 values as the array that holds them in one of mla's dtypes."""
    if dtype == "bf16":
        return mla.to_bf16(values)
    return values.astype({"fp16": np.float16, "f32": np.float32}[dtype])


def load(array):
    return (mla.from_bf16(array) if array.dtype == np.uint16 else array).astype(np.float64)


class Case:
    """A random ragged paged batch. Pages stand in random order; the first page of request 0 is
    shared by the others; slots beyond kv_len are NaN, page ids beyond it poison."""

    def __init__(self, seed, qo_len, kv_len, heads=3, ckv=32, kpe=8, page_size=4, causal=False,
                 dtype="f32", lse_base="e", q_pos0=None, peak=1.0):
        rng = np.random.default_rng(seed)
        self.heads, self.ckv, self.kpe, self.page_size = heads, ckv, kpe, page_size
        self.causal, self.dtype, self.lse_base, self.q_pos0 = causal, dtype, lse_base, q_pos0
        self.sm_scale = peak * (ckv + kpe)**-0.5
        self.qo_indptr = np.concatenate([[0], np.cumsum(qo_len)]).astype(np.int32)
        self.kv_len = np.array(kv_len, np.int32)
        used = -(-self.kv_len // page_size)
        self.kv_indptr = np.concatenate([[0], np.cumsum(used + 1)]).astype(np.int32)
        self._make_pages(rng, used)
        rows = (self.qo_indptr[-1], heads)
        self.q_nope = store(rng.standard_normal(rows + (ckv,)), dtype)
        self.q_pe = store(rng.standard_normal(rows + (kpe,)), dtype)

    def _make_pages(self, rng, used):
        pages = int(used.sum()) + 3
        order = rng.permutation(pages)
        cache = np.full((pages, self.page_size, self.ckv + self.kpe), np.nan)
        self.kv_indices = np.full(self.kv_indptr[-1], POISON_PAGE, np.int32)
        taken = 0
        for r, count in enumerate(used):
            ids = order[taken:taken + count]
            taken += count
            if r > 0 and count > 0 and used[0] > 0:
                ids[0] = self.kv_indices[0]
            self.kv_indices[self.kv_indptr[r]:self.kv_indptr[r] + count] = ids
            for j in range(self.kv_len[r]):
                slot = cache[ids[j // self.page_size], j % self.page_size]
                if np.isnan(slot[0]):
                    slot[:] = rng.standard_normal(slot.shape)
        self.cache = store(cache, self.dtype)  # one fused cache, two views
        self.ckv_cache, self.kpe_cache = self.cache[..., :self.ckv], self.cache[..., self.ckv:]

    def config(self, **changes):
        words = {"head_dim_ckv": self.ckv, "head_dim_kpe": self.kpe, "page_size": self.page_size,
                 "causal": self.causal, "lse_base": self.lse_base, "q_dtype": self.dtype}
        return mla.config(self.heads, self.sm_scale, **{**words, **changes})

    def batch(self):
        return mla.batch(self.qo_indptr, self.kv_indptr, self.kv_len, self.q_pos0)

    def arrays(self):
        """q_nope, q_pe, ckv, kpe, kv_indices as reference() and tensors() take them."""
        return (self.q_nope, self.q_pe if self.kpe else None, self.ckv_cache,
                self.kpe_cache if self.kpe else None, self.kv_indices)

    def plan_arguments(self):
        """What the drop-in's plan() takes."""
        return [self.qo_indptr, self.kv_indptr, self.kv_indices, self.kv_len, self.heads,
                self.ckv, self.kpe, self.page_size, self.causal, self.sm_scale, self.dtype,
                self.dtype]

    def keys(self, r):
        """(ckv, kpe) of request r in float64."""
        j = np.arange(self.kv_len[r])
        pages = self.kv_indices[self.kv_indptr[r] + j // self.page_size]
        keys = load(self.cache[pages, j % self.page_size])
        return keys[:, :self.ckv], keys[:, self.ckv:]

    def truth(self):
        """(out, natural lse, sum p|v|, largest |score|) of every row, in float64."""
        rows = self.q_nope.shape[:2]
        out, sum_abs = np.zeros(rows + (self.ckv,)), np.zeros(rows + (self.ckv,))
        lse, largest = np.full(rows, -np.inf), np.zeros(rows)
        q_nope, q_pe = load(self.q_nope), load(self.q_pe)
        for r in range(len(self.kv_len)):
            ckv, kpe = self.keys(r)
            first, last = self.qo_indptr[r:r + 2]
            pos0 = self.kv_len[r] - (last - first) if self.q_pos0 is None else self.q_pos0[r]
            for q in range(first, last):
                seen = min(self.kv_len[r], pos0 + q - first + 1) if self.causal else self.kv_len[r]
                if seen <= 0:
                    continue
                score = self.sm_scale * (q_nope[q] @ ckv[:seen].T + q_pe[q] @ kpe[:seen].T)
                m = score.max(axis=1, keepdims=True)
                p = np.exp(score - m)
                l = p.sum(axis=1, keepdims=True)
                out[q], sum_abs[q] = p / l @ ckv[:seen], p / l @ np.abs(ckv[:seen])
                lse[q], largest[q] = (m + np.log(l))[:, 0], np.abs(score).max(axis=1)
        return out, lse, sum_abs, largest


RAGGED = {  # name: arguments of Case
    "decode": dict(qo_len=[1, 1, 1], kv_len=[5, 17, 1]),
    "mixed": dict(qo_len=[3, 0, 1, 5], kv_len=[9, 4, 30, 5]),
    "mixed causal": dict(qo_len=[3, 0, 1, 5], kv_len=[9, 4, 30, 5], causal=True),
    "more queries than keys": dict(qo_len=[6, 2], kv_len=[2, 7], causal=True),
    "no keys": dict(qo_len=[2, 1, 2], kv_len=[0, 3, 0], causal=True),
    "no keys at all": dict(qo_len=[2, 1], kv_len=[0, 0]),
    "no queries": dict(qo_len=[0, 0], kv_len=[5, 3]),
    "page size 1": dict(qo_len=[2, 1], kv_len=[7, 12], page_size=1, causal=True),
    "page size 7": dict(qo_len=[2, 1], kv_len=[7, 12], page_size=7, causal=True),
    "one head": dict(qo_len=[2, 1], kv_len=[7, 12], heads=1),
    "no rope part": dict(qo_len=[2, 1], kv_len=[7, 12], kpe=0),
    "width 1": dict(qo_len=[2, 1], kv_len=[7, 12], ckv=1, kpe=1),
    "position given": dict(qo_len=[2, 3], kv_len=[7, 12], causal=True, q_pos0=[-1, 4]),
    "base 2": dict(qo_len=[2, 1], kv_len=[7, 12], lse_base="2"),
    "bf16": dict(qo_len=[2, 1], kv_len=[40, 12], dtype="bf16"),
    "fp16": dict(qo_len=[2, 1], kv_len=[40, 12], dtype="fp16"),
    "peaked": dict(qo_len=[2, 1], kv_len=[40, 12], peak=30.0),
    "negative scale": dict(qo_len=[2, 1], kv_len=[40, 12], peak=-3.0, causal=True),
    "DeepSeek's sizes": dict(qo_len=[2, 1], kv_len=[40, 12], heads=16, ckv=512, kpe=64,
                             page_size=64, causal=True, dtype="bf16"),
}


def cases():
    for seed, (name, arguments) in enumerate(RAGGED.items()):
        yield name, Case(seed, **arguments)


class Checks(unittest.TestCase):
    def expect_truth(self, case, out, lse, natural=None):
        """out is the truth, rounded once; lse is the truth in f32."""
        truth, truth_lse, sum_abs, _ = case.truth()
        # one rounding, and what fp64 sums may differ by
        bound = EPS[case.dtype] * np.abs(truth) + 1e-13 * sum_abs
        self.assertEqual(out.shape, truth.shape)
        self.assertTrue((np.abs(load(out) - truth) <= bound).all())
        self.expect_lse(case, lse, truth_lse, natural)

    def expect_lse(self, case, lse, truth_lse, natural=None):
        base_e = case.lse_base == "e" if natural is None else natural
        expected = truth_lse if base_e else truth_lse / np.log(2)
        np.testing.assert_allclose(lse, expected, rtol=2.0**-23, atol=1e-7)

    def expect_raises(self, kind, words, function, *arguments, **named):
        with self.assertRaises(kind) as caught:
            function(*arguments, **named)
        self.assertRegex(str(caught.exception), words)
        return caught.exception


class Abi(unittest.TestCase):
    """The mirrors in the package mla are the structs in mla.h."""

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(ROOT, "harness", "mla.h")) as file:
            cls.header = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)

    def lines(self):
        program = os.path.join(BUILD, "tests", "abi")
        if not os.path.exists(program) and "MLA_BUILD" not in os.environ:
            self.skipTest(f"SKIPPED, {program} was not built (make test builds it)")
        printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in printed.splitlines()]

    def test_layouts_are_the_compilers(self):
        found = {line["struct"]: line for line in self.lines() if "struct" in line}
        self.assertEqual(set(found), set(mla.STRUCTS))
        for name, struct in mla.STRUCTS.items():
            with self.subTest(name):
                mirror = [[field, getattr(struct, field).offset, getattr(struct, field).size]
                          for field, *_ in struct._fields_]
                self.assertEqual(mirror, found[name]["fields"])
                self.assertEqual(mla.ctypes.sizeof(struct), found[name]["size"])

    def test_constants_are_the_compilers(self):
        prefixes = {"MLA_": (mla.Status, mla.Dtype), "MLA_LSE_": (mla.LseBase,),
                    "MLA_MERGE_": (mla.MergeKind,)}
        mirror = {prefix + member.name: member.value for prefix, kinds in prefixes.items()
                  for kind in kinds for member in kind}
        found = {line["constant"]: line["value"] for line in self.lines() if "constant" in line}
        self.assertEqual(mirror, found)

    def test_the_header_has_no_other_struct_field_or_constant(self):
        declared = {}
        for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \w+;", self.header, re.S):
            body = re.sub(r"\[\d+\]", "", body)
            declared[name] = [word.strip(" *\n\t") for line in body.split(";")
                              for word in re.sub(r"^\s*(const )?\w+[\s]", "", line).split(",")
                              if word.strip()]
        mirror = {name: [field for field, *_ in struct._fields_]
                  for name, struct in mla.STRUCTS.items()}
        self.assertEqual(declared, mirror)
        values = {name: int(value) for name, value in re.findall(r"\b(MLA_\w+) = (\d+)",
                                                                 self.header)}
        kinds = (mla.Status, mla.Dtype, mla.LseBase, mla.MergeKind)
        self.assertEqual(len(values), sum(len(kind) for kind in kinds))

    def test_every_function_has_a_prototype(self):
        declared = {}
        for result, name, arguments in re.findall(r"^([\w \*]+?)\b(mla_\w+)\(([^)]*)\);",
                                                  self.header, re.M):
            declared[name] = (result.strip(), len(arguments.split(","))
                              if arguments != "void" else 0)
        mirror = {name: (result, len(arguments))
                  for name, (result, arguments) in mla.PROTOTYPES.items()}
        self.assertEqual({name: count for name, (_, count) in declared.items()},
                         {name: count for name, (_, count) in mirror.items()})
        self.assertEqual({name for name, (result, _) in declared.items()
                          if result == "mla_status"},
                         {name for name, (result, _) in mirror.items() if result == "mla_status"})

    def test_version(self):
        self.assertRegex(mla.library().mla_version().decode(), r"^\d+\.\d+\.\d+ \(commit \S+\)$")

    def test_status_names(self):
        for status in mla.Status:
            name = mla.library().mla_status_name(status).decode()
            self.assertEqual(name, status.name.lower().replace("_", " "))


class Bf16(unittest.TestCase):
    PATTERNS = np.arange(65536, dtype=np.uint16)

    def test_all_patterns_survive(self):
        values = mla.from_bf16(self.PATTERNS)
        for dtype in (np.float32, np.float64):
            with np.errstate(invalid="ignore"):
                bits = mla.to_bf16(values.astype(dtype))
            nan = np.isnan(values)
            self.assertTrue((bits[~nan] == self.PATTERNS[~nan]).all())
            self.assertTrue(np.isnan(mla.from_bf16(bits[nan])).all())
            self.assertTrue((bits[nan] >> 15 == self.PATTERNS[nan] >> 15).all())

    def test_values_are_the_formats(self):
        finite = self.PATTERNS[(self.PATTERNS >> 7 & 0xff) != 0xff].astype(np.int64)
        sign, exponent, mantissa = finite >> 15, finite >> 7 & 0xff, finite & 0x7f
        expected = np.where(exponent == 0, mantissa / 128 * 2.0**-126,
                            (1 + mantissa / 128) * 2.0**(exponent - 127.0))
        found = mla.from_bf16(finite.astype(np.uint16))
        self.assertTrue((found == np.where(sign == 1, -expected, expected)).all())

    def test_every_midpoint_goes_to_even(self):
        lower = np.arange(0x7f7f, dtype=np.uint16)  # all pairs of neighbours, positive and finite
        low, high = (load(bits) for bits in (lower, lower + np.uint16(1)))
        middle = (low + high) / 2
        even = lower + (lower & 1)
        nudge = (high - low) * 2.0**-30  # lost if float64 were first rounded to float32
        for sign, bit in ((1.0, 0), (-1.0, 0x8000)):
            self.assertTrue((mla.to_bf16(sign * middle) == even | bit).all())
            self.assertTrue((mla.to_bf16(sign * (middle - nudge)) == lower | bit).all())
            self.assertTrue((mla.to_bf16(sign * (middle + nudge)) == lower + 1 | bit).all())
            single = (sign * middle).astype(np.float32)
            exact = single.astype(np.float64) == sign * middle
            self.assertTrue((mla.to_bf16(single[exact]) == (even | bit)[exact]).all())

    def test_edges(self):
        largest, infinity = 0x7f7f, 0x7f80
        self.assertEqual(mla.to_bf16(np.inf), infinity)
        self.assertEqual(mla.to_bf16(-np.inf), infinity | 0x8000)
        self.assertEqual(mla.to_bf16(1e300), infinity)
        self.assertEqual(mla.to_bf16(load(np.uint16(largest)) * (1 + 2.0**-9)), largest)
        self.assertEqual(mla.to_bf16(load(np.uint16(largest)) * (1 + 2.0**-7)), infinity)
        self.assertEqual(mla.to_bf16(-0.0), 0x8000)
        self.assertEqual(mla.to_bf16(np.float32(1e-45)), 0)
        nan = np.array([0x7f800001, 0x7fffffff, 0xffffffff], np.uint32).view(np.float32)
        self.assertTrue(np.isnan(mla.from_bf16(mla.to_bf16(nan))).all())
        with self.assertRaises(ValueError):
            mla.from_bf16(np.zeros(3, np.int32))


class Reference(Checks):
    def test_reference_is_numpy(self):
        for name, case in cases():
            with self.subTest(name):
                out, lse = mla.reference(case.config(), case.batch(), *case.arrays())
                self.expect_truth(case, out, lse)

    def test_other_dtypes_of_cache_and_output(self):
        case = Case(50, [2, 1], [40, 12], dtype="bf16")
        kpe = load(case.kpe_cache).astype(np.float16)
        case.cache = np.concatenate([load(case.ckv_cache), kpe.astype(np.float64)], axis=2)
        config = case.config(kpe_dtype="fp16", out_dtype="f32")
        out, lse = mla.reference(config, case.batch(), case.q_nope, case.q_pe, case.ckv_cache, kpe,
                                 case.kv_indices)
        case.cache = case.cache.astype(np.float32)  # as truth() reads it
        case.q_nope, case.q_pe = (load(q).astype(np.float32) for q in (case.q_nope, case.q_pe))
        case.dtype = "f32"
        self.assertEqual(out.dtype, np.float32)
        self.expect_truth(case, out, lse)

    def test_given_outputs_are_strided_views(self):
        case = Case(51, [2, 1], [9, 12])
        whole, lse = np.full((5, 3, 40), 7, np.float32), np.full((6, 3), 7, np.float32)
        mla.reference(case.config(), case.batch(), *case.arrays(), out=whole[1:4, :, 3:35],
                      lse=lse[::2])
        self.expect_truth(case, whole[1:4, :, 3:35], lse[::2])
        written = np.zeros(whole.shape, bool)
        written[1:4, :, 3:35] = True
        self.assertTrue((whole[~written] == 7).all())
        self.assertTrue((lse[1::2] == 7).all())


HOPPER = mla.Device(arch=90, sm_count=6, smem_per_block=232448)
SPLITTING = mla.Traits(tile_rows=4, kv_granule=2, ctas_per_sm=1, ctas_per_worker=1, item_cost=1,
                       merge_cost=0, merge=mla.MergeKind.SEPARATE, align=1)


class Plans(Checks):
    def plan(self, case, **changes):
        config, batch = case.config(**changes), case.batch()
        return mla.Plan.for_traits(SPLITTING, config, HOPPER, mla.capacity_of(config, batch))

    def test_a_plan_executes_to_the_truth(self):
        for name, case in cases():
            with self.subTest(name), self.plan(case) as plan:
                plan.build(case.batch())
                out, lse = mla.reference_plan(plan, *case.arrays())
                self.expect_truth(case, out, lse)

    def test_items_cover_what_they_should(self):
        case = Case(60, [2, 1, 3], [40, 0, 12])
        with self.plan(case) as plan:
            self.assertEqual(plan.info.batch_size, -1)
            self.assertIsNone(plan.batch)
            self.assertEqual(len(plan.workers), 0)
            plan.build(case.batch())
            items, merges, workers, info = plan.items, plan.merges, plan.workers, plan.info
            covered = np.zeros((3, 9, 40), int)
            for item in items:
                covered[item["request"], item["row_begin"]:item["row_end"],
                        item["kv_begin"]:item["kv_end"]] += 1
            for r, queries in enumerate([2, 1, 3]):
                self.assertTrue((covered[r, :3 * queries, :case.kv_len[r]] == 1).all())
            self.assertEqual(covered.sum(), 6 * 40 + 9 * 12)
            self.assertEqual((len(items), len(merges)), (info.num_items, info.num_merges))
            self.assertGreater(info.num_merges, 0)
            self.assertEqual(merges["num_splits"].sum(), (items["partial"] >= 0).sum())
            self.assertEqual(list(workers[[0, -1]]), [0, info.num_items])
            self.assertEqual(info.total_q, 6)
            self.assertEqual(info.kernel_name, "")
            self.assertEqual(info.traits.tile_rows, 4)
            self.assertEqual(bytes(plan.config), bytes(case.config()))
            self.assertEqual(plan.batch.kv_len[:3], [40, 0, 12])

    def test_rebuilding_changes_the_plan_in_place(self):
        large, small = Case(61, [2, 1], [40, 30]), Case(62, [1, 2], [3, 20])
        with self.plan(large) as plan:
            for case in (large, small, large):
                plan.build(case.batch())
                self.expect_truth(case, *mla.reference_plan(plan, *case.arrays()))
            old = plan.items
            plan.build(small.batch())
            self.assertEqual(old["kv_end"].max(), 40, "items are a copy")

    def test_capacity_is_kept(self):
        small, large = Case(63, [1], [8]), Case(64, [1], [9])
        with self.plan(small) as plan:
            error = self.expect_raises(mla.InvalidError, "9 keys.*capacity is 8", plan.build,
                                       large.batch())
            self.assertEqual(error.status, mla.Status.CAPACITY)
            self.assertEqual(plan.info.batch_size, -1)

    def test_printed(self):
        case = Case(65, [2, 1], [40, 30], causal=True)
        with self.plan(case) as plan:
            self.assertIn("without a batch", plan.format())
            plan.build(case.batch())
            text, tree = plan.format(), json.loads(plan.format(json=True))
            self.assertIn("2 requests, 3 queries x 3 heads, causal", text)
            self.assertEqual(len(tree["items"]), plan.info.num_items)
            printed = [[i["request"], *i["rows"], *i["keys"], i["partial"]] for i in tree["items"]]
            names = ["request", "row_begin", "row_end", "kv_begin", "kv_end", "partial"]
            self.assertEqual(printed, [[int(item[name]) for name in names] for item in plan.items])
            for item in plan.items:
                self.assertIn(f"{item['kv_begin']}..{item['kv_end']}", text)

    def test_fixed_split(self):
        case = Case(66, [1, 1], [40, 30])
        with self.plan(case, fixed_split=8) as plan:
            plan.build(case.batch())
            self.assertEqual(set(plan.items["kv_begin"] % 8), {0})
            self.expect_truth(case, *mla.reference_plan(plan, *case.arrays()))

    def test_closing(self):
        case = Case(67, [1], [8])
        plan = self.plan(case)
        plan.close()
        plan.close()
        self.expect_raises(ValueError, "closed", plan.build, case.batch())


class Errors(Checks):
    def setUp(self):
        self.case = Case(70, [2, 1], [9, 12])

    def reference(self, config=None, batch=None, **changes):
        case = self.case
        arrays = dict(zip(("q_nope", "q_pe", "ckv", "kpe", "kv_indices"), case.arrays()))
        return mla.reference(config or case.config(), batch or case.batch(),
                             **{**arrays, **changes})

    def test_the_librarys_sentences_are_raised(self):
        case = self.case
        falling = mla.batch([0, 2, 1], case.kv_indptr, case.kv_len)
        error = self.expect_raises(mla.MlaError, r"qo_indptr.*at 2 \(2 -> 1\)", self.reference,
                                   batch=falling)
        self.assertEqual(error.status, mla.Status.INVALID)
        self.assertIsInstance(error, ValueError)
        self.assertEqual(error.text, str(error))
        many = mla.batch(case.qo_indptr, case.kv_indptr, [9, 25])
        self.expect_raises(mla.InvalidError, r"kv_len\[1\] = 25 needs 7 pages of 4", self.reference,
                           batch=many)
        wild = case.kv_indices.copy()
        wild[1] = 1000
        self.expect_raises(mla.InvalidError, r"kv_indices\[1\] = 1000", self.reference,
                           kv_indices=wild)
        self.expect_raises(mla.InvalidError, "q_nope: dtype is fp16, the plan's is f32",
                           self.reference, q_nope=case.q_nope.astype(np.float16))
        self.expect_raises(mla.InvalidError, "ckv: the last stride", self.reference,
                           ckv=case.ckv_cache[..., ::-1])
        self.expect_raises(mla.InvalidError, r"kpe: extent\[2\] is 7, expected 8", self.reference,
                           kpe=case.kpe_cache[..., :7])
        error = self.expect_raises(mla.MlaError, "fp8", self.reference,
                                   config=case.config(ckv_dtype="e4m3"))
        self.assertEqual(error.status, mla.Status.REFUSED)
        self.assertNotIsInstance(error, ValueError)

    def test_what_ctypes_would_let_pass(self):
        case, q = self.case, self.case.q_nope
        self.expect_raises(ValueError, "num_heads is 4294967299", mla.config, 2**32 + 3, 0.1)
        self.expect_raises(ValueError, r"kv_len\[1\] is 4294967308", mla.batch, case.qo_indptr,
                           case.kv_indptr, [9, 2**32 + 12])
        self.expect_raises(ValueError, "kv_indptr has 2 entries, expected 3", mla.batch,
                           case.qo_indptr, case.kv_indptr[:2], case.kv_len)
        self.expect_raises(ValueError, "float64", mla.batch, case.qo_indptr, case.kv_indptr,
                           [9.0, 12.5])
        self.expect_raises(ValueError, "float64", self.reference, q_nope=q.astype(np.float64))
        self.expect_raises(ValueError, ">f4", self.reference, q_nope=q.astype(">f4"))
        self.expect_raises(ValueError, "int64", self.reference,
                           kv_indices=case.kv_indices.astype(np.int64))
        self.expect_raises(ValueError, "contiguous", self.reference,
                           kv_indices=case.kv_indices[::2])
        self.expect_raises(TypeError, "q_nope is a list", self.reference, q_nope=[1.0], out=q,
                           lse=q[..., 0])
        read_only = np.zeros_like(q)
        read_only.flags.writeable = False
        self.expect_raises(ValueError, "out.*read-only", self.reference, out=read_only)
        self.expect_raises(ValueError, "4 dimensions", self.reference, q_nope=q[None], out=q)
        self.expect_raises(TypeError, "num_heads is 2.5, expected an integer", mla.config, 2.5, 0.1)
        self.expect_raises(TypeError, "causal is 'no'", case.config, causal="no")
        self.expect_raises(ValueError, "sm_scale is 'x', expected a number", mla.config, 2, "x")
        self.expect_raises(TypeError, "sm_scale is None", mla.config, 2, None)
        self.expect_raises(OverflowError, "sm_scale is 1000", mla.config, 2, 10**400)
        for name in "qo_indptr", "kv_indptr", "kv_len":
            arrays = {"qo_indptr": [0, 1], "kv_indptr": [0, 1], "kv_len": [1], name: None}
            self.expect_raises(ValueError, name, mla.batch, **arrays)
        self.expect_raises(mla.InvalidError, "q_pe: data is NULL", self.reference, q_pe=None)
        self.expect_raises(TypeError, "ckv is None", self.reference, ckv=None)
        device = mla.Device(arch=90, sm_count=4, smem_per_block=1 << 17)
        for kernel in None, 1, b"01", "01\0":
            self.expect_raises((TypeError, ValueError), "kernel is ", mla.refusal, kernel,
                               case.config(), device)
            self.expect_raises((TypeError, ValueError), "kernel is ", mla.traits, kernel,
                               case.config(), device)
        self.expect_raises(ValueError, "lse_base is 'ln'", case.config, lse_base="ln")
        self.expect_raises(ValueError, "dtype int8", case.config, q_dtype=np.int8)

    def said_of_library(self, library):
        """What calls raise that need $MLA_LIBRARY, the same each time."""
        code = ("import mla\n"
                "for call in mla.kernels, mla.device_query, lambda: mla.config(1, 1.0) and "
                "mla.capacity_of(mla.config(1, 1.0), mla.batch([0], [0], [])):\n"
                "    try: call(); print('taken')\n"
                "    except OSError as error:\n"
                "        assert isinstance(error, mla.LibraryError)\n"
                "        print(error)")
        found = subprocess.run([sys.executable, "-B", "-c", code], text=True, capture_output=True,
                               env={**os.environ, "MLA_LIBRARY": library}, check=True,
                               cwd=os.path.join(ROOT, "harness", "python")).stdout.splitlines()
        self.assertEqual(len(found), 3, "a sentence is a line")
        self.assertEqual(set(found), {found[0]})
        return found[0]

    def stub(self, folder, *lines):
        """A library of these functions."""
        source = os.path.join(folder, "stub.c")
        library = os.path.join(folder, "libmla.so")
        with open(source, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", library], check=True)
        return library

    def test_library_that_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            text = os.path.join(folder, "text.so")
            with open(text, "w", encoding="utf-8") as file:
                file.write("no library\n")
            for path in "/nowhere/libmla.so", text, folder, "/dev/null", sys.executable:
                self.assertRegex(self.said_of_library(path),
                                 f"{re.escape(path)} cannot be loaded.*: run make, or set MLA_LIB")
            self.assertRegex(self.said_of_library("libm.so.6"),
                             r"^libm.so.6 is no libmla.so, it has no mla_version\(\): run make")

    def test_library_that_is_older_or_not_whole(self):
        names = [name for name in mla.PROTOTYPES if name != "mla_version"]
        bodies = [f"int {name}(void) {{ return 0; }}" for name in names]
        version = 'const char *mla_version(void) {{ return {}; }}'.format
        with tempfile.TemporaryDirectory() as folder:
            for said in "0.1.0 (commit 1a2b3c4)", "0.1.99", "0.0.9", "version two", "":
                library = self.stub(folder, version(f'"{said}"'), *bodies)
                self.assertRegex(self.said_of_library(library),
                                 rf"is libmla '{re.escape(said)}', expected {mla.VERSION} or later")
            library = self.stub(folder, version("0"), *bodies)
            self.assertIn("is libmla '', expected", self.said_of_library(library))
            for later in mla.VERSION, "0.2.1", "0.10.0", "1.0.0":
                library = self.stub(folder, version(f'"{later} (commit unknown)"'), *bodies[:-2])
                self.assertRegex(self.said_of_library(library),
                                 rf"is libmla '{later} \(commit unknown\)' without "
                                 f"{names[-2]}, {names[-1]}, which {mla.VERSION} has")

    def test_version_is_that_of_the_header(self):
        with open(os.path.join(ROOT, "harness", "mla.h"), encoding="utf-8") as header:
            self.assertIn(f'#define MLA_VERSION "{mla.VERSION}"\n', header.read())

    def test_outputs_that_overlap(self):
        case, strided = self.case, np.lib.stride_tricks.as_strided
        want = self.reference()
        out, lse = (array.copy() for array in want)
        row, heads = out.strides[1], lse.strides[0]
        for words, arrays in (
                ("out overlaps q_nope", {"out": case.q_nope}),
                (f"out: its rows of {row} bytes overlap each other",
                 {"out": strided(out, out.shape, (0, *out.strides[1:]))}),
                (f"lse: its rows of {heads} bytes overlap each other",
                 {"lse": strided(lse, lse.shape, (0, *lse.strides[1:]))}),
                ("out overlaps lse",
                 {"out": out, "lse": out.reshape(-1)[:lse.size].reshape(lse.shape)})):
            with self.subTest(words):
                self.expect_raises(mla.InvalidError, words, self.reference,
                                   **{"out": out, "lse": lse, **arrays})
        pool = np.zeros(out.shape[:1] + (out.shape[1] * out.shape[2] + lse.shape[1],), out.dtype)
        columns = out.shape[1] * out.shape[2]
        apart = strided(pool, out.shape, (pool.strides[0], *out.strides[1:]))
        self.reference(out=apart, lse=pool[:, columns:])
        self.assertTrue(np.array_equal(apart, want[0]))
        self.assertTrue(np.array_equal(pool[:, columns:], want[1]))
        states, weights = np.ones((2, 3, 4), np.float32), np.zeros((2, 3), np.float32)
        self.expect_raises(mla.InvalidError, "out overlaps states", mla.merge, states, weights,
                           out=states[0])
        weights[1, 2] = np.inf
        self.expect_raises(mla.InvalidError, r"states_lse\[1, 2\] is inf", mla.merge, states,
                           weights)

    def test_scales_that_f32_cannot_hold(self):
        config = self.case.config()
        for scale in 0.0, -0.0, 1e39, 3e38, 1e-320, 1e-39, float("inf"), float("nan"):
            config.sm_scale = scale
            with self.subTest(scale):
                self.expect_raises(mla.InvalidError, "config.sm_scale is .*, expected a number of "
                                   "either sign", self.reference, config=config)
        config.sm_scale = -0.3
        out, lse = self.reference(config=config)
        self.assertTrue(np.isfinite(out).all() and np.isfinite(lse).all())

    def test_forked_children_work(self):
        """Of a parent whose team of threads they do not have; and of one that has made none."""
        code = """
import multiprocessing, os, sys
import numpy as np
import mla
bits = np.random.default_rng(0).integers(0x3e00, 0x3f80, (120, 64, 576), np.uint16)
q = bits[:2, :16]
cfg = mla.config(16, 0.1)
bat = mla.batch([0, 1, 2], [0, 60, 120], [3800, 3700])
table = np.arange(120, dtype=np.int32)
def work(_):
    before = len(os.listdir("/proc/self/task"))
    out, lse = mla.reference(cfg, bat, q[..., :512], q[..., 512:], bits[..., :512], bits[..., 512:],
                             table)
    return float(lse.sum()), len(os.listdir("/proc/self/task")) - before
first = work(0) if sys.argv[1] == "team" else None
with multiprocessing.get_context("fork").Pool(2) as pool:
    children = pool.map(work, range(2), 1)
values = {value for value, _ in children + ([first] if first else [])}
assert len(values) == 1, values
print(first and first[1], sorted(grown for _, grown in children))
"""
        for word, said in ("team", "2 [0, 0]"), ("none", "None [2, 2]"):
            run = subprocess.run(
                [sys.executable, "-B", "-c", code, word], text=True, capture_output=True,
                timeout=60, cwd=os.path.join(ROOT, "harness", "python"),
                env={**os.environ, "MLA_LIBRARY": os.path.abspath(mla.library_path()),
                     "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1"})
            self.assertEqual((run.returncode, run.stdout.strip()), (0, said), run.stderr)

    def test_ladder(self):
        kernels = mla.kernels()
        self.assertEqual(kernels[0].name, "01_naive")
        self.assertEqual([kernel.name for kernel in kernels],
                         sorted(kernel.name for kernel in kernels))
        config = mla.config(16, 192**-0.5)
        self.expect_raises(mla.InvalidError, 'called "99_wish"', mla.refusal, "99_wish", config,
                           HOPPER)
        for kernel in kernels:
            why = mla.refusal(kernel.name, config, HOPPER)
            if not kernel.built:
                self.assertIn("without nvcc", why)
                self.expect_raises(mla.MlaError, "without nvcc", mla.Plan, config,
                                   mla.Capacity(max_requests=1, max_queries=1, max_kv_tokens=8),
                                   kernel.name, HOPPER)
            elif why is None:
                self.assertGreaterEqual(mla.traits(kernel.name, config, HOPPER).tile_rows, 1)
                old = mla.Device(arch=70, sm_count=80, smem_per_block=98304)
                self.assertIn("sm_70", mla.refusal(kernel.name, config, old))

    def test_cuda_calls_without_a_device(self):
        try:
            mla.device_query()
        except mla.MlaError as error:
            self.assertEqual(error.status, mla.Status.NO_CUDA)
        else:
            self.skipTest("there is a CUDA device")


class Merge(Checks):
    def test_split_then_merge(self):
        """Any cut of the keys, merged, is the whole; in both bases, an empty part included."""
        case = Case(80, [2, 3], [37, 37], page_size=1)
        for base in ("e", "2"):
            config, lse_base = case.config(lse_base=base), {"lse_base": base}
            states, lses = [], []
            for first, last in ((0, 5), (5, 5), (5, 30), (30, 37)):
                part = mla.batch(case.qo_indptr, [0, last - first, 2 * (last - first)],
                                 [last - first] * 2)
                ids = np.concatenate([case.kv_indices[begin + first:begin + last]
                                      for begin in case.kv_indptr[:2]])
                out, lse = mla.reference(config, part, *case.arrays()[:4], ids)
                states.append(out.reshape(-1, case.ckv))
                lses.append(lse.reshape(-1))
            states[1][:] = np.nan  # the empty part is not read
            merged, lse = mla.merge(np.stack(states), np.stack(lses), **lse_base)
            truth, truth_lse, sum_abs, _ = case.truth()
            error = np.abs(merged.reshape(truth.shape) - truth)
            self.assertTrue((error <= 4 * 2.0**-24 * sum_abs).all())
            expected = truth_lse if base == "e" else truth_lse / np.log(2)
            np.testing.assert_allclose(lse.reshape(5, 3), expected, rtol=1e-6)

    def test_nothing_seen(self):
        out, lse = mla.merge(np.full((2, 3, 4), np.nan, np.float32),
                             np.full((2, 3), -np.inf, np.float32))
        self.assertTrue((out == 0).all())
        self.assertTrue((lse == -np.inf).all())

    def test_errors(self):
        states = np.ones((2, 3, 4), np.float32)
        self.expect_raises(mla.InvalidError, r"states_lse: extent\[1\] is 2, expected 3", mla.merge,
                           states, np.zeros((2, 2), np.float32))
        self.expect_raises(ValueError, "lse_base is 10", mla.merge, states, states[..., 0],
                           lse_base=10)


def wrapper_of(case, workspace=None, **arguments):
    wrapper = flashinfer_mla.BatchMLAPagedAttentionWrapper(workspace, **arguments)
    wrapper.plan(*case.plan_arguments())
    return wrapper


def run_arguments(case):
    return [case.q_nope, case.q_pe, case.ckv_cache, case.kpe_cache]


def graph_buffers(case, pages):
    size = len(case.kv_len)
    return {"use_cuda_graph": True, "qo_indptr": np.zeros(size + 1, np.int32),
            "kv_indptr": np.zeros(size + 1, np.int32), "kv_len_arr": np.zeros(size, np.int32),
            "kv_indices": np.full(pages, -7, np.int32)}


class Wrapper(Checks):
    """The drop-in class on numpy arrays: FlashInfer's interface over the CPU reference."""

    def test_numpy(self):
        for name, case in cases():
            if case.q_pos0 is not None:
                continue  # FlashInfer has no such argument
            with self.subTest(name):
                wrapper = wrapper_of(case, np.empty(0, np.int8))
                out, lse = wrapper.run(*run_arguments(case), return_lse=True)
                self.expect_truth(case, out, lse, natural=False)
                out, lse = wrapper.run(*run_arguments(case), return_lse=True,
                                       return_lse_base_on_e=True)
                self.expect_truth(case, out, lse, natural=True)
                alone = wrapper.run(*run_arguments(case))
                self.assertEqual(alone.tobytes(), out.tobytes())

    def test_given_outputs(self):
        case = Case(90, [2, 1], [9, 12])
        out, lse = np.full_like(case.q_nope, 7), np.full((3, 3), 7, np.float32)
        returned = wrapper_of(case).run(*run_arguments(case), out=out, lse=lse)
        self.assertIs(returned, out)
        self.expect_truth(case, out, lse, natural=False)

    def test_planning_again(self):
        first, second = Case(91, [2, 1], [9, 12]), Case(92, [1, 4, 2], [3, 30, 8])
        wrapper = wrapper_of(first)
        for case in (first, second, first):
            wrapper.plan(*case.plan_arguments())
            out, lse = wrapper.run(*run_arguments(case), return_lse=True)
            self.expect_truth(case, out, lse, natural=False)

    def test_persistent_buffers(self):
        first, second = Case(93, [1, 1], [9, 12]), Case(94, [1, 1], [3, 30])
        buffers = graph_buffers(first, 20)
        wrapper = wrapper_of(first, **buffers)
        for case in (first, second):
            wrapper.plan(*case.plan_arguments())
            for name, values in (("qo_indptr", case.qo_indptr), ("kv_indptr", case.kv_indptr),
                                 ("kv_len_arr", case.kv_len)):
                self.assertEqual(list(buffers[name]), list(values))
            used = case.kv_indptr[-1]
            self.assertEqual(list(buffers["kv_indices"][:used]), list(case.kv_indices))
            self.assertTrue((buffers["kv_indices"][used:] != case.kv_indices[0]).all())
            out, lse = wrapper.run(*run_arguments(case), return_lse=True)
            self.expect_truth(case, out, lse, natural=False)
        buffers["kv_indices"][0] = 1000  # run reads the buffer, not what plan() was given
        self.expect_raises(ValueError, r"kv_indices\[0\] = 1000", wrapper.run,
                           *run_arguments(second))

    def test_more_rows_than_the_batch(self):
        """A captured graph keeps its q; the batch may become smaller."""
        large, small = Case(95, [2, 2], [9, 12]), Case(96, [1, 2], [3, 30])
        wrapper = wrapper_of(large, **graph_buffers(large, 20))
        wrapper.plan(*small.plan_arguments())
        arguments = run_arguments(small)
        arguments[:2] = [np.concatenate([q, np.full_like(q[:1], np.nan)]) for q in arguments[:2]]
        out, lse = np.full_like(arguments[0], 7), np.full((4, 3), 7, np.float32)
        wrapper.run(*arguments, out=out, lse=lse, return_lse=True)
        self.expect_truth(small, out[:3], lse[:3], natural=False)
        self.assertTrue((out[3:] == 7).all() and (lse[3:] == 7).all())

    def test_no_rope_part_as_width_0_or_none(self):
        case = Case(97, [2, 1], [9, 12], kpe=0)
        wrapper = wrapper_of(case)
        for rope in (case.q_pe, case.kpe_cache), (None, None):
            out, lse = wrapper.run(case.q_nope, rope[0], case.ckv_cache, rope[1], return_lse=True)
            self.expect_truth(case, out, lse, natural=False)

    def test_check_pages(self):
        case = Case(98, [2, 1], [9, 12])
        wrapper = wrapper_of(case)
        wrapper.check_pages(case.ckv_cache)
        self.expect_raises(ValueError, "the cache has 2 pages", wrapper.check_pages,
                           case.ckv_cache[:2])


class WrapperErrors(Checks):
    """What FlashInfer leaves unchecked."""

    def setUp(self):
        self.case = Case(100, [2, 1], [9, 12])

    def test_constructor(self):
        make = flashinfer_mla.BatchMLAPagedAttentionWrapper
        self.expect_raises(ValueError, "backend is 'fa4'", make, None, backend="fa4")
        self.expect_raises(ValueError, "on the host", make, None, backend="01_naive")
        for word in ("fa2", "fa3", "auto"):
            make(None, backend=word)
        buffers = graph_buffers(self.case, 20)
        for name in ("qo_indptr", "kv_indptr", "kv_len_arr", "kv_indices"):
            with self.subTest(name):
                self.expect_raises(ValueError, f"{name} is None", make, None,
                                   **{**buffers, name: None})
                self.expect_raises(ValueError, f"{name} is int64", make, None,
                                   **{**buffers, name: buffers[name].astype(np.int64)})
                self.expect_raises(ValueError, f"{name} is.*not empty", make, None,
                                   **{**buffers, name: buffers[name][:0]})
        self.expect_raises(ValueError, "kv_indptr has 2 entries, expected 3", make, None,
                           **{**buffers, "kv_indptr": np.zeros(2, np.int32)})

    def test_plan(self):
        names = ["qo_indptr", "kv_indptr", "kv_indices", "kv_len_arr", "num_heads", "head_dim_ckv",
                 "head_dim_kpe", "page_size", "causal", "sm_scale", "q_data_type", "kv_data_type"]
        good = dict(zip(names, self.case.plan_arguments()))
        ids = self.case.kv_indices
        for words, change in (
                (r"qo_indptr\[0\] is 1", {"qo_indptr": [1, 2, 3]}),
                (r"qo_indptr.*\(2 -> 1\)", {"qo_indptr": [0, 2, 1]}),
                ("qo_indptr has 2 entries, expected 3", {"qo_indptr": [0, 3]}),
                (r"kv_indptr.*\(4 -> 3\)", {"kv_indptr": [0, 4, 3]}),
                ("needs 3 pages of 4, kv_indptr gives 2", {"kv_indptr": [0, 2, 8]}),
                (r"kv_len\[0\] is -1", {"kv_len_arr": [-1, 12]}),
                ("kv_indices is int64", {"kv_indices": ids.astype(np.int64)}),
                ("kv_indices is list", {"kv_indices": list(ids)}),
                (r"kv_indices is int32 \(1, 8\)", {"kv_indices": ids[None]}),
                (r"kv_indices has 7 entries, kv_indptr\[-1\] is 8", {"kv_indices": ids[:-1]}),
                ("num_heads is 0", {"num_heads": 0}),
                ("head_dim_ckv is 0", {"head_dim_ckv": 0}),
                ("head_dim_kpe is -1", {"head_dim_kpe": -1}),
                ("page_size is 0", {"page_size": 0}),
                ("causal is 2", {"causal": 2}),
                ("sm_scale is nan", {"sm_scale": float("nan")}),
                ("dtype int32", {"q_data_type": np.int32}),
                ("dtype complex64", {"kv_data_type": np.complex64})):
            with self.subTest(words):
                wrapper = wrapper_of(self.case)
                self.expect_raises(ValueError, words, wrapper.plan, **{**good, **change})
                self.expect_raises(ValueError, "nothing is planned", wrapper.run,
                                   *run_arguments(self.case))

    def test_run(self):
        case = self.case
        wrapper = wrapper_of(case)
        good = dict(zip(("q_nope", "q_pe", "ckv_cache", "kpe_cache"), run_arguments(case)))
        lse = np.zeros((3, 3), np.float32)
        for words, change in (
                (r"q_nope has 2 rows, qo_indptr\[-1\] is 3", {"q_nope": case.q_nope[:2]}),
                (r"q_nope has 6 rows", {"q_nope": np.concatenate([case.q_nope] * 2)}),
                ("q_nope has 2 dimensions", {"q_nope": case.q_nope[0]}),
                (r"q_nope: extent\[1\] is 2, expected 3", {"q_nope": case.q_nope[:, :2]}),
                ("q_nope: dtype is fp16", {"q_nope": case.q_nope.astype(np.float16)}),
                ("q_nope: the last stride", {"q_nope": np.asfortranarray(case.q_nope)}),
                ("q_pe has 2 rows, q_nope 3", {"q_pe": case.q_pe[:2]}),
                (r"q_pe: extent\[2\] is 4, expected 8", {"q_pe": case.q_pe[..., :4]}),
                ("q_pe or kpe_cache is None", {"q_pe": None}),
                (r"ckv: extent\[1\] is 3, expected 4", {"ckv_cache": case.ckv_cache[:, :3]}),
                (r"kpe: extent\[2\] is 4", {"kpe_cache": case.kpe_cache[..., :4]}),
                ("kpe has 2 pages", {"kpe_cache": case.kpe_cache[:2]}),
                ("ckv: dtype is fp16", {"ckv_cache": case.ckv_cache.astype(np.float16)}),
                (r"kv_indices\[\d\] = \d+", {"ckv_cache": case.ckv_cache[:1],
                                            "kpe_cache": case.kpe_cache[:1]}),
                (r"out has shape \(2, 3, 32\)", {"out": np.zeros_like(case.q_nope)[:2]}),
                ("out: dtype is fp16", {"out": np.zeros(case.q_nope.shape, np.float16)}),
                (r"lse has shape \(3,\)", {"lse": lse[0]}),
                ("lse: dtype is fp16", {"lse": lse.astype(np.float16)}),
                ("lse: the last stride", {"lse": np.zeros((3, 6), np.float32)[:, ::2]})):
            with self.subTest(words):
                if "lse" in words:
                    change = {**change, "return_lse": False}  # a given lse is checked all the same
                self.expect_raises(ValueError, words, wrapper.run, **{**good, **change})

    def test_graph_mode_is_frozen(self):
        case = self.case
        wrapper = wrapper_of(case, **graph_buffers(case, 8))
        self.expect_raises(ValueError, "1 requests.*fix it to 2", wrapper.plan,
                           *Case(101, [1], [9]).plan_arguments())
        self.expect_raises(ValueError, "the kv_indices buffer holds 8", wrapper.plan,
                           *Case(102, [2, 1], [9, 32]).plan_arguments())
        self.expect_raises(ValueError, "changes num_heads from 3 to 4", wrapper.plan,
                           *Case(103, [2, 1], [9, 12], heads=4).plan_arguments())
        self.expect_raises(ValueError, "changes causal from 0 to 1", wrapper.plan,
                           *Case(104, [2, 1], [9, 12], causal=True).plan_arguments())


def to_torch(array, device="cpu"):
    """A numpy array as a torch tensor of its own; uint16 becomes bfloat16, views stay views."""
    if array.dtype != np.uint16:
        return torch.from_numpy(array.copy()).to(device)
    return torch.from_numpy(array.view(np.int16).copy()).to(device).view(torch.bfloat16)


def from_torch(tensor):
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


class TorchCase:
    """A Case as torch tensors: the caches are views of one fused tensor."""

    def __init__(self, case, device="cpu"):
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "f32": torch.float32}[case.dtype]
        cache = to_torch(case.cache, device)
        self.run_arguments = [to_torch(case.q_nope, device), to_torch(case.q_pe, device),
                              cache[..., :case.ckv], cache[..., case.ckv:]]
        tables = [to_torch(array, device) for array in (case.qo_indptr, case.kv_indptr,
                                                        case.kv_indices, case.kv_len)]
        self.plan_arguments = tables + case.plan_arguments()[4:10] + [dtype, dtype]


@unittest.skipIf(torch is None, "SKIPPED, torch is not installed")
class TorchCpu(Checks):
    def test_wrapper(self):
        for name in ("bf16", "fp16", "mixed causal", "no keys", "no rope part", "width 1"):
            with self.subTest(name):
                case = Case(110, **RAGGED[name])
                tensors = TorchCase(case)
                wrapper = flashinfer_mla.BatchMLAPagedAttentionWrapper(
                    torch.empty(1024, dtype=torch.int8))
                wrapper.plan(*tensors.plan_arguments)
                out, lse = wrapper.run(*tensors.run_arguments, return_lse=True)
                self.assertEqual(out.dtype, tensors.run_arguments[0].dtype)
                self.expect_truth(case, from_torch(out), from_torch(lse), natural=False)

    def test_persistent_buffers(self):
        first, second = Case(111, [1, 1], [9, 12]), Case(112, [1, 1], [3, 30])
        buffers = {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                   for name, value in graph_buffers(first, 20).items()}
        wrapper = flashinfer_mla.BatchMLAPagedAttentionWrapper(torch.empty(8), **buffers)
        for case in (first, second):
            wrapper.plan(*TorchCase(case).plan_arguments)
            out, lse = wrapper.run(*TorchCase(case).run_arguments, return_lse=True)
            self.expect_truth(case, from_torch(out), from_torch(lse), natural=False)


BIG = dict(heads=128, ckv=512, kpe=64, page_size=64, dtype="bf16", peak=4.0)


@unittest.skipUnless(torch is not None and torch.cuda.is_available(), "SKIPPED, no CUDA device")
class Gpu(Checks):
    """The drop-in class on CUDA tensors. The bounds are those of the project's checker."""

    def setUp(self):
        self.workspace = torch.empty(160 << 20, dtype=torch.uint8, device="cuda")

    def expect_close(self, case, out, lse=None, natural=False):
        truth, truth_lse, sum_abs, largest = case.truth()
        found = load(from_torch(out))
        error = np.abs(found - truth)
        self.assertTrue((error <= 2 * EPS[case.dtype] * sum_abs).all(),
                        f"largest error {np.nanmax(error)}, NaN {np.isnan(found).sum()}")
        size = np.sqrt((truth**2).sum(axis=-1))
        self.assertTrue((np.sqrt((error**2).sum(axis=-1)) <= 0.005 * size).all())
        if lse is not None:
            scale = 1.0 if natural else np.log(2)
            seen = np.isfinite(truth_lse)
            lse = from_torch(lse).astype(np.float64) * scale
            self.assertTrue((lse[~seen] == -np.inf).all())
            bound = 1e-5 + 2.0**-19 * largest[seen]
            self.assertTrue((np.abs(lse[seen] - truth_lse[seen]) <= bound).all())

    def wrapper(self, case, **arguments):
        wrapper = flashinfer_mla.BatchMLAPagedAttentionWrapper(self.workspace, **arguments)
        tensors = TorchCase(case, "cuda")
        wrapper.plan(*tensors.plan_arguments)
        wrapper.check_pages(tensors.run_arguments[2])
        return wrapper, tensors.run_arguments

    def backends(self, case):
        """"auto" and every rung that takes the case."""
        device, names = mla.device_query(), ["auto"]
        for kernel in mla.kernels():
            why = mla.refusal(kernel.name, case.config(lse_base="2"), device)
            if why is None:
                names.append(kernel.name)
            else:
                print(f"SKIPPED {kernel.name}: {why}")
        return names

    def test_every_rung(self):
        shapes = {
            "128 heads, split": dict(qo_len=[1, 1], kv_len=[1500, 67], **BIG),
            "128 heads, causal": dict(qo_len=[2, 1, 3], kv_len=[300, 1, 64], causal=True, **BIG),
            "16 heads, negative scale": dict(qo_len=[1, 2], kv_len=[900, 70],
                                             **{**BIG, "heads": 16, "peak": -4.0}),
            "16 heads, queries without keys": dict(qo_len=[4, 0, 1], kv_len=[2, 9, 0], causal=True,
                                                   **{**BIG, "heads": 16}),
        }
        for seed, (name, shape) in enumerate(shapes.items()):
            case = Case(200 + seed, **shape)
            for backend in self.backends(case):
                with self.subTest(name, backend=backend):
                    wrapper, arguments = self.wrapper(case, backend=backend)
                    out, lse = torch.full_like(arguments[0], float("nan")), None
                    lse = torch.full(out.shape[:2], float("nan"), device="cuda")
                    wrapper.run(*arguments, out=out, lse=lse)
                    self.expect_close(case, out, lse)
                    out, lse = wrapper.run(*arguments, return_lse=True, return_lse_base_on_e=True)
                    self.expect_close(case, out, lse, natural=True)

    def test_lse_near_0_in_fp16(self):
        """Within 1e-6, as FlashMLA's tests ask: the weights' shift must not cancel there."""
        lengths = [4 + i % 22 for i in range(64)]
        case = Case(230, [4] * 64, lengths, causal=True,
                    **{**BIG, "heads": 3, "dtype": "fp16", "peak": 1.7})
        truth = case.truth()[1]
        near = np.abs(truth) < 1
        self.assertGreater(near.sum(), 20)
        for backend in self.backends(case):
            if backend in ("01_naive", "02_splitk"):  # one sum of 576 products in f32: 1.3e-6
                continue
            with self.subTest(backend=backend):
                wrapper, arguments = self.wrapper(case, backend=backend)
                _, lse = wrapper.run(*arguments, return_lse=True, return_lse_base_on_e=True)
                error = np.abs(from_torch(lse).astype(np.float64) - truth)[near]
                self.assertLess(error.max(), 1e-6)

    def test_portable_shapes(self):
        for name in ("mixed causal", "no keys", "page size 7", "no rope part", "fp16", "bf16"):
            case = Case(210, **{"dtype": "bf16", **RAGGED[name]})
            with self.subTest(name):
                wrapper, arguments = self.wrapper(case, backend="01_naive")
                self.expect_close(case, *wrapper.run(*arguments, return_lse=True))

    def test_a_growing_batch(self):
        """plan() beyond the capacity makes a new plan; in between, the old one is used again."""
        wrapper = flashinfer_mla.BatchMLAPagedAttentionWrapper(self.workspace)
        plans = set()
        for kv_len in (60, 63, 300, 100, 900):
            case = Case(kv_len, [1, 2], [kv_len, 33], **{**BIG, "heads": 16})
            tensors = TorchCase(case, "cuda")
            wrapper.plan(*tensors.plan_arguments)
            plans.add(wrapper._plan)
            self.expect_close(case, *wrapper.run(*tensors.run_arguments, return_lse=True))
        self.assertEqual(len(plans), 3)

    def test_plan_plan_run_run(self):
        """A second plan() before the first one's copy is done."""
        first, second = (Case(seed, [1, 1], lengths, **{**BIG, "heads": 16})
                         for seed, lengths in ((220, [700, 40]), (221, [40, 700])))
        wrapper, arguments = self.wrapper(first)
        torch.cuda._sleep(100_000_000)
        tensors = [TorchCase(case, "cuda") for case in (first, second)]
        host = [[a.cpu() if torch.is_tensor(a) else a for a in t.plan_arguments] for t in tensors]
        outs = []
        for planned, given in zip(host, tensors):
            wrapper.plan(*planned)
            outs.append(wrapper.run(*given.run_arguments, return_lse=True))
        for case, (out, lse) in zip((first, second), outs):
            self.expect_close(case, out, lse)

    def test_graph_with_plans_in_between(self):
        shapes = [([1, 1, 1], [70, 3, 200]), ([1, 1, 1], [1500, 900, 1]), ([1, 1, 1], [0, 64, 65]),
                  ([2, 1, 0], [500, 500, 500]), ([0, 0, 1], [9, 9, 1300])]
        made = [Case(230 + seed, *shape, causal=True, **BIG) for seed, shape in enumerate(shapes)]
        pages = 1 + max(int(case.kv_indptr[-1]) for case in made)
        buffers = {name: torch.from_numpy(value).cuda() if isinstance(value, np.ndarray) else value
                   for name, value in graph_buffers(made[0], pages).items()}
        for backend in self.backends(made[0]):
            with self.subTest(backend):
                self.replay(made, buffers, backend)

    def replay(self, made, buffers, backend):
        wrapper, arguments = self.wrapper(made[0], backend=backend, **buffers)
        rows = max(len(case.cache) for case in made)
        cache = torch.zeros((rows,) + made[0].cache.shape[1:], dtype=torch.bfloat16, device="cuda")
        q_nope, q_pe = arguments[:2]
        out, lse = torch.empty_like(q_nope), torch.empty(q_nope.shape[:2], device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            wrapper.run(q_nope, q_pe, cache[..., :512], cache[..., 512:], out=out, lse=lse)
        for case in made + made[::-1]:
            tensors = TorchCase(case, "cuda")
            wrapper.plan(*tensors.plan_arguments)
            total = int(case.qo_indptr[-1])
            q_nope[:total], q_pe[:total] = tensors.run_arguments[:2]
            cache[:len(case.cache)] = to_torch(case.cache, "cuda")
            out.fill_(float("nan"))
            lse.fill_(float("nan"))
            graph.replay()
            self.expect_close(case, out[:total], lse[:total])
            self.assertTrue(bool(torch.isnan(out[total:]).all()), "rows beyond the batch")

    def test_graph_errors(self):
        case = Case(240, [1, 1], [70, 30], **BIG)
        wrapper, arguments = self.wrapper(case)
        for what in (lambda: wrapper.run(*arguments),
                     lambda: wrapper.plan(*case.plan_arguments())):
            graph = torch.cuda.CUDAGraph()
            with self.assertRaisesRegex(ValueError, "being captured"):
                with torch.cuda.graph(graph):
                    torch.zeros(1, device="cuda")
                    what()
        buffers = {name: torch.from_numpy(value).cuda() if isinstance(value, np.ndarray) else value
                   for name, value in graph_buffers(case, 10).items()}
        wrapper, arguments = self.wrapper(case, **buffers)
        more = Case(241, [2, 1], [70, 30], **BIG)
        self.expect_raises(ValueError, "3 queries.*capacity is 2", wrapper.plan,
                           *TorchCase(more, "cuda").plan_arguments)

    def test_nothing_to_read_in_a_graph(self):
        """No request has a key, and the cache has no page."""
        case = Case(245, [1, 2], [0, 0], **BIG)
        cache = torch.zeros((0, case.page_size, 576), dtype=torch.bfloat16, device="cuda")
        buffers = {name: torch.from_numpy(value).cuda() if isinstance(value, np.ndarray) else value
                   for name, value in graph_buffers(case, 10).items()}
        for backend in self.backends(case):
            with self.subTest(backend):
                wrapper, (q_nope, q_pe, *_) = self.wrapper(case, backend=backend, **buffers)
                arguments = q_nope, q_pe, cache[..., :512], cache[..., 512:]
                self.expect_close(case, *wrapper.run(*arguments, return_lse=True))
                out, lse = torch.empty_like(q_nope), torch.empty(q_nope.shape[:2], device="cuda")
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    wrapper.run(*arguments, out=out, lse=lse)
                out.fill_(float("nan"))
                lse.fill_(float("nan"))
                graph.replay()
                self.expect_close(case, out, lse)

    def test_outputs_that_overlap(self):
        case = Case(246, [1, 1], [70, 30], **BIG)
        wrapper, arguments = self.wrapper(case)
        out, lse = wrapper.run(*arguments, return_lse=True)
        for words, outputs in (
                ("out overlaps q_nope", {"out": arguments[0]}),
                ("out: its rows of 1024 bytes overlap", {"out": out[:1].expand(out.shape)}),
                ("lse: its rows of 512 bytes overlap", {"lse": lse[:1].expand(lse.shape)})):
            with self.subTest(words):
                self.expect_raises(mla.InvalidError, words, wrapper.run, *arguments, **outputs)
        columns = out.shape[1] * out.shape[2]
        pool = torch.empty((2, columns + 2 * lse.shape[1]), dtype=torch.bfloat16, device="cuda")
        apart = {"out": pool[:, :columns].unflatten(1, out.shape[1:]),
                 "lse": pool[:, columns:].view(torch.float32)}
        wrapper.run(*arguments, **apart)
        self.expect_close(case, apart["out"], apart["lse"])

    def test_another_stream(self):
        """Everything goes to torch's current stream: on the default one q would still be NaN."""
        case = Case(250, [1, 2], [700, 40], **BIG)
        tensors = TorchCase(case, "cuda")
        wrapper = flashinfer_mla.BatchMLAPagedAttentionWrapper(self.workspace)
        late = tensors.run_arguments[0]
        q_nope = torch.full_like(late, float("nan"))
        stream = torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            wrapper.plan(*tensors.plan_arguments)
            torch.cuda._sleep(200_000_000)
            q_nope.copy_(late)
            out, lse = wrapper.run(q_nope, *tensors.run_arguments[1:], return_lse=True)
        stream.synchronize()
        self.expect_close(case, out, lse)

    def test_run_does_not_synchronise(self):
        case = Case(260, [1, 2], [700, 40], **BIG)
        wrapper, arguments = self.wrapper(case)
        wrapper.run(*arguments, return_lse=True)
        torch.cuda.synchronize()
        torch.cuda._sleep(1_000_000_000)
        asleep = torch.cuda.Event()
        asleep.record()
        out, lse = wrapper.run(*arguments, return_lse=True, return_lse_base_on_e=True)
        self.assertFalse(asleep.query(), "run() waited for the device")
        self.expect_close(case, out, lse, natural=True)

    def test_merge(self):
        generator = np.random.default_rng(270)
        states = generator.standard_normal((3, 40, 512)).astype(np.float32)
        lse = (3 * generator.standard_normal((3, 40))).astype(np.float32)
        lse[1, :5] = -np.inf
        states[1, :5] = np.nan
        lse[:, 7] = -np.inf
        lse[2, 9] = lse[0, 11] = np.nan  # behind and before what is none
        for base in ("e", "2"):
            expected = mla.merge(states, lse, lse_base=base)
            found = mla.merge(to_torch(states, "cuda"), to_torch(lse, "cuda"), lse_base=base)
            for one, other in zip(found, expected):
                np.testing.assert_allclose(from_torch(one), other, rtol=1e-5, atol=1e-5)

    def test_wrong_place(self):
        case = Case(280, [1, 2], [70, 40], **BIG)
        wrapper, arguments = self.wrapper(case)
        self.expect_raises(ValueError, "q_nope is on the host", wrapper.run, arguments[0].cpu(),
                           *arguments[1:])
        self.expect_raises(ValueError, "q_pe is on the host", wrapper.run, arguments[0],
                           arguments[1].cpu(), *arguments[2:])
        self.expect_raises(ValueError, "out is on the host", wrapper.run, *arguments,
                           out=arguments[0].cpu())
        self.expect_raises(ValueError, "on a CUDA device", mla.reference, case.config(),
                           case.batch(), *arguments, TorchCase(case, "cuda").plan_arguments[2])
        wild = case.kv_indices.copy()
        wild[0] = 1000
        case.kv_indices = wild
        with self.assertRaisesRegex(ValueError, r"kv_indices\[0\] = 1000"):
            self.wrapper(case)

    def test_workspace_too_small(self):
        case = Case(290, [1, 2], [700, 40], **BIG)
        self.workspace = torch.empty(1000, dtype=torch.uint8, device="cuda")
        with self.assertRaisesRegex(ValueError, "gives [0-9]+ bytes, 02_splitk takes [0-9]+"):
            self.wrapper(case, backend="02_splitk")


if __name__ == "__main__":
    unittest.main(verbosity=2)
