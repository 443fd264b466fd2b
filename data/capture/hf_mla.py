"""The transformers side of captures: loads DeepSeek-V2/V3 style models and records what their
attention layers compute from, with hooks that do not depend on how a version caches keys.

Shapes: S new tokens of one call, H heads; dimensions by their names in the model's config.
"""
import copy
import dataclasses
import hashlib
import math
import pathlib

import checkout  # noqa: F401
import torch
from mla.h5 import CaptureError

try:
    from transformers import AttentionInterface, AutoConfig, AutoModel, AutoTokenizer
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
except ImportError as missing:
    raise SystemExit(f"transformers >= 4.56 is needed: {missing}") from missing

ATTENTION = "mla_capture"
ROPE_LAYOUTS = {"deepseek_v2": "interleaved", "deepseek_v3": "half", "kimi_k2": "half"}
MLA_DIMS = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
BYTE_BOS = 256


@dataclasses.dataclass
class LayerInputs:
    """What one call of one attention layer computed from, and what it gave."""
    hidden: torch.Tensor  # [S, hidden_size], after the layer's input norm
    q_nope: torch.Tensor  # [S, H, qk_nope_head_dim]
    q_pe: torch.Tensor    # [S, H, qk_rope_head_dim], rotated
    ckv: torch.Tensor     # [S, kv_lora_rank], normed; new tokens only
    kpe: torch.Tensor     # [S, qk_rope_head_dim], rotated; new tokens only
    out: torch.Tensor     # [S, H, v_head_dim], before W_O


def recording_attention(module, query, key, value, mask, **kwargs):
    """SDPA that leaves its arguments with the module, if a recorder is interested in it.

    query [1, H, S, nope + rope], key [1, H, T, nope + rope], value [1, H, T, v], T keys so far.
    """
    out, weights = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    record = getattr(module, "mla_record", None)
    if record is not None:
        record.update(query=query, key=key, out=out, scaling=kwargs.get("scaling"))
    return out, weights


