#!/usr/bin/env python3
"""peers.py - times other libraries' MLA kernels beside ours, in one process on the same inputs.

    python3 harness/python/mla/peers.py --cells -o peers.json
    python3 harness/python/mla/peers.py FILE.h5 -c 001/005 -k 02,auto

Peers, each where its module can be imported; the others are named and skipped:

    flashinfer:fa2, flashinfer:fa3   flashinfer.mla.BatchMLAPagedAttentionWrapper
    flashmla:dense                   flash_mla.flash_mla_with_kvcache
    flashattention:fa3               flash_attn_interface.flash_attn_with_kvcache, qv = q_nope

Every implementation is judged against libmla's CPU reference first, and its timed outputs again
afterwards. Each is captured in a CUDA graph of several calls, which rotate over copies of the
inputs so that the L2 cache is cold; the graphs are replayed in turn, A B A B, so that clocks and
temperature are the same for all. Plans and schedules are made outside of the timing, merges are
inside. The result file has the form that mla bench writes.

Needs torch with CUDA, and libmla.so. Exit codes: 0 good, 1 an implementation is wrong, 2 wrong
usage, 3 a file cannot be used, 77 no CUDA device.
"""
import contextlib
import fnmatch
import importlib
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time

import numpy as np

if not __package__:  # run by its path: the package is found where it lies, not in its own folder
    sys.path[:1] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import mla  # noqa: E402
from mla import inputs, nvml, output, peers_case, program, results  # noqa: E402

CALLS = 10  # per graph, at least
MAX_COPIES = 128
PEER_SLACK = {"element": 8, "rms": 8, "lse": 64}  # see _judged()
WORKSPACE = 128 << 20
LN2 = math.log(2)


# ---- where things run ---------------------------------------------------------------------------


class Host:
    """numpy on the CPU: for trying an adapter out, and for tests. Times mean little."""
    name, mode, arch, on_gpu = "the host", "host", 0, False

    def normal(self, shape, seed):
        return mla.to_bf16(np.random.default_rng(seed).standard_normal(shape, np.float32))

    def give(self, array):
        return np.array(array, order="C")

    def empty(self, shape, dtype):
        kinds = {"bf16": np.uint16, "fp16": np.float16, "f32": np.float32}
        return np.empty(shape, kinds[dtype])

    def poison(self, array):
        """NaN: what is not written is seen."""
        array.view(np.uint8)[...] = 0xff

    def dtype(self, word):
        return word

    def numpy(self, array, rows):
        return np.asarray(array)[rows]

    def workspace(self):
        return None

    def copies(self, _bytes):
        return 1, False

    def capture(self, calls):
        return lambda: [call() for call in calls]

    def sample(self, runs, count, calls):
        """(microseconds per call, clocks) of each of runs, count times in turn."""
        samples = [[] for _ in runs]
        for _ in range(count):
            for run, own in zip(runs, samples):
                start = time.perf_counter()
                run()
                own.append((time.perf_counter() - start) * 1e6 / calls)
        return [(own, None) for own in samples]


