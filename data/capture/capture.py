#!/usr/bin/env python3
"""Captures the attention inputs of a DeepSeek-V2/V3 style model into an mla-capture file.

Several requests with their own lengths are run one by one, as attention is independent between
requests, and laid into one paged cache per layer. A request first gets --context tokens of its
prompt, which are not recorded, then the recorded steps: one incremental prefill of --extend new
tokens (called "prefill" if nothing is in the cache), then --decode steps of one token. New tokens
are always the prompt's own: nothing is sampled, so the first layers of a huge model suffice.

Before anything is written, attention is recomputed in fp64 from the values to be stored: absorbed
and textbook form must agree to 1e-9, the model's own output to 1e-2.
"""
import argparse
import dataclasses
import datetime
import hashlib
import json
import pathlib
import platform
import sys

import checkout  # noqa: F401
import h5py
import numpy as np
import torch
import transformers
from attention_fp64 import reference
from batch import cut_prompts, make_schedule, page_tables, step_indices, step_tokens
from mla import inputs, output
from mla.h5 import CaptureError, write_dataset, write_f64, write_string, write_u32, writing

import hf_mla

TOOL = "data/capture/capture.py"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "f32": torch.float32}
MAX_ABSORBED_ERROR = 1e-9
MAX_MODEL_ERROR = 1e-2


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A LIST of lengths is comma-separated; one number stands for all requests.")
    add = parser.add_argument
    add("--model", required=True, help="checkpoint folder or hub name")
    add("--out", type=pathlib.Path, required=True, metavar="FILE", help="the .h5 file to write")
    add("--force", action="store_true", help="replace a capture that is there")
    add("--prompt-file", type=pathlib.Path, nargs="+", required=True, metavar="FILE",
        help="UTF-8 text; request i reads on in file i modulo their number")
    add("--context", type=lengths, default=[1024], metavar="LIST",
        help="tokens in each request's cache before the first recorded step (default 1024)")
    add("--extend", type=lengths, metavar="LIST",
        help="new tokens of each request in one recorded incremental prefill")
    add("--decode", type=count, default=0, metavar="N", help="recorded decode steps after that")
    add("--shared-prefix", type=count, default=0, metavar="N",
        help="let all requests begin with the same N tokens and share their whole pages")
    add("--kind", choices=("model-forward", "kernel-call"), default="model-forward",
        help="store q before (default) or after absorption with W_UK")
    add("--weights", action="store_true", help="store W_UK and W_UV in a kernel-call too")
    add("--hidden", action="store_true", help="store the layer's normed input of the new tokens")
    add("--layers", type=indices, default=[0], metavar="0,2-4", help="layers (default 0)")
    add("--heads", type=indices, metavar="0-15", help="consecutive heads (default all)")
    add("--page-size", type=count, default=64, metavar="N", help="tokens per page (default 64)")
    add("--page-order", type=page_order, default="contiguous", metavar="ORDER",
        help="contiguous (default); sglang: as allocated, step by step; shuffle:SEED")
    add("--dtype", choices=DTYPES, default="bf16", help="the model's and the file's type")
    add("--device", default="cuda", help="cuda, cpu, or auto to spread a large model")
    add("--compress", action="store_true", help="shuffle and deflate the datasets")
    add("--model-id", help="what to call the model in the file (default: the folder's name)")
    add("--notes", default="", help="provenance in words")
    add("--skip-weights-hash", action="store_true", help="do not read all weights for a sha256")
    add("--trust-remote-code", action="store_true")
    return parser.parse_args(argv)


