"""One request's attention in fp64, in both of its forms, to check a capture before it is written.

S queries, T keys, H heads; ckv, kpe, nope, v as in data/FORMAT.md.
"""
import dataclasses

import torch


@dataclasses.dataclass
class Reference:
    """What the attention gives, and how far its forms lie apart (relative L2)."""
    q_stored: torch.Tensor  # [S, H, nope], or [S, H, ckv] absorbed and rounded for a kernel-call
    out: torch.Tensor       # f32 [S, H, v], or [S, H, ckv] for a kernel-call, from q_stored
    lse: torch.Tensor       # f32 [S, H], natural logarithm, from q_stored
    absorbed_error: float   # absorbed against textbook form
    model_error: float      # the model's own output against what q_stored gives
    max_score: float        # largest visible scaled score
    entropy_bits: float     # mean over the rows


def attend(query, keys, rope_scores, scale, masked):
    """(scores, probabilities, lse) of one head: query [S, d], keys [T, d], the rest [S, T]."""
    scores = ((query @ keys.T + rope_scores) * scale).masked_fill(masked, -torch.inf)
    lse = scores.logsumexp(-1)
    return scores, (scores - lse[:, None]).exp(), lse


def reference(inputs, ckv, kpe, w_uk, w_uv, scale, absorb):
    """Recomputes a request's attention, head by head.

    inputs: hf_mla.LayerInputs of the S new tokens; ckv [T, ckv], kpe [T, kpe]: the request so far;
    w_uk [H, nope, ckv], w_uv [H, v, ckv]; absorb: store q absorbed and rounded to its own type.
    """
    device = w_uk.device
    q_nope, q_pe, model_out, ckv, kpe, w_uk, w_uv = (tensor.to(device).double() for tensor in (
        inputs.q_nope, inputs.q_pe, inputs.out, ckv, kpe, w_uk, w_uv))
    masked = torch.ones(len(q_nope), len(ckv), device=device).triu(len(ckv) - len(q_nope) + 1) > 0
    q_absorbed = torch.einsum("shd,hdc->shc", q_nope, w_uk)
    q_rounded = q_absorbed.to(inputs.q_nope.dtype)
    heads = []
    for head in range(q_nope.shape[1]):
        fixed = q_pe[:, head] @ kpe.T, scale, masked
        values = ckv @ w_uv[head].T
        scores, probs, lse = attend(q_nope[:, head], ckv @ w_uk[head].T, *fixed)
        textbook = out = stored = probs @ values
        absorbed = attend(q_absorbed[:, head], ckv, *fixed)[1] @ ckv @ w_uv[head].T
        if absorb:
            scores, probs, lse = attend(q_rounded[:, head].double(), ckv, *fixed)
            out, stored = probs @ ckv, probs @ values
        entropy = -(probs * probs.clamp_min(1e-300).log2()).sum(-1)
        heads.append((textbook, absorbed, stored, out, lse, scores.amax(-1), entropy))
    textbook, absorbed, stored, out, lse, peak, entropy = (torch.stack(t, 1) for t in zip(*heads))
    return Reference(
        q_stored=q_rounded if absorb else inputs.q_nope, out=out.float(), lse=lse.float(),
        absorbed_error=relative_error(absorbed, textbook),
        model_error=relative_error(model_out, stored),
        max_score=peak.max().item(), entropy_bits=entropy.mean().item())


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()
