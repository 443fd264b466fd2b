#!/usr/bin/env python3
"""Trains a small language model with DeepSeek's MLA dimensions, to have attention worth capturing.

16 heads, kv_lora_rank 512, nope 128, rope 64, v 128 and the YaRN settings of DeepSeek-V2-Lite;
dense MLPs, byte tokens. The corpus is Python source: the CPython standard library (PSF licence) and
the packages installed beside it. The standard library files in HELD_OUT are kept out of it: they
measure the model, and captures take their prompts from them.

A few minutes on one GPU give induction heads, attention sinks and scaled scores beyond 100, which
random weights and random inputs do not have.
"""
import argparse
import json
import math
import os
import pathlib
import random
import sys
import sysconfig
import time

import checkout  # noqa: F401
import torch
from mla import inputs, output
from mla.h5 import CaptureError

from hf_mla import BYTE_BOS, AttentionRecorder, absorption_weights, check_scale
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

HELD_OUT = ("argparse.py", "bisect.py", "dataclasses.py", "difflib.py", "fractions.py", "heapq.py",
            "shlex.py", "statistics.py", "textwrap.py")
FILE_BYTES = 60_000  # of a file at most, so that generated tables do not dominate
LEARNING_RATE = 1e-3
STAT_NAMES = ("entropy_bits", "max_score", "sink_mass", "local8_mass", "induction",
              "previous_token")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="The checkpoint is a Hugging Face folder, which capture.py --model takes.")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--seconds", type=float, default=150, help="training time (default 150)")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=1024, help="hidden size (default 1024)")
    parser.add_argument("--batch", type=int, default=32, help="sequences per step (default 32)")
    parser.add_argument("--length", type=int, default=2048, help="tokens per sequence")
    parser.add_argument("--corpus-mb", type=int, default=120, help="corpus size at most")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def python_files(folder):
    """Python sources under a folder, sorted, site-packages of a standard library left out."""
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in ("site-packages", "dist-packages"))
        files += [pathlib.Path(root, name) for name in sorted(names) if name.endswith(".py")]
    return files