def count(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of things")
    return int(text)


def lengths(text):
    """'5,64,17' -> [5, 64, 17]"""
    return [count(word) for word in text.split(",")]


def indices(text):
    """'0,4-6' -> [0, 4, 5, 6]"""
    chosen = set()
    for word in text.split(","):
        first, _, last = word.partition("-")
        chosen.update(range(count(first), count(last or first) + 1))
    if not chosen:
        raise argparse.ArgumentTypeError(f"{text}: chooses nothing")
    return sorted(chosen)


def page_order(text):
    word, _, seed = text.partition(":")
    if text not in ("contiguous", "sglang") and not (word == "shuffle" and seed.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text}: expected contiguous, sglang or shuffle:SEED")
    return text


def progress(text):
    print(text, file=sys.stderr, flush=True)


# Running the model. --------------------------------------------------------------------------

def read_prompts(options, tokenizer, schedule):
    """[B] lists of token ids, as long as each request becomes."""
    texts = []
    for path in options.prompt_file:
        try:
            texts.append(tokenizer.encode(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise CaptureError(f"{path}: {error}") from error
    return cut_prompts(texts, tokenizer.bos, schedule.kv_lens[-1], options.shared_prefix)


def run_model(model, layers, tokens, schedule, shared):
    """Runs all requests: [B][2 + steps] of {layer: LayerInputs}, None where no token was new.

    The first entry is the shared prefix: it runs once, each request goes on from a copy of its
    cache. The second is the rest of the context.
    """
    requests = []
    with hf_mla.AttentionRecorder(model, layers) as recorder:
        prefix, cache = hf_mla.run_request(model, recorder, tokens[0], [shared])
        for request, ids in enumerate(tokens):
            chunks = [chunk[request] for chunk in schedule.chunks]
            chunks[0] -= shared
            records, _ = hf_mla.run_request(model, recorder, ids, chunks, cache)
            requests.append(prefix + records)
            progress(f"request {request}: {len(ids)} tokens")
    return requests


# From records to what is stored. -------------------------------------------------------------

@dataclasses.dataclass
class StepLayer:
    """The tensors and figures of /steps/NNN/layers/LLL."""
    tensors: dict  # name -> torch tensor
    figures: dict  # name -> f64 attribute


def new_and_seen(request, layer, call):
    """Of one entry of run_model: its LayerInputs, and ckv [T, ckv] and kpe [T, kpe] up to it."""
    records = [record[layer] for record in request[:call + 1] if record]
    return records[-1], *(torch.cat([getattr(record, name) for record in records])
                          for name in ("ckv", "kpe"))


def collect_step(requests, layer, call, weights, scale, heads, options):
    """Joins the requests of one step and layer, recomputed and checked, into a StepLayer."""
    inputs, references = [], []
    for request in requests:
        if request[call]:
            record, ckv, kpe = new_and_seen(request, layer, call)
            inputs.append(dataclasses.replace(record, q_nope=record.q_nope[:, heads],
                                              q_pe=record.q_pe[:, heads],
                                              out=record.out[:, heads]))
            references.append(reference(inputs[-1], ckv, kpe, *weights, scale,
                                        options.kind == "kernel-call"))
    tensors = dict(q_nope=join(references, "q_stored"), q_pe=join(inputs, "q_pe"),
                   out_ref=join(references, "out"), lse_ref=join(references, "lse"))
    if options.kind == "model-forward":
        tensors["out_model"] = join(inputs, "out")
    if options.hidden:
        tensors["hidden"] = join(inputs, "hidden")
    return StepLayer(tensors, step_figures(references))


def join(parts, name):
    return torch.cat([getattr(part, name) for part in parts])


def step_figures(references):
    """The worst errors and scores of a step's requests, and the mean entropy of its rows."""
    figures = {name: float(np.max([getattr(part, name) for part in references]))
               for name in ("absorbed_error", "model_error", "max_score")}
    figures["entropy_bits"] = float(np.average([part.entropy_bits for part in references],
                                               weights=[len(part.lse) for part in references]))
    return figures


def check_errors(figures, where):
    """Stops on a self-check that failed, NaN included."""
    for name, limit, forms in (
            ("absorbed_error", MAX_ABSORBED_ERROR, "absorbed and textbook attention"),
            ("model_error", MAX_MODEL_ERROR, "the model's and the recomputed attention")):
        if not figures[name] <= limit:
            raise CaptureError(f"{where}: {forms} differ by {figures[name]:.3g} (relative L2), "
                               f"expected at most {limit:g}; nothing was written")


def collect_steps(requests, layer, weights, scale, heads, options):
    """The StepLayers of a layer. The first two calls of run_model are not recorded steps."""
    steps = []
    for call in range(2, len(requests[0])):
        steps.append(collect_step(requests, layer, call, weights, scale, heads, options))
        where, figures = f"layer {layer}, step {call - 2}", steps[-1].figures
        progress(f"{where}: " + ", ".join(f"{name} {figures[name]:.3g}" for name in figures))
        check_errors(figures, where)
    return steps


def fill_cache(tokens, tables, pages, page_size):
    """Puts each request's tokens [T, width] into its pages: [pages, page_size, width], rest 0."""
    cache = torch.zeros(pages, page_size, tokens[0].shape[-1], dtype=tokens[0].dtype)
    for values, table in zip(tokens, tables):
        position = torch.arange(len(values))
        page = torch.from_numpy(table).long()[position // page_size]
        cache[page, position % page_size] = values
    return cache


# Writing. ------------------------------------------------------------------------------------

def store(group, name, tensor, compress):
    """Writes a torch tensor in its own type."""
    dtype = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "f32"}[tensor.dtype]
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.isfinite().all():
        raise CaptureError(f"{group.name}/{name}: not finite in {dtype}; nothing was written")
    bits = tensor.view(torch.int16).numpy().view(np.uint16) if dtype == "bf16" else tensor.numpy()
    write_dataset(group, name, bits, dtype, compress)


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def write_provenance(file, options, tokenizer, config, tokens, device):
    """The root attributes."""
    folder, ids = pathlib.Path(options.model), np.concatenate(tokens).astype("<i4")
    versions = dict(python=platform.python_version(), torch=torch.__version__,
                    transformers=transformers.__version__, numpy=np.__version__,
                    h5py=h5py.__version__, hdf5=h5py.version.hdf5_version)
    absorption = ("; q_nope absorbed with W_UK (fp64 sums, rounded once)"
                  if options.kind == "kernel-call" else "")
    facts = dict(
        kind=options.kind, model_id=options.model_id or folder.name,
        model_revision=getattr(config, "_commit_hash", None),
        weights_sha256=None if options.skip_weights_hash
        else hf_mla.files_sha256(folder, "*.safetensors"),
        tokenizer_id=tokenizer.name, tokenizer_sha256=tokenizer.digest,
        prompt_sha256=hashlib.sha256(ids.tobytes()).hexdigest(),
        created_utc=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        capture_tool=TOOL,
        capture_point="transformers attention function: q and k after RoPE, normed c_kv, output "
                      "before W_O" + absorption,
        software=json.dumps(versions),
        device=device,
        notes=(f"{options.notes} New tokens are the prompt's own, nothing was sampled. Pages were "
               f"laid out by {TOOL}: {options.page_order}, shared prefix {options.shared_prefix}. "
               "prompt_sha256 is over the token ids of all requests as i32.").strip())
    for name, text in facts.items():
        write_string(file, name, text)


def write_config(file, options, config, heads):
    """/config."""
    group = file.create_group("config")
    integers = dict(num_heads=heads.stop - heads.start, head_start=heads.start,
                    hidden_size=config.hidden_size, q_lora_rank=config.q_lora_rank or 0,
                    kv_lora_rank=config.kv_lora_rank, qk_nope_head_dim=config.qk_nope_head_dim,
                    qk_rope_head_dim=config.qk_rope_head_dim, v_head_dim=config.v_head_dim,
                    num_layers=config.num_hidden_layers, page_size=options.page_size, causal=1)
    for name, value in integers.items():
        write_u32(group, name, value)
    write_f64(group, "softmax_scale", hf_mla.expected_scale(config))
    write_f64(group, "rope_theta", hf_mla.rope_theta(config))
    write_f64(group, "rms_norm_eps", config.rms_norm_eps)
    scaling = hf_mla.rope_scaling(config)
    write_string(group, "rope_layout", hf_mla.ROPE_LAYOUTS[config.model_type])
    write_string(group, "rope_scaling", json.dumps(scaling) if scaling else "none")
    write_string(group, "lse_base", "e")
    write_string(group, "dtype", options.dtype)


def write_steps(file, schedule, tables, tokens, options):
    """/steps/NNN without their layers."""
    for step, name in enumerate(schedule.names):
        group = file.create_group(f"steps/{step:03}")
        write_string(group, "name", name)
        arrays = step_indices(schedule, tables, options.page_size, step)
        arrays["token_ids"] = step_tokens(schedule, tokens, step)
        for dataset, array in arrays.items():
            write_dataset(group, dataset, array, "i32", options.compress)


def write_layer(file, layer, tensors, steps, compress):
    """/layers/LLL and every /steps/NNN/layers/LLL."""
    group = file.create_group(f"layers/{layer:03}")
    write_u32(group, "layer_index", layer)
    for name, tensor in tensors.items():
        store(group, name, tensor, compress)
    for step, content in enumerate(steps):
        group = file.create_group(f"steps/{step:03}/layers/{layer:03}")
        for name, tensor in content.tensors.items():
            store(group, name, tensor, compress)
        for name in ("out_ref", "lse_ref"):
            write_string(group[name], "computed_by", TOOL)
            write_string(group[name], "dtype", "fp64")
        for name, value in content.figures.items():
            write_f64(group, name, value)


# Putting it together. ------------------------------------------------------------------------

def check_options(options, config):
    """Refuses what the model does not have. Gives the heads as a slice."""
    num_heads, shortest = config.num_attention_heads, min(options.context)
    if options.layers[-1] >= config.num_hidden_layers:
        raise CaptureError(f"--layers {options.layers[-1]}: the model has layers 0 to "
                           f"{config.num_hidden_layers - 1}")
    if config.model_type not in hf_mla.ROPE_LAYOUTS:
        raise CaptureError(f"model_type {config.model_type}: its RoPE layout is not known; known "
                           f"are {', '.join(hf_mla.ROPE_LAYOUTS)}")
    heads = options.heads or range(num_heads)
    if heads[-1] >= num_heads or len(heads) != heads[-1] - heads[0] + 1:
        raise CaptureError(f"--heads: expected consecutive heads, the last at most {num_heads - 1}")
    if options.page_size < 1:
        raise CaptureError(f"--page-size {options.page_size}: expected at least 1")
    if options.shared_prefix > shortest:
        raise CaptureError(f"--shared-prefix {options.shared_prefix}: at most {shortest} is "
                           "possible, the shortest context")
    return slice(heads[0], heads[-1] + 1)


def capture(options):
    config = hf_mla.load_config(options.model, options.trust_remote_code)
    heads = check_options(options, config)
    with output.Output(options.out, "capture", inputs=options.prompt_file,
                       force=options.force) as out:
        capture_to(out, options, config, heads)


def capture_to(out, options, config, heads):
    schedule = make_schedule(options.context, options.extend, options.decode)
    tables, pages = page_tables(schedule.kv_lens, options.page_size, options.page_order,
                                options.shared_prefix)
    tokenizer = hf_mla.load_tokenizer(options.model, config, options.trust_remote_code)
    tokens = read_prompts(options, tokenizer, schedule)
    progress(f"loading {options.model}")
    model = hf_mla.load_model(options.model, config, options.layers[-1] + 1,
                              DTYPES[options.dtype], options.device, options.trust_remote_code)
    requests = run_model(model, options.layers, tokens, schedule, options.shared_prefix)
    tensors, steps = {}, {}
    for layer in options.layers:
        weights = [weight[heads] for weight in
                   hf_mla.absorption_weights(model.layers[layer].self_attn)]
        steps[layer] = collect_steps(requests, layer, weights, hf_mla.expected_scale(config),
                                     heads, options)
        seen = zip(*(new_and_seen(request, layer, len(request))[1:] for request in requests))
        tensors[layer] = {name: fill_cache(values, tables, pages, options.page_size)
                          for name, values in zip(("ckv_cache", "kpe_cache"), seen)}
        if options.kind == "model-forward" or options.weights:
            tensors[layer] |= dict(zip(("w_uk", "w_uv"), weights))
    with writing(out) as file:
        write_provenance(file, options, tokenizer, config, tokens, device_name(model.device))
        write_config(file, options, config, heads)
        write_steps(file, schedule, tables, tokens, options)
        for layer in options.layers:
            write_layer(file, layer, tensors[layer], steps[layer], options.compress)
    progress(f"wrote {options.out}: {options.out.stat().st_size / 1e6:.2f} MB, {pages} pages, "
             f"{len(tokens)} requests, steps {', '.join(schedule.names)}")


def main(argv=None):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        capture(parse_arguments(argv))
    except (CaptureError, OSError, *output.ERRORS) as error:
        print(f"capture.py: {inputs.shown(error)}", file=sys.stderr)
        return getattr(error, "code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