AttentionInterface.register(ATTENTION, recording_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class AttentionRecorder:
    """Context manager: model calls inside it are recorded, take() hands out the latest call.

    model: a base model (with .layers); layers: indices of the layers to record.
    """

    def __init__(self, model, layers):
        self.model = model
        self.attention = {layer: model.layers[layer].self_attn for layer in layers}
        self.hooks = []

    def __enter__(self):
        self.previous = self.model.config._attn_implementation
        self.model.config._attn_implementation = ATTENTION
        for module in self.attention.values():
            module.mla_record = {}
            self.hooks += [
                module.kv_a_proj_with_mqa.register_forward_pre_hook(
                    lambda _, inputs, record=module.mla_record: record.update(hidden=inputs[0])),
                module.kv_a_layernorm.register_forward_hook(
                    lambda _, __, output, record=module.mla_record: record.update(ckv=output))]
        return self

    def __exit__(self, *_):
        self.model.config._attn_implementation = self.previous
        for hook in self.hooks:
            hook.remove()
        for module in self.attention.values():
            del module.mla_record

    def take(self, device="cpu"):
        """{layer: LayerInputs} of the latest call, copied to the device; forgets it."""
        taken = {layer: layer_inputs(module, device) for layer, module in self.attention.items()}
        for module in self.attention.values():
            module.mla_record.clear()
        return taken


def layer_inputs(module, device):
    """The LayerInputs of an attention module's record of one call."""
    record, config = module.mla_record, module.config
    if not {"query", "ckv", "hidden"} <= record.keys():
        raise CaptureError("the model's code does not call the registered attention function; use "
                           "transformers' own deepseek_v2 or deepseek_v3 code")
    check_scale(record["scaling"], config)
    nope, rope = config.qk_nope_head_dim, config.qk_rope_head_dim
    query = record["query"][0].transpose(0, 1)
    if query.shape[-1] != nope + rope:
        raise CaptureError(f"the attention function was given queries of width {query.shape[-1]}, "
                           f"expected qk_nope_head_dim + qk_rope_head_dim = {nope + rope}")
    new = query.shape[0]
    tensors = (record["hidden"].reshape(new, -1), query[..., :nope], query[..., nope:],
               record["ckv"].reshape(new, config.kv_lora_rank),
               record["key"][0, 0, -new:, nope:], record["out"][0])
    return LayerInputs(*(tensor.detach().to(device, copy=True) for tensor in tensors))


@torch.inference_mode()
def run_request(model, recorder, tokens, chunks, cache=None):
    """Runs the chunks of a request one after the other, each on the cache of those before it.

    tokens: all token ids of the request; chunks: how many each call takes, 0 = no call; cache: an
    earlier request's, of a prefix of the tokens (left as it is).
    Gives ([{layer: LayerInputs} or None for each chunk], the cache).
    """
    cache = copy.deepcopy(cache)
    begin = cache.get_seq_length() if cache is not None else 0
    records = []
    for chunk in chunks:
        records.append(None)
        if chunk:
            positions = torch.arange(begin, begin + chunk, device=model.device)[None]
            ids = torch.tensor(tokens[begin:begin + chunk], device=model.device)[None]
            cache = model(input_ids=ids, position_ids=positions, past_key_values=cache,
                          use_cache=True).past_key_values
            records[-1] = recorder.take()
            begin += chunk
    return records, cache


def absorption_weights(attention):
    """W_UK [H, nope, kv_lora_rank] and W_UV [H, v, kv_lora_rank] of an attention module."""
    weight, config = attention.kv_b_proj.weight.detach(), attention.config
    if weight.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise CaptureError(f"kv_b_proj is {weight.dtype}; dequantise the checkpoint first: "
                           "captures hold bf16, fp16 or f32")
    heads = weight.view(-1, config.qk_nope_head_dim + config.v_head_dim, config.kv_lora_rank)
    return heads[:, :config.qk_nope_head_dim], heads[:, config.qk_nope_head_dim:]


def rope_parameters(config):
    """The RoPE settings: config.rope_parameters in transformers 5, rope_scaling before."""
    settings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    return dict(settings or {})


def rope_theta(config):
    return float(rope_parameters(config).get("rope_theta") or config.rope_theta)


def rope_scaling(config):
    """The scaling part under the keys of published DeepSeek configs, or {} if there is none."""
    settings = rope_parameters(config)
    kind = settings.pop("rope_type", settings.get("type", "default"))
    settings.pop("rope_theta", None)
    return {} if kind == "default" else settings | {"type": kind}


def expected_scale(config):
    """The softmax scale that the config asks for: YaRN's mscale enters squared."""
    scale = (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
    scaling = rope_scaling(config)
    if scaling.get("mscale_all_dim") and scaling["factor"] > 1:
        scale *= (0.1 * scaling["mscale_all_dim"] * math.log(scaling["factor"]) + 1) ** 2
    return scale


def check_scale(scale, config):
    """Refuses a model whose code forgot mscale (deepseek_v2 before transformers #47435)."""
    expected = expected_scale(config)
    if scale is None or abs(scale - expected) > 1e-6:
        raise CaptureError(f"the model multiplies scores by {scale}, its config asks for "
                           f"{expected:.9f}; transformers before #47435 forgets mscale in "
                           "deepseek_v2: update it")


def load_config(path, trust_remote_code=False):
    """The config of an MLA model; CaptureError if it is none."""
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise CaptureError(f"{path}: {str(error).splitlines()[0]}") from error
    missing = [name for name in MLA_DIMS if not getattr(config, name, None)]
    if missing:
        raise CaptureError(f"{path}: not an MLA model: model_type {config.model_type} has no "
                           f"{missing[0]}")
    return config


def load_model(path, config, num_layers, dtype, device, trust_remote_code=False):
    """The base model's first num_layers layers, in dtype; later layers are not even built."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise CaptureError(f"--device {device}: torch finds no CUDA device here")
    config = copy.deepcopy(config)
    config.num_hidden_layers = num_layers
    model, loading = AutoModel.from_pretrained(
        path, config=config, dtype=dtype, trust_remote_code=trust_remote_code,
        output_loading_info=True, **({"device_map": "auto"} if device == "auto" else {}))
    if loading["missing_keys"]:
        raise CaptureError(f"{path}: the checkpoint lacks {sorted(loading['missing_keys'])[0]}")
    if model.rotary_emb.inv_freq.dtype != torch.float32:
        raise CaptureError("the model's rotary frequencies were rounded to "
                           f"{model.rotary_emb.inv_freq.dtype}, expected float32")
    return model.eval() if device == "auto" else model.eval().to(device)


class ByteTokenizer:
    """Tokens are bytes, 256 is BOS: what train_tiny.py uses."""
    name = "bytes, BOS 256"
    digest = "none"
    bos = BYTE_BOS

    def encode(self, text):
        return list(text.encode())


class HfTokenizer:
    """A checkpoint's own tokenizer."""

    def __init__(self, path, trust_remote_code):
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        self.name = pathlib.Path(path).name
        self.digest = files_sha256(pathlib.Path(path), "tokenizer.json")
        self.bos = self.tokenizer.bos_token_id

    def encode(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def load_tokenizer(path, config, trust_remote_code=False):
    if getattr(config, "byte_tokens", False):
        return ByteTokenizer()
    return HfTokenizer(path, trust_remote_code)


def files_sha256(folder, pattern):
    """The sha256 of the one file that matches, of a sha256sum listing if several do, or "none"."""
    digests = []
    for path in sorted(folder.glob(pattern)):
        with open(path, "rb") as file:
            digests.append((hashlib.file_digest(file, "sha256").hexdigest(), path.name))
    if len(digests) < 2:
        return digests[0][0] if digests else "none"
    listing = "".join(f"{digest}  {name}\n" for digest, name in digests)
    return hashlib.sha256(listing.encode()).hexdigest()
