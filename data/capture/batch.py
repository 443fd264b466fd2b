"""Which requests are run, step by step, and which cache pages their tokens lie in. numpy only.

B requests; chunk 0 is what is in the cache beforehand, chunk i + 1 is the recorded step i.
"""
import dataclasses

import checkout  # noqa: F401
import numpy as np
from mla.h5 import CaptureError


@dataclasses.dataclass
class Schedule:
    """What is run."""
    names: list    # [steps] "prefill", "extend", "decode"
    chunks: list   # [1 + steps][B] new tokens of each request
    kv_lens: list  # [1 + steps][B] tokens of each request after the chunk


def make_schedule(context, extend, decode):
    """context, extend: lists of a number per request, or of one for all; extend may be None."""
    batch = max(len(context), len(extend or []))
    for name, numbers in (("--context", context), ("--extend", extend or [0])):
        if len(numbers) not in (1, batch):
            raise CaptureError(f"{name} has {len(numbers)} numbers, expected 1 or {batch}")
    chunks = [context * (batch // len(context))]
    names = ["decode"] * decode
    if extend:
        names.insert(0, "extend" if any(context) else "prefill")
        chunks.append(extend * (batch // len(extend)))
    chunks += [[1] * batch] * decode
    if not names or not any(chunks[1]):
        raise CaptureError("nothing to record: give --extend or --decode")
    kv_lens = np.cumsum(chunks, axis=0).tolist()
    if not all(kv_lens[-1]):
        raise CaptureError("a request has no tokens: its --context and --extend are both 0")
    return Schedule(names, chunks, kv_lens)


def page_tables(kv_lens, page_size, order, shared_tokens=0):
    """Gives each request its pages: ([B] arrays of page numbers, number of pages).

    kv_lens [chunks][B]. Pages are allocated as a server does, chunk by chunk and request by request
    within a chunk ("sglang"), or all of a request at once ("contiguous"), or renamed at random
    ("shuffle:SEED"). The whole pages of a shared prefix are the same for all requests.
    """
    shared = shared_tokens // page_size
    tables, pages = [list(range(shared)) for _ in kv_lens[0]], shared
    for lens in kv_lens[-1:] if order == "contiguous" else kv_lens:
        for table, length in zip(tables, lens):
            missing = max(0, -(-length // page_size) - len(table))
            table += range(pages, pages + missing)
            pages += missing
    names = np.arange(pages, dtype=np.int32)
    if order.startswith("shuffle:"):
        np.random.default_rng(int(order.removeprefix("shuffle:"))).shuffle(names)
    return [names[table] for table in tables], pages


def step_indices(schedule, tables, page_size, step):
    """{name: i32 array} of the index datasets of a recorded step."""
    new, kv_len = schedule.chunks[step + 1], schedule.kv_lens[step + 1]
    used = [table[:-(-length // page_size)] for table, length in zip(tables, kv_len)]
    positions = [np.arange(length - count, length) for count, length in zip(new, kv_len)]
    arrays = dict(qo_indptr=np.cumsum([0] + new),
                  kv_indptr=np.cumsum([0] + [len(pages) for pages in used]),
                  kv_page_indices=np.concatenate(used), kv_len=np.array(kv_len),
                  positions=np.concatenate(positions))
    return {name: array.astype(np.int32) for name, array in arrays.items()}


def step_tokens(schedule, tokens, step):
    """i32 [total_q]: the token ids that a recorded step computes."""
    new, kv_len = schedule.chunks[step + 1], schedule.kv_lens[step + 1]
    return np.concatenate([ids[length - count:length] for ids, count, length
                           in zip(tokens, new, kv_len)]).astype(np.int32)


def cut_prompts(texts, bos, lengths, shared=0):
    """[B] lists of token ids: BOS and the shared prefix, then text that no other request has.

    texts: token ids of each prompt file; bos: a token id or None; lengths [B]: tokens wanted.
    Request i reads on in text i modulo their number.
    """
    bos = [] if bos is None else [bos]
    head = (bos + texts[0])[:max(shared, len(bos))]
    cursors = [len(head) - len(bos)] + [0] * (len(texts) - 1)
    prompts = []
    for request, length in enumerate(lengths):
        source, begin = request % len(texts), cursors[request % len(texts)]
        cursors[source] += max(0, length - len(head))
        if cursors[source] > len(texts[source]):
            raise CaptureError(f"prompt file {source} has {len(texts[source])} tokens, request "
                               f"{request} needs those up to {cursors[source]}")
        prompts.append((head + texts[source][begin:cursors[source]])[:length])
    return prompts