def read_corpus(limit, seed):
    """(training, held-out) bytes, uint8 tensors. Training takes the standard library first."""
    stdlib, packages = (python_files(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    random.Random(seed).shuffle(packages)
    pieces, size = [], 0
    for path in stdlib + packages:
        if path.name not in HELD_OUT and path.is_file() and size < limit:
            pieces.append(path.read_bytes()[:FILE_BYTES])
            size += len(pieces[-1])
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    held_out = b"".join((library / name).read_bytes() for name in HELD_OUT)
    print(f"corpus: {size / 1e6:.1f} MB of {len(pieces)} Python files, the {len(stdlib)} of the "
          f"standard library first; held out {len(held_out) / 1e3:.0f} kB", flush=True)
    return as_tensor(b"".join(pieces)), as_tensor(held_out)


def as_tensor(data):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def build_model(layers, hidden):
    """A DeepSeek-V2-Lite in miniature: its attention, with fewer layers and dense MLPs."""
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=40, beta_fast=32, beta_slow=1,
                mscale=0.707, mscale_all_dim=0.707, original_max_position_embeddings=4096)
    config = DeepseekV2Config(
        vocab_size=BYTE_BOS + 1, hidden_size=hidden, intermediate_size=11 * hidden // 4,
        num_hidden_layers=layers, first_k_dense_replace=layers, num_attention_heads=16,
        num_key_value_heads=16, q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128,
        qk_rope_head_dim=64, v_head_dim=128, max_position_embeddings=163840, rope_parameters=yarn,
        bos_token_id=BYTE_BOS, eos_token_id=BYTE_BOS, byte_tokens=True)
    config._attn_implementation = "sdpa"
    return DeepseekV2ForCausalLM(config)


def sample(data, batch, length):
    """Random windows [batch, length] of token ids, BOS in front of each."""
    begin = torch.randint(0, len(data) - length, (batch, 1), device=data.device)
    windows = data[begin + torch.arange(length - 1, device=data.device)].long()
    return torch.nn.functional.pad(windows, (1, 0), value=BYTE_BOS)


def next_byte_loss(model, tokens):
    """Mean cross entropy of each next token, in nats. tokens [batch, length]."""
    device = tokens.device.type
    with torch.autocast(device, torch.bfloat16):
        logits = model(tokens, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def train(model, data, options):
    """AdamW until the time is up: warm-up, half the time flat, then linear decay."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95),
                                  weight_decay=0.1, fused=options.device == "cuda")
    start, steps = time.monotonic(), 0
    while (elapsed := (time.monotonic() - start) / options.seconds) < 1:
        warm_up, decay = min(1, (steps + 1) / 100), min(1, 2 * (1 - elapsed) + 0.02)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warm_up * decay
        loss = next_byte_loss(model, sample(data, options.batch, options.length))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        if steps % 100 == 0:
            print(f"step {steps}, {elapsed:.0%} of the time: {loss.item() / math.log(2):.3f} "
                  "bits/byte", flush=True)
    return steps


@torch.inference_mode()
def attention_maps(model, tokens):
    """Yields each layer's (probabilities, scores) [H, T, T], float32, scores -inf where masked."""
    layers = range(len(model.layers))
    with AttentionRecorder(model, layers) as recorder:
        model(tokens[None], use_cache=False)
        records = recorder.take(tokens.device)
    hidden_keys = torch.ones(len(tokens), len(tokens), device=tokens.device).triu(1).bool()
    for layer in layers:
        record, attention = records[layer], model.layers[layer].self_attn
        w_uk = absorption_weights(attention)[0].float()
        absorbed = torch.einsum("shd,hdc->hsc", record.q_nope.float(), w_uk)
        scores = absorbed @ record.ckv.float().T
        scores += record.q_pe.float().transpose(0, 1) @ record.kpe.float().T
        scores = (scores * attention.scaling).masked_fill(hidden_keys, -torch.inf)
        yield scores.softmax(-1), scores


def head_statistics(model, text):
    """One dict of STAT_NAMES per layer: means over queries past the 128th, then over heads for
    entropy_bits, else of the best head. text: token ids of held-out text, BOS first.
    """
    noise = torch.randint(33, 126, (256,), device=text.device)
    repeated = torch.cat([text[:1], noise, noise])
    again = torch.arange(257, len(repeated), device=text.device)
    rows = []
    for text_maps, repeat_maps in zip(attention_maps(model, text), attention_maps(model, repeated)):
        (probs, scores), (repeat, _) = text_maps, repeat_maps
        late, steps = probs[:, 128:], torch.arange(1, len(repeated), device=text.device)
        entropy = -(late * late.clamp_min(1e-30).log2()).sum(-1)
        local = late * text_band(probs.shape[-1], 8, text.device)[128:]
        rows.append(dict(zip(STAT_NAMES, (value.item() for value in (
            entropy.mean(), scores.max(), late[..., 0].mean(1).max(), local.sum(-1).mean(1).max(),
            repeat[:, again, again - 255].mean(1).max(),
            repeat[:, steps, steps - 1].mean(1).max())))))
    return rows


def text_band(length, width, device):
    """[length, length] ones where a key is among a query's latest `width` keys."""
    ones = torch.ones(length, length, device=device)
    return ones.tril() - ones.tril(-width)


@torch.inference_mode()
def held_out_bits(model, data, length):
    """Bits per byte over all whole windows of the held-out text."""
    windows = [data[i:i + length - 1].long() for i in range(0, len(data) - length, length - 1)]
    losses = [next_byte_loss(model, torch.nn.functional.pad(w, (1, 0), value=BYTE_BOS)[None])
              for w in windows]
    return torch.stack(losses).mean().item() / math.log(2)


def print_table(rows):
    print("layer " + " ".join(f"{name:>14}" for name in STAT_NAMES))
    for layer, row in enumerate(rows):
        print(f"{layer:5} " + " ".join(f"{row[name]:14.3f}" for name in STAT_NAMES), flush=True)


def save(model, folder, facts):
    """The checkpoint in bf16 and training.json. Rotary frequencies are not part of a state dict."""
    state = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder.beside, state_dict=state)
    output.write(os.path.join(folder.beside, "training.json"), "json",
                 json.dumps(facts, indent=2) + "\n")
    folder.publish()


def main():
    options = parse_arguments()
    with output.Folder(options.out) as folder:
        train_and_save(options, folder)


def train_and_save(options, folder):
    torch.manual_seed(options.seed)
    train_data, held_out = (data.to(options.device)
                            for data in read_corpus(options.corpus_mb * 10**6, options.seed))
    model = build_model(options.layers, options.hidden).to(options.device)
    check_scale(model.model.layers[0].self_attn.scaling, model.config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"model: {parameters / 1e6:.0f} M parameters", flush=True)
    steps = train(model, train_data, options)
    bits = held_out_bits(model.eval(), held_out, options.length)
    print(f"trained {steps} steps; held-out {bits:.3f} bits/byte")
    text = torch.nn.functional.pad(held_out[:options.length - 1].long(), (1, 0), value=BYTE_BOS)
    rows = head_statistics(model.model, text)
    print_table(rows)
    save(model, folder, dict(
        parameters=parameters, seconds=options.seconds, steps=steps,
        tokens=steps * options.batch * options.length, held_out_bits_per_byte=bits, layers=rows,
        corpus="Python source: the CPython standard library and installed packages",
        held_out=list(HELD_OUT)))
    print(f"saved {options.out}")


if __name__ == "__main__":
    try:
        main()
    except CaptureError as problem:
        sys.exit(f"train_tiny.py: {problem}")
    except output.ERRORS as problem:
        print(f"train_tiny.py: {inputs.shown(problem)}", file=sys.stderr)
        sys.exit(problem.code)