class Cuda:
    """torch on the current GPU."""
    mode, device, on_gpu = "graph", "cuda", True

    def __init__(self, torch):
        self.torch = torch
        self.properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.name = self.properties.name
        self.arch = 10 * self.properties.major + self.properties.minor
        uuid = getattr(self.properties, "uuid", None)
        self.nvml = nvml.opened(f"GPU-{uuid}") if uuid else None

    def normal(self, shape, seed):
        generator = self.torch.Generator(self.device).manual_seed(seed)
        return self.torch.randn(shape, generator=generator, device=self.device,
                                dtype=self.torch.bfloat16)

    def give(self, array):
        """A copy on the GPU of a tensor there or of a numpy array (uint16: the bits of bf16)."""
        if mla.is_torch(array):
            return array.clone(memory_format=self.torch.contiguous_format)
        array = np.ascontiguousarray(array)
        if array.dtype == np.uint16:
            bits = self.torch.from_numpy(array.view(np.int16)).to(self.device, copy=True)
            return bits.view(self.torch.bfloat16)
        return self.torch.from_numpy(array).to(self.device, copy=True)

    def empty(self, shape, dtype):
        return self.torch.empty(shape, dtype=self.dtype(dtype), device=self.device)

    def poison(self, array):
        array.fill_(math.nan)

    def dtype(self, word):
        return {"bf16": self.torch.bfloat16, "fp16": self.torch.float16,
                "f32": self.torch.float32}[word]

    def numpy(self, array, rows):
        """Some rows of an array, as numpy; bf16 as its bits."""
        if not mla.is_torch(array):
            return np.asarray(array)[rows]
        if not isinstance(rows, slice):
            rows = self.torch.as_tensor(np.asarray(rows, np.int64), device=array.device)
        picked = array[rows].contiguous().cpu()
        if picked.dtype == self.torch.bfloat16:
            return picked.view(self.torch.int16).numpy().view(np.uint16)
        return picked.numpy()

    def workspace(self):
        return self.torch.empty(WORKSPACE, dtype=self.torch.uint8, device=self.device)

    def copies(self, size):
        """(copies of the inputs that the calls rotate over, is the cache cold)."""
        target = 2 * getattr(self.properties, "L2_cache_size", 60 << 20)
        room = int(0.5 * self.torch.cuda.mem_get_info()[0] / max(size, 1))
        wanted = 1 if size >= target else int(target / max(size, 1)) + 2
        count = max(1, min(wanted, MAX_COPIES, room))
        return count, size >= target or (count - 1) * size >= target

    def capture(self, calls):
        """A CUDA graph of the calls; returns what replays it."""
        side = self.torch.cuda.Stream()
        side.wait_stream(self.torch.cuda.current_stream())
        with self.torch.cuda.stream(side):
            for call in calls[:2]:
                call()
        self.torch.cuda.current_stream().wait_stream(side)
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            for call in calls:
                call()
        return graph.replay

    def sample(self, runs, count, calls):
        """(microseconds per call, clocks) of each of runs, count times in turn; all is queued at
        once."""
        def event():
            return self.torch.cuda.Event(enable_timing=True)
        pairs = [[(event(), event()) for _ in range(count)] for _ in runs]
        for run in runs:
            run()
        for turn in range(count):
            for run, own in zip(runs, pairs):
                own[turn][0].record()
                run()
                own[turn][1].record()
        clocks = watch(self.nvml, pairs)
        self.torch.cuda.synchronize()
        return [([begin.elapsed_time(end) * 1e3 / calls for begin, end in own], load)
                for own, load in zip(pairs, clocks)]


def watch(meter, pairs):
    """Clocks of each run, read while its samples run; None where nobody tells. pairs: per run, the
    events around each sample, of queued work that comes in turns. A reading is that of the sample
    which is running when it is begun."""
    readings = [[] for _ in pairs]
    for turn in zip(*pairs) if meter else ():
        for own, (begin, end) in zip(readings, turn):
            while not begin.query():
                pass
            if not end.query():
                own.append(meter.read())
    return [nvml.load(own) for own in readings]


class Copy:
    """One copy of a case's inputs, and outputs of its own, in every layout that is asked for."""

    def __init__(self, case, place):
        ckv = peers_case.CKV
        self.q, self.cache = place.give(case.q), place.give(case.cache)
        self.q_nope, self.q_pe = place.give(case.q[..., :ckv]), place.give(case.q[..., ckv:])
        self.ckv, self.kpe = self.cache[..., :ckv], self.cache[..., ckv:]
        rows = tuple(case.q.shape[:2])
        self.out = place.empty(rows + (ckv,), case.dtype)
        self.lse = place.empty(rows, "f32")


# ---- implementations ----------------------------------------------------------------------------


class Skip(Exception):
    """Why an implementation does not run: its module is missing, or it does not take the case."""


def _import(name):
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module that breaks while it is imported is as good as none
        raise Skip(f"{name} cannot be imported: {type(error).__name__}: {error}") from None


