#!/usr/bin/env python3
"""Makes the files of data/captures/ from a checkpoint of train_tiny.py.

Which layers are taken follows from the checkpoint's own statistics: the layer with the strongest
induction head, the one with the largest scores, the one with the strongest attention sink.
"""
import argparse
import json
import pathlib
import platform
import sys
import sysconfig

import capture
import hf_mla
from mla import inputs, output
from train_tiny import HELD_OUT


def recipes(induction, peak, sink):
    """{file name: arguments of capture.py}, given the three layers."""
    return {
        "tiny_model_forward.h5":
            f"--layers {induction} --context 150,420 --extend 24,40 --decode 3 "
            "--page-size 64 --page-order shuffle:1",
        "tiny_decode.h5":
            f"--kind kernel-call --layers {peak},{induction} "
            "--context 40,63,128,190,257,320,560,1450 --decode 4 --page-size 64 "
            "--page-order shuffle:2",
        "tiny_prefill.h5":
            f"--kind kernel-call --layers {sink} --context 0,37,96,410,700,75 "
            "--extend 11,17,1,20,3,0 --page-size 48 --page-order shuffle:3",
        "tiny_shared_fp16.h5":
            f"--kind kernel-call --layers {induction} --dtype fp16 --shared-prefix 32 "
            "--context 40,48,150,33,75,64,110,52,90,32 --decode 3 --page-size 1 "
            "--page-order sglang",
    }


def notes(training):
    """Where the model comes from, for @notes."""
    prompts = ", ".join(HELD_OUT)
    return (f"A small model trained for {training['seconds']:.0f} s on Python source (the CPython "
            "standard library and installed packages) by data/capture/train_tiny.py; not DeepSeek "
            f"weights. Held-out {training['held_out_bits_per_byte']:.3f} bits/byte. Prompts: files "
            f"of the CPython {platform.python_version()} standard library, PSF licence, not "
            f"trained on: {prompts}.")


def strongest(training, name):
    layers = training["layers"]
    return max(range(len(layers)), key=lambda layer: layers[layer][name])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the files")
    parser.add_argument("--force", action="store_true", help="replace captures that are there")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    training = json.loads((options.checkpoint / "training.json").read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    common = ["--model", str(options.checkpoint), "--device", options.device, "--compress",
              *(["--force"] if options.force else []),
              "--model-id", f"tiny MLA, {training['parameters'] / 1e6:.0f} M parameters",
              "--notes", notes(training),
              "--prompt-file", *(str(library / name) for name in HELD_OUT)]
    chosen = recipes(*(strongest(training, name)
                       for name in ("induction", "max_score", "sink_mass")))
    for name in chosen:  # the question is asked before the first is made
        with output.Output(options.out / name, "capture", force=options.force):
            pass
    for name, arguments in chosen.items():
        print(f"{name}: {arguments}", flush=True)
        code = capture.main([*common, *arguments.split(), "--out", str(options.out / name)])
        if code:
            return code
    output.write(options.out / "SHA256SUMS", "own", "".join(
        f"{hf_mla.files_sha256(options.out, name)}  {name}\n" for name in sorted(chosen)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except output.ERRORS as error:
        print(f"make_captures.py: {inputs.shown(error)}", file=sys.stderr)
        sys.exit(error.code)