class Ours:
    """A rung of the ladder through mla.Plan; on the host the reference."""

    def __init__(self, kernel):
        self.name = kernel
        self.lse_base = "e"

    def prepare(self, case, place, copies):
        self.config, self.batch = case.config(), case.batch()
        indices = place.give(case.kv_indices)
        scratch, self.plan = None, None
        if place.on_gpu:
            try:
                self.plan = mla.Plan(self.config, mla.capacity_of(self.config, self.batch),
                                     self.name)
            except mla.MlaError as error:
                raise Skip(error.text) from None
            self.plan.build(self.batch)
            self.plan.upload()
            self.name = self.plan.info.kernel_name
            size = self.plan.info.scratch_bytes
            if size:
                scratch = place.torch.empty(size, dtype=place.torch.uint8, device=place.device)
        else:
            self.name = "reference"
        self.arguments = [mla.tensors(c.q_nope, c.q_pe, c.ckv, c.kpe, indices, c.out, c.lse,
                                      scratch) for c in copies]

    def call(self, index, copy):
        if self.plan:
            self.plan.run(self.arguments[index])
        else:
            mla.library().mla_reference(self.config, self.batch, self.arguments[index])
        return copy.out, copy.lse


class FlashInfer:
    """flashinfer.mla.BatchMLAPagedAttentionWrapper; lse is base 2."""
    lse_base = "2"

    def __init__(self, backend):
        self.name, self.backend = f"flashinfer:{backend}", backend

    def prepare(self, case, place, copies):
        module = _import("flashinfer.mla")
        if case.q_pos0 is not None:
            raise Skip("it has no q_pos0: queries are the last of their request")
        if self.backend == "fa3" and place.arch not in (0, 90):
            raise Skip(f"fa3 runs on compute capability 9.0, this is {place.arch / 10}")
        self.wrapper = module.BatchMLAPagedAttentionWrapper(place.workspace(), backend=self.backend)
        self.wrapper.plan(place.give(case.qo_indptr), place.give(case.kv_indptr),
                          place.give(case.kv_indices), place.give(case.kv_len), case.num_heads,
                          peers_case.CKV, peers_case.KPE, case.page_size, case.causal,
                          case.sm_scale, place.dtype(case.dtype), place.dtype(case.dtype))

    def call(self, _index, copy):
        self.wrapper.run(copy.q_nope, copy.q_pe, copy.ckv, copy.kpe, out=copy.out, lse=copy.lse,
                         return_lse=True)
        return copy.out, copy.lse


def _need_rows(case, page_size=None):
    """Queries per request, for those that take [B, queries, H, ...]; Skip if they cannot."""
    queries = case.uniform_qo()
    if queries is None:
        raise Skip("it takes as many queries of every request, at least one")
    if case.q_pos0 is not None:
        raise Skip("it has no q_pos0: queries are the last of their request")
    if page_size and case.page_size != page_size:
        raise Skip(f"it takes pages of {page_size} keys, these have {case.page_size}")
    return queries


def _block_table(case, place):
    """[B, pages of the longest request]; what is beyond a request's pages is never read."""
    tables = [case.pages(request) for request in range(len(case.kv_len))]
    block_table = np.zeros((len(tables), max([1, *map(len, tables)])), np.int32)
    for row, pages in zip(block_table, tables):
        row[:len(pages)] = pages
    return place.give(block_table)


def _rows_of(out, lse):
    """out [B, queries, H, d] and lse [B, H, queries] as [total_q, H, d] and [total_q, H]."""
    batch, queries, heads, width = out.shape
    return (out.reshape(batch * queries, heads, width),
            lse.swapaxes(1, 2).reshape(batch * queries, heads))


class FlashMLA:
    """flash_mla.flash_mla_with_kvcache, dense; lse is natural."""
    name, lse_base = "flashmla:dense", "e"
    unseen = math.inf  # lse of a row that sees no key

    def prepare(self, case, place, copies):
        self.module = _import("flash_mla")
        self.queries = _need_rows(case, 64)
        self.table, self.lengths = _block_table(case, place), place.give(case.kv_len)
        self.scale, self.causal = case.sm_scale, case.causal
        # Its older versions use these arguments, newer ones ignore them.
        self.schedule = self.module.get_mla_metadata(self.lengths, self.queries * case.num_heads, 1)

    def call(self, _index, copy):
        rows, heads, width = copy.q.shape
        out, lse = self.module.flash_mla_with_kvcache(
            copy.q.reshape(rows // self.queries, self.queries, heads, width),
            copy.cache[:, :, None, :], self.table, self.lengths, peers_case.CKV, *self.schedule,
            softmax_scale=self.scale, causal=self.causal)[:2]
        return _rows_of(out, lse)


class FlashAttention3:
    """flash_attn_interface.flash_attn_with_kvcache with qv; its schedule is part of the call."""
    name, lse_base = "flashattention:fa3", "e"

    def prepare(self, case, place, copies):
        self.module = _import("flash_attn_interface")
        self.queries = _need_rows(case)
        if place.arch not in (0, 90):
            raise Skip(f"it runs on compute capability 9.0, this is {place.arch / 10}")
        self.table, self.lengths = _block_table(case, place), place.give(case.kv_len)
        self.scale, self.causal = case.sm_scale, case.causal

    def call(self, _index, copy):
        def rows(array):
            return array.reshape(-1, self.queries, *array.shape[1:])
        out, lse = self.module.flash_attn_with_kvcache(
            rows(copy.q_pe), copy.kpe[:, :, None, :], copy.ckv[:, :, None, :], qv=rows(copy.q_nope),
            cache_seqlens=self.lengths, page_table=self.table, softmax_scale=self.scale,
            causal=self.causal, return_softmax_lse=True)[:2]
        return _rows_of(out, lse)


PEERS = [lambda: FlashInfer("fa2"), lambda: FlashInfer("fa3"), FlashMLA, FlashAttention3]


# ---- one case -----------------------------------------------------------------------------------


class Contest:
    """All implementations on one case: checked, captured, timed in turn, checked again."""

    def __init__(self, case, place, implementations, samples):
        self.case, self.place, self.samples = case, place, samples
        self.implementations = implementations
        self.records = {}
        self.cold = False

    def run(self):
        """A list of measurements, as a result file has them."""
        truth = peers_case.Truth(self.case, self.place)
        count, self.cold = self.place.copies(self.case.summary["bytes"])
        copies = [Copy(self.case, self.place) for _ in range(count)]
        ready = [i for i in self.implementations if self._admit(i, copies, truth)]
        self._time(ready, copies, truth)
        return [{"case": self.case.summary, **record} for record in self.records.values()]

    def _record(self, implementation, status, why="", errors=None):
        record = {"implementation": implementation.name, "status": status, "why": why,
                  "errors": errors, "plan_us": None, "timings": []}
        self.records[implementation.name] = record
        return record

    def _admit(self, implementation, copies, truth):
        """Is it here, does it take the case, and is it right?"""
        try:
            implementation.prepare(self.case, self.place, copies)
            if implementation.name in self.records:  # "auto" was this rung
                return False
            self._poison(copies)
            outputs = implementation.call(0, copies[0])
            record = self._judged(implementation, outputs, truth)
        except Skip as skip:
            self._record(implementation, "SKIP", str(skip))
            return False
        except Exception as error:  # theirs may raise anything
            record = self._record(implementation, "FAIL", f"{type(error).__name__}: {error}"[:500])
        return record["status"] == "PASS"

    def _poison(self, copies):
        """The outputs are shared: what one left must not pass for another's."""
        for copy in copies:
            self.place.poison(copy.out)
            self.place.poison(copy.lse)

    def _judged(self, implementation, outputs, truth):
        """Ours is held to mla check's bounds. A peer may err PEER_SLACK times as much, which is still
        far from another problem's result: what it gives up stands beside its time. An lse may be
        64 times as far off, some 1e-3: that is what FlashInfer's own tests allow."""
        out, lse = outputs
        if lse is not None and implementation.lse_base == "2":
            lse = lse * LN2
        errors = truth.judge(out, lse, self.place, getattr(implementation, "unseen", -math.inf))
        worst = max(errors.values())
        ours = results.kind_of(implementation.name) != "peer"
        finite = {key: value if math.isfinite(value) else "inf" for key, value in errors.items()}
        allowed = {key: 1 if ours else PEER_SLACK[key] for key in errors}
        if not all(errors[key] <= allowed[key] for key in errors):
            return self._record(implementation, "FAIL",
                                "errors over their bounds: " + _error_words(errors), finite)
        why = "" if worst <= 1 else "less exact than asked of our own: " + _error_words(errors)
        return self._record(implementation, "PASS", why, finite)

    def _time(self, ready, copies, truth):
        calls = len(copies) * -(-CALLS // len(copies)) if self.place.mode == "graph" else 1
        runs, last = {}, {}
        for implementation in ready:
            def one(index, implementation=implementation):
                last[implementation] = implementation.call(index, copies[index])
            try:
                runs[implementation] = self.place.capture(
                    [lambda i=i, one=one: one(i % len(copies)) for i in range(calls)])
            except Exception as error:  # theirs may not be made for graphs
                self._record(implementation, "FAIL",
                             f"not to be captured: {type(error).__name__}: {error}"[:500])
        samples = self.place.sample(list(runs.values()), self.samples, calls)
        for (implementation, run), (own, clocks) in zip(runs.items(), samples):
            self._poison(copies)
            run()
            record = self._judged(implementation, last[implementation], truth)
            if record["status"] == "PASS":
                record["timings"] = [self._timing(own, clocks)]
            else:
                record["why"] = "right alone, wrong when timed: " + record["why"]

    def _timing(self, samples, clocks):
        q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
        return {"mode": self.place.mode, "cache": "cold" if self.cold else "hot",
                "median_us": median, "q1_us": q1, "q3_us": q3, "min_us": min(samples),
                "settled": (q3 - q1) / median < results.NOISE,
                "enough_samples": len(samples) >= results.LEAST_SAMPLES, "clocks": clocks,
                "samples_us": samples}


def _error_words(errors):
    return ", ".join(f"{name} {value:.3g}" for name, value in errors.items())


# ---- the result file ----------------------------------------------------------------------------


def _output(*words):
    """The first line that a program prints, or None."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=20, check=True,
                              cwd=os.path.dirname(os.path.abspath(__file__)))
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else None


def _version(name):
    module = sys.modules.get(name)
    return getattr(module, "__version__", "unknown") if module else None


def environment(place):
    torch = getattr(place, "torch", None)
    versions = {name: _version(name) for name in
                ("torch", "flashinfer", "flash_mla", "flash_attn_interface")}
    built_from = re.search("commit ([^)]+)", mla.library().mla_version().decode())[1]
    return {"gpu": place.name if place.on_gpu else None, "arch": place.arch or None,
            "sm_count": place.properties.multi_processor_count if torch else None,
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
            if torch else None,
            "cuda_runtime": torch.version.cuda if torch else None, "toolkit": None,
            "compiler_flags": None, "commit": built_from,
            "os": platform.platform(),
            "date_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "peers": {name: version for name, version in versions.items() if version}}


def opened(options):
    """The result file, before anything is measured; None without -o."""
    if not options.output:
        return contextlib.nullcontext()
    return output.Output(options.output, "json", schema=results.SCHEMA,
                         inputs=[options.file, options.ceilings])


# ---- the program --------------------------------------------------------------------------------


def choose(options):
    """Fresh implementations, those that --peers and -k name."""
    there = [make() for make in PEERS]
    chosen = [peer for peer in there
              if any(fnmatch.fnmatchcase(peer.name, word) for word in options.peers.split(","))]
    if not chosen and options.peers != "none":
        raise results.ResultError(f"--peers {options.peers}: none is called so; there are "
                                  + ", ".join(peer.name for peer in there) + ", none")
    return [Ours(word) for word in options.kernels.split(",")] + chosen


def describe(options, place):
    """What the program says of the cases that were asked for, and of this GPU's ceilings."""
    words = [f"--gpu={place.name}"]
    if options.ceilings:
        words.append(f"--ceilings={options.ceilings}")
    if options.case:
        words.append(f"--case={options.case}")
    if options.file:
        return program.cases(*words, "--", options.file)
    chosen = "--suite=peers" if options.cells == "all" else f"--cells={options.cells}"
    return program.cases(*words, chosen)


def cases(options, place, said):
    """Case by case, so that one at a time is in memory; of a capture one."""
    if options.file:
        yield peers_case.load_capture(options.file, said)
        return
    for index in range(len(said["cases"])):
        yield peers_case.make_cell(said, index, place)


def show(measurements, told):
    """The case as lines of a table: time (! noisier than 0.5 %), and over that of the first that
    passed, which is ours. Why one is skipped is said once: told has the lines that were."""
    print(inputs.shown(measurements[0]["case"]["name"]))
    ours = None
    for m in measurements:
        timing = results.timing_of(m)
        ours = ours or (timing and timing["median_us"])
        numbers = (f"{timing['median_us']:10.1f} us{results.sign_of(timing):2}"
                   f"{timing['median_us'] / ours:6.3f}" if timing else " " * 21)
        line = f"  {m['implementation']:20} {m['status']:4} {numbers}  {m['why']}".rstrip()
        if m["status"] != "SKIP" or line not in told:
            print(inputs.shown(line), flush=True)
        told.add(line)


def parse(arguments):
    parser = inputs.Parser(description="Times other libraries' MLA kernels beside ours.")
    parser.add_argument("file", nargs="?", metavar="FILE.h5", help="a capture")
    parser.add_argument("-c", "--case", help="its step/layer, 001/005 (default: the first)")
    parser.add_argument("--cells", nargs="?", const="all", metavar="NAMES",
                        help="cells such as b4_4K_h128,b1_8Kv_h16_q2 (default: the suite peers)")
    parser.add_argument("-k", "--kernels", default="auto", help="rungs (default auto)")
    parser.add_argument("--peers", default="*", help="names or shell patterns, or none")
    parser.add_argument("--samples", type=int, default=50, help="replays of each (default 50)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the result file")
    parser.add_argument("--ceilings", metavar="FILE",
                        help="what mla ceilings measured, to go with the results")
    parser.add_argument("--host", action="store_true",
                        help="the CPU instead of a GPU: tries adapters out")
    options = parser.parse_args(arguments)
    if bool(options.file) == bool(options.cells):
        parser.error("a FILE.h5 or --cells is needed, not both")
    if options.samples < results.LEAST_SAMPLES:
        parser.error(f"--samples: at least {results.LEAST_SAMPLES}, fewer cannot hold a median in "
                     "95 of 100 cases")
    return options


def find_place(options):
    """A Host, a Cuda, or None after a sentence."""
    if options.host:
        return Host()
    try:
        import torch
    except ImportError:
        print("SKIPPED, no torch: peers are called through it")
        return None
    if not torch.cuda.is_available():
        print("SKIPPED, no CUDA device")
        return None
    return Cuda(torch)


def measure(options, place, out):
    measurements, told, said = [], set(), describe(options, place)
    for case in cases(options, place, said):
        found = Contest(case, place, choose(options), options.samples).run()
        show(found, told)
        measurements += found
    if out:
        root = {"schema": results.SCHEMA, "schema_version": results.SCHEMA_VERSION,
                "command": " ".join(["peers.py", *sys.argv[1:]]),
                "environment": environment(place),
                "ceilings": said["ceilings"], "measurements": measurements}
        out.write(json.dumps(root, indent=1, allow_nan=False) + "\n")
    return measurements


def main(arguments=None):
    options = parse(arguments)
    try:
        place = find_place(options)
        if place is None:
            return 77
        with opened(options) as out:
            measurements = measure(options, place, out)
    except (results.ResultError, mla.MlaError, OSError, *output.ERRORS) as error:
        print(f"peers: {inputs.shown(error)}", file=sys.stderr)
        return getattr(error, "code", 3)
    return 1 if any(m["status"] == "FAIL" for m in measurements) else 0


if __name__ == "__main__":
    sys.exit(main())
