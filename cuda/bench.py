#!/usr/bin/env python3
"""The kernels on a GPU beside their peers: same tensors, same run.

    cuda/bench.py [--natives libteamtr.so] [--out FOLDER] [--seconds 190] [--no-peers]
    cuda/bench.py --dry-run       the checks alone, tiny shapes

Needs PyTorch and a libteamtr.so with CUDA (native/build.sh PREFIX ON). --dry-run needs no GPU: without one it takes the CPU
kernels, or, of a library that has the CUDA kernels in their host form, those. Kernels are called through the C ABI, whose
signatures are read from native/include/teamtr.h.

What is measured: device time between two CUDA events. Before each call the L2 cache is filled with other data by reading
a buffer twice its size, several sets of inputs take turns, and a spin on the device lets the host get ahead, so that a
launch never waits for Python. Providers take turns too, call by call; a large device-to-device copy is one of them in
every case. ms are the median and, in brackets, the 20th and 80th percentile.

GB/s are the bytes that the job cannot do without, as the formula beside each case counts them, over the median: a peer
that reads the logits three times has a third of the GB/s. "of copy" is against the GB/s of the copy (bytes read plus bytes
written) in the same case. "x time" is the median over that of TeamTR.

Errors are the largest of a few rows against fp64 from the same inputs: absolute for log-probs, entropies and the loss,
relative for KL (that is, to at least 1e-6), and for gradients |d - ref| / (|ref| + mean |ref| of the row). TeamTR must be
within the stated tolerance, else exit code 1 at the end of the run; what is outside it is timed all the same and marked (!).

Ours is measured first, at all shapes; then again beside its peers, at one shape after the other, until --seconds are over. So a
peer that takes long takes only from other peers. Of 1 and 16 rows, the launch of an empty kernel is measured beside ours. After
each case, bench.json and table.md are written anew.

Peers: PyTorch eager, the composition that one would write; torch.compile of the same (of log-probs backward also of the
closed formula); a plain one-sweep Triton kernel; and, where they are installed or on PYTHONPATH, kernels of Liger, Fast-LLM,
fla, flash-attn, verl, cut-cross-entropy, flashinfer and vLLM, each called as its own library calls it. What is not installed is
named at the end. A peer that does not load, fails, runs out of memory or time keeps its row with the reason. Backward passes
alone of PyTorch are timed after an untimed forward; cases named "with gradient" or "fwd + bwd" are forward and backward together.
A peer that computes a part of the job is named with it ("log-prob alone"), and its error is of that part.
"""
import argparse
import ctypes
import datetime
import importlib.util
import inspect
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

ROOT = pathlib.Path(__file__).resolve().parent.parent
DTYPE = {torch.float32: 0, torch.bfloat16: 1}  # TEAMTR_F32, TEAMTR_BF16
NAME = {torch.float32: "f32", torch.bfloat16: "bf16"}
MAIN = (8192, 151936, torch.bfloat16)
FEW = [(1, 151936, torch.bfloat16), (16, 151936, torch.bfloat16)]  # beside the launch of an empty kernel
SHAPES = [MAIN, (256, 151936, torch.bfloat16), (8192, 32000, torch.bfloat16), (2048, 151936, torch.float32)]
DECODING = [(192, 512, torch.bfloat16), (192, 2048, torch.bfloat16), (8, 4096, torch.bfloat16)]  # rows, columns of the cache
HEADS, KV_HEADS, HEAD_DIM = 16, 8, 128  # of Qwen3-0.6B and 1.7B
LENGTH = 64  # tokens of a message
RATIO_MESSAGE, RATIO_MESSAGE_MEAN = 0, 2  # of teamtr.h
TOP_P = 0.95
BETA = 0.1
EPS = 0.2
PROVIDER_SECONDS = 40  # for the first call of a peer, compilation included
HIDDEN = 4096  # width of the hidden states that a head makes logits of
CHUNK = 2048  # rows of logits at a time, there
ROUNDS = 40
LAUNCH = "launch of an empty kernel"


class Wrong(Exception):
    """A result of TeamTR outside its tolerance."""


class TooLong(Exception):
    pass


# ---- the C ABI --------------------------------------------------------------------------------------------------


class Library:
    """libteamtr.so; argument types and names are those of the header."""

    TYPES = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "float": ctypes.c_float,
             "double": ctypes.c_double, "teamtr_address": ctypes.c_uint64}

    def __init__(self, path, header, device, stream):
        self.native = ctypes.CDLL(str(path))
        self.place = {"device": device, "stream": stream}
        text = re.sub(r"/\*(.*?)\*/", lambda m: " OPTIONAL " if "[opt]" in m[1] else " ", header.read_text(), flags=re.S)
        self.arguments = {}
        for name, arguments in re.findall(r"TEAMTR_API\s+int32_t\s+(\w+)\(([^)]*)\)\s*;", text):
            words = [a.split() for a in arguments.split(",") if a.strip() != "void"]
            self.arguments[name] = [(w[1], "OPTIONAL" in w) for w in words]
            function = getattr(self.native, name)
            function.argtypes = [self.TYPES[w[0]] for w in words]
            function.restype = ctypes.c_int32
        for name in ("teamtr_last_error", "teamtr_cuda_device"):
            getattr(self.native, name).restype = ctypes.c_char_p
        self.native.teamtr_cuda_device.argtypes = [ctypes.c_int32]

    def bind(self, name, **given):
        """The call as a function of nothing. Tensors stand for their addresses, [opt] arguments may be left out."""
        given.update(self.place)
        values = []
        for argument, optional in self.arguments[name]:
            if argument not in given and not optional:
                raise TypeError(f"{name}: {argument} is missing")
            values.append(given.pop(argument, 0))
        if given:
            raise TypeError(f"{name} has no {', '.join(given)}")
        function = getattr(self.native, name)
        types = function.argtypes
        tensors = [v for v in values if torch.is_tensor(v)]  # kept alive with the call
        values = [t(v.data_ptr() if torch.is_tensor(v) else v) for t, v in zip(types, values)]

        def call(_tensors=tensors):
            if function(*values) != 0:
                raise RuntimeError(f"{name}: {self.native.teamtr_last_error().decode()}")
        return call


def view(prefix, x, dtype=True):
    """The parameters of a matrix of logits, contiguous."""
    rows, vocab = x.shape
    short = prefix.replace("logits", "").rstrip("_") + "_" if prefix != "logits" else ""
    given = {prefix: x, short + "row_stride": vocab, short + "rows_per_batch": rows, short + "batch_stride": 0}
    if dtype:
        given.update(dtype=DTYPE[x.dtype], rows=rows, vocab=vocab)
    return given


# ---- what peers compute -----------------------------------------------------------------------------------------


def log_softmax(x):
    return torch.log_softmax(x, -1, dtype=torch.float32)


def peer_log_probs(x, targets):
    lp = log_softmax(x)
    return lp.gather(-1, targets[:, None]).squeeze(-1), -(lp.exp() * lp).sum(-1)


def peer_log_probs_backward(x, targets, lse, entropy, g, h):
    """The gradient by its formula, for compilers: one read, one write."""
    lp = x.float() - lse[:, None]
    p = lp.exp()
    hit = torch.arange(x.shape[1], device=x.device)[None, :] == targets[:, None]
    return (g[:, None] * (hit.float() - p) - h[:, None] * p * (lp + entropy[:, None])).to(x.dtype)


def peer_kl(p, q):
    lp, lq = log_softmax(p), log_softmax(q)
    return (lp.exp() * (lp - lq)).sum(-1)


def peer_policy_loss(x, targets, log_probs_old, advantages, level, old=None):
    lp = log_softmax(x)
    new = lp.gather(-1, targets[:, None]).squeeze(-1)
    loss = clipped(new, log_probs_old, advantages, level)
    if old is not None:
        lo = log_softmax(old)
        loss = loss + BETA * (lo.exp() * (lo - lp)).sum(-1).view(-1, LENGTH).sum(-1).mean()
    return loss


def clipped(new, log_probs_old, advantages, level):
    """One ratio for each message: the product over its tokens (Eq. 10), or their geometric mean (GSPO)."""
    log_ratios = (new - log_probs_old).view(-1, LENGTH)
    w = (log_ratios.mean(-1) if level == RATIO_MESSAGE_MEAN else log_ratios.sum(-1)).clamp(-20, 20).exp()
    return -torch.minimum(w * advantages, w.clamp(1 - EPS, 1 + EPS) * advantages).mean()


def peer_sample(x):
    p = torch.softmax(x, -1, dtype=torch.float32)
    tokens = (p / torch.empty_like(p).exponential_()).argmax(-1)
    return tokens, p.gather(-1, tokens[:, None]).squeeze(-1).log()


def peer_sample_top_p(x):
    p, order = torch.softmax(x, -1, dtype=torch.float32).sort(-1, descending=True)
    kept = torch.where(p.cumsum(-1) - p < TOP_P, p, torch.zeros_like(p))
    drawn = (kept / torch.empty_like(p).exponential_()).argmax(-1, keepdim=True)
    return order.gather(-1, drawn).squeeze(-1), p.gather(-1, drawn).squeeze(-1).log()


def peer_attend(qkv, q_norm, k_norm, cosine, sine, positions, keys, values, columns):
    """One new token of each row, all of which have as many: norms of heads, rotation, cache, attention."""
    rows = len(qkv)
    heads = qkv[:, :(HEADS + KV_HEADS) * HEAD_DIM].view(rows, HEADS + KV_HEADS, HEAD_DIM)
    weights = torch.cat((q_norm.expand(HEADS, HEAD_DIM), k_norm.expand(KV_HEADS, HEAD_DIM)))
    heads = F.rms_norm(heads, (HEAD_DIM,), eps=1e-6) * weights
    cos, sin = cosine[positions].to(qkv.dtype)[:, None], sine[positions].to(qkv.dtype)[:, None]
    turned = heads * cos + heads.roll(HEAD_DIM // 2, -1) * sin
    keys[:, :, columns - 1] = turned[:, HEADS:]
    values[:, :, columns - 1] = qkv[:, (HEADS + KV_HEADS) * HEAD_DIM:].view(rows, KV_HEADS, HEAD_DIM)
    queries = turned[:, :HEADS].view(rows, KV_HEADS, HEADS // KV_HEADS, HEAD_DIM)
    return F.scaled_dot_product_attention(queries, keys[:, :, :columns], values[:, :, :columns]).reshape(rows, HEADS * HEAD_DIM)


if triton:
    @triton.jit
    def triton_row(x, targets, log_probs, entropy, vocab, BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        x += row * vocab
        top = -1e30
        total = tl.zeros([BLOCK], tl.float32)
        weighted = tl.zeros([BLOCK], tl.float32)
        for start in range(0, vocab, BLOCK):
            column = start + tl.arange(0, BLOCK)
            v = tl.load(x + column, mask=column < vocab, other=-1e30).to(tl.float32)
            new_top = tl.maximum(top, tl.max(v, 0))
            shrink = tl.exp(top - new_top)
            e = tl.exp(v - new_top)
            total = total * shrink + e
            weighted = weighted * shrink + e * v
            top = new_top
        s = tl.sum(total, 0)
        lse = top + tl.log(s)
        target = tl.load(targets + row)
        tl.store(log_probs + row, tl.load(x + target).to(tl.float32) - lse)
        tl.store(entropy + row, lse - tl.sum(weighted, 0) / s)


def triton_log_probs(x, targets):
    out = torch.empty(2, x.shape[0], device=x.device)
    triton_row[(x.shape[0],)](x, targets, out[0], out[1], x.shape[1], BLOCK=4096, num_warps=8)
    return out[0], out[1]


# ---- other libraries, imported where they are used -----------------------------------------------------------------

# Each function below answers the call of its kernel, or raises what its import raises. Arguments are those of the library's
# own callers; see cuda/results for the commits that were measured.


def liger_log_probs():
    from liger_kernel.ops.grpo_loss import fused_selective_log_softmax
    # It takes [batch, length + 1, vocab] and leaves out the last row. Its default temperature is 0.9.
    return lambda x, t: (fused_selective_log_softmax(x[None], t[None, :-1], temperature=1.0).view(-1), None)


def by_name(function, skipped=0, **given):
    """Positional arguments of a function, which a torch.autograd.Function takes only; defaults where nothing is given."""
    parameters = list(inspect.signature(function).parameters.values())[skipped:]
    unknown = given.keys() - {p.name for p in parameters}
    if unknown:
        raise TypeError(f"{function.__qualname__} has no {', '.join(sorted(unknown))}")
    return [given[p.name] if p.name in given else p.default for p in parameters]


def liger_policy_loss():
    """Of [messages, length + 1, vocab], whose last rows are left out; the gradient goes in their place."""
    from liger_kernel.ops.grpo_loss import GrpoLossFunction as function

    def call(x, t, log_probs_old, advantages):
        shape = -1, x.shape[1] - 1
        loss = function.apply(*by_name(
            function.forward, 1, logits=x, old_logp=log_probs_old.view(shape), ref_logp=None, completion_ids=t.view(shape),
            advantages=advantages, completion_mask=None, temperature=1.0, beta=0.0, eps_low=EPS, eps_high=EPS, inplace=True,
            loss_type="grpo", importance_sampling_level="sequence"))[0]
        return loss.detach(), torch.autograd.grad(loss, x)[0]
    return call


def liger_linear():
    from liger_kernel.ops.fused_linear_cross_entropy import fused_linear_cross_entropy_forward as function
    return lambda hidden, weight, t: (-function(hidden, weight, t, reduction="none")[0], None)


def flash_attn_log_probs():
    from flash_attn.ops.triton.cross_entropy import cross_entropy_loss
    return lambda x, t: (-cross_entropy_loss(x, t)[0], None)


def flash_attn_gradient():
    """In place."""
    from flash_attn.ops.triton.cross_entropy import cross_entropy_loss

    def call(x, t, g):
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(-cross_entropy_loss(leaf, t, inplace_backward=True)[0], leaf, g)[0]
    return call


def fast_llm_options(kernel, vocab):
    """Block and warps. Newer versions choose the warps of kernels over two rows themselves."""
    if hasattr(kernel, "configs"):
        return dict(block_size=min(triton.next_power_of_2(vocab), 16384))
    block = min(triton.next_power_of_2(vocab), 32768)
    return dict(block_size=block, num_warps=4 if block < 2048 else 8 if block < 8192 else 16)


def fast_llm_log_probs():
    from fast_llm.functional.triton.entropy_loss import triton_cross_entropy_forward_from_labels_parallel_kernel as kernel

    def call(x, t):
        rows, vocab = x.shape
        top, total, logit = torch.empty(3, rows, device=x.device)
        kernel[(rows,)](x, t, n_cols=vocab, logits_stride_0=x.stride(0), max_logits_ptr=top, sum_exp_logits_ptr=total,
                        predicted_logits_ptr=logit, **fast_llm_options(kernel, vocab))
        return logit - top - total.log(), None
    return call


def fast_llm_gradient():
    """Of minus the log-prob."""
    from fast_llm.functional.triton.entropy_loss import triton_cross_entropy_forward_backward_from_labels_kernel as kernel

    def call(x, t):
        rows, vocab = x.shape
        losses, d = torch.empty(rows, device=x.device), torch.empty_like(x)
        kernel[(rows,)](x, t, n_cols=vocab, logits_stride_0=x.stride(0), losses_ptr=losses, grad_losses=1.0, grad_logits_ptr=d,
                        grad_logits_stride_0=vocab, **fast_llm_options(kernel, vocab))
        return d
    return call


def fast_llm_policy_loss():
    from fast_llm.functional.triton.gspo_loss import triton_gspo_loss_forward_backward as function

    def call(x, t, log_probs_old, advantages):
        rows = len(t)
        messages = torch.arange(rows, device=x.device) // LENGTH
        return function(x, t, advantages=advantages[messages], old_log_probabilities=log_probs_old,
                        document_index_zero_based=messages, num_segments=rows // LENGTH, divisor=float(rows),
                        num_labels_in_seq=torch.full_like(t, LENGTH), grad_output=1.0, epsilon_low=EPS, epsilon_high=EPS)[:2]
    return call


def fast_llm_kl(with_gradient):
    from fast_llm.functional.triton.entropy_loss import triton_cross_entropy_from_distribution_forward_backward_kernel as kernel

    def call(p, q):
        rows, vocab = q.shape
        kl = torch.empty(rows, device=q.device)
        d = torch.empty_like(q) if with_gradient else None
        gradient = dict(grad_losses=1.0, grad_logits_ptr=d, grad_logits_stride_0=vocab) if with_gradient else {}
        kernel[(rows,)](q, p, n_cols=vocab, logits_stride_0=vocab, target_stride_0=vocab, losses_ptr=kl, return_kl_loss=True,
                        **fast_llm_options(kernel, vocab), **gradient)
        return (kl, d) if with_gradient else kl
    return call


def fla_kl():
    """KL(p || q) and, over q, its gradient with respect to q."""
    from fla.modules.fused_kl_div import MAX_FUSED_SIZE, STATIC_WARPS, kl_div_kernel

    def call(p, q):
        rows, vocab = q.shape
        kl = torch.zeros(rows, device=q.device)
        kl_div_kernel[(rows,)](logits=q, target_logits=p, loss=kl, s_logits=vocab, s_loss=1, reduction="sum", N=rows, V=vocab,
                               BV=min(MAX_FUSED_SIZE, triton.next_power_of_2(vocab)), num_warps=STATIC_WARPS)
        return kl, q
    return call


def verl_linear():
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy
    return lambda hidden, weight, t: linear_cross_entropy(hidden, weight, t, 1.0, "none")


def cut_cross_entropy_linear():
    from cut_cross_entropy import linear_cross_entropy
    return lambda hidden, weight, t: (-linear_cross_entropy(hidden, weight, t, reduction="none"), None)


def flashinfer_sample():
    from flashinfer.sampling import sampling_from_logits
    return lambda x: (sampling_from_logits(x.float()).long(), None)  # it takes f32


def flashinfer_sample_top_p():
    from flashinfer.sampling import top_p_sampling_from_probs
    return lambda x: (top_p_sampling_from_probs(torch.softmax(x, -1, dtype=torch.float32), TOP_P).long(), None)


def vllm_log_probs():
    from vllm.v1.worker.gpu.sample.logprob import compute_token_logprobs
    return lambda x, t: (compute_token_logprobs(x, t[:, None])[:, 0], None)


def vllm_sample(top_p):
    from vllm.v1.worker.gpu.sample.gumbel import gumbel_sample
    from vllm.v1.worker.gpu.sample.logprob import compute_token_logprobs
    if top_p < 1:
        from vllm.v1.sample.ops.topk_topp_triton import apply_top_k_top_p_triton

    def call(x):
        rows = torch.arange(x.shape[0], device=x.device)
        kept = x
        if top_p < 1:
            kept = apply_top_k_top_p_triton(x.float(), None, torch.full((len(rows),), top_p, device=x.device))  # it takes f32
        tokens = gumbel_sample(kept, rows, torch.ones(len(rows), device=x.device), rows + 17, torch.zeros_like(rows), True, False)
        return tokens, compute_token_logprobs(x, tokens[:, None])[:, 0]
    return call


def not_installed():
    """Of the libraries above those that this Python does not find."""
    names = {"Liger": "liger_kernel", "Fast-LLM": "fast_llm", "fla": "fla", "flash-attn": "flash_attn", "verl": "verl",
             "cut-cross-entropy": "cut_cross_entropy", "flashinfer": "flashinfer", "vLLM": "vllm"}

    def missing(module):
        try:
            return importlib.util.find_spec(module) is None
        except (ImportError, ValueError):
            return True
    return [name for name, module in names.items() if missing(module)]


# ---- fp64 -------------------------------------------------------------------------------------------------------


def log_softmax64(x):
    return torch.log_softmax(x.double(), -1)


def by_chunks(function, rows, size=64):
    return torch.cat([function(slice(i, min(i + size, rows))) for i in range(0, rows, size)])


def absolute(given, reference):
    return (given.double() - reference).abs().max().item()


def of_kl(given, reference):
    return ((given.double() - reference).abs() / reference.clamp(min=1e-6)).max().item()


def worst(*errors):
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def of_gradient(given, reference):
    floor = reference.abs().mean(-1, keepdim=True)
    return ((given.double() - reference).abs() / (reference.abs() + floor)).max().item()


def gradient_tolerance(dtype):
    return {torch.float32: 1e-3, torch.bfloat16: 5e-3}[dtype]  # bf16 rounds by up to 2^-8 = 3.9e-3


# ---- inputs -----------------------------------------------------------------------------------------------------


class Inputs:
    """One set of tensors of a shape. Logits are about N(0, 3), each row with one token far above, as a language model's."""

    def __init__(self, shape, device, seed):
        rows, vocab, dtype = shape
        generator = torch.Generator(device=device).manual_seed(seed)
        f32 = dict(device=device, generator=generator)
        self.x = torch.randn(rows, vocab, dtype=dtype, **f32).mul_(3)
        peak = torch.randint(vocab, (rows, 1), **f32)
        self.x.scatter_(1, peak, (8 + 12 * torch.rand(rows, 1, **f32)).to(dtype))
        self.targets = torch.where(torch.rand(rows, **f32) < 0.5, peak[:, 0], torch.randint(vocab, (rows,), **f32))
        self.g, self.h = torch.randn(rows, **f32), torch.randn(rows, **f32) * 0.01
        self.generator = generator
        self.some = sorted({0, rows // 3, rows // 2, rows - 1})  # the rows that are checked

    def near(self):
        """A policy about a trust-region step from x."""
        y = torch.randn(self.x.shape, dtype=self.x.dtype, device=self.x.device, generator=self.generator)
        return y.mul_(0.02).add_(self.x)

    def far(self):
        y = torch.randn(self.x.shape, dtype=self.x.dtype, device=self.x.device, generator=self.generator)
        return y.mul_(3)


# ---- cases ------------------------------------------------------------------------------------------------------


class Provider:
    """call(i, state) is timed on input set i; state is what prepare(i) left, untimed. check: instead of the case's, where the
    outputs are others."""

    def __init__(self, name, call, prepare=None, check=None):
        self.name, self.call, self.prepare, self.check = name, call, prepare or (lambda i: None), check
        self.error, self.failure, self.samples, self.seconds = None, None, [], None


def of_library(name, load, call, prepare=None, check=None):
    """A list of one provider, whose call(kernel, i, state) is of what load() answers; of none where it is not installed."""
    try:
        kernel = load()
    except ModuleNotFoundError as e:
        if (e.name or "").split(".")[0] in ABSENT:
            return []
        reason = e
    except Exception as e:  # whatever another library's import throws
        reason = e
    else:
        return [Provider(name, lambda i, state: call(kernel, i, state), prepare, check)]
    provider = Provider(name, None)
    provider.failure = failure(reason)
    return [provider]


ABSENT = {"liger_kernel", "fast_llm", "fla", "flash_attn", "verl", "cut_cross_entropy", "flashinfer", "vllm", "triton"}


class Case:
    """check(outputs of set 0) gives the error; tolerance is for TeamTR; operations: of a product, where that is the work."""

    def __init__(self, name, size, check, tolerance, providers, operations=None):
        self.name, self.bytes, self.check, self.tolerance, self.providers = name, size, check, tolerance, providers
        self.operations = operations


def compiled(function):
    return torch.compile(function, dynamic=False) if hasattr(torch, "compile") else None


def autograd(name, forward, leaf, upstream):
    """The backward pass of forward(i, leaf): upstream(i) are the gradients of its outputs."""
    def prepare(i):
        x = leaf(i).detach().requires_grad_()
        outputs = forward(i, x)
        return (outputs if isinstance(outputs, tuple) else (outputs,)), x

    def call(i, state):
        return torch.autograd.grad(state[0], state[1], upstream(i))[0]
    return Provider(name, call, prepare)


class Bench:
    def __init__(self, library, device, peers):
        self.native, self.device, self.peers = library, device, peers

    def empty(self, *shape, dtype=torch.float32):
        return torch.full(shape, float("nan") if dtype.is_floating_point else -7, dtype=dtype, device=self.device)

    def log_probs_call(self, s):
        rows = s.x.shape[0]
        out = [self.empty(rows) for _ in range(3)]
        call = self.native.bind("teamtr_log_probs", **view("logits", s.x), targets=s.targets, target_type=1, temperature=1.0,
                                 log_probs=out[0], lse=out[1], entropy=out[2])
        return call, out

    def ours(self, calls, prepare=None):
        """calls: for each input set, the bound call and what it writes."""
        def call(i, _):
            calls[i][0]()
            return calls[i][1]
        return Provider("TeamTR", call, prepare)

    def log_probs(self, sets):
        rows, vocab = sets[0].x.shape
        size = rows * vocab * sets[0].x.element_size() + rows * (8 + 3 * 4)  # logits and targets; log-prob, lse, entropy
        s, some = sets[0], sets[0].some
        lp = log_softmax64(s.x[some])
        expected = lp.gather(-1, s.targets[some, None])[:, 0], -(lp.exp() * lp).sum(-1)

        def check(outputs):
            keep = [k for k, r in enumerate(some) if r < len(outputs[0])]
            rows_kept = [some[k] for k in keep]
            return worst(*(absolute(o[rows_kept], e[keep]) for o, e in zip(outputs, expected) if o is not None))
        calls = [self.log_probs_call(s) for s in sets]
        providers = [self.ours([(call, (out[0], out[2])) for call, out in calls])]

        def of(function):
            return lambda i, _: function(sets[i].x, sets[i].targets)
        if self.peers:
            providers.append(Provider("PyTorch eager", of(peer_log_probs)))
            if compiled(peer_log_probs):
                providers.append(Provider("torch.compile", of(compiled(peer_log_probs))))
            if triton and self.device.type == "cuda":
                providers.append(Provider("Triton, one sweep", of(triton_log_probs)))
            for name, load in (("Liger", liger_log_probs), ("flash-attn", flash_attn_log_probs), ("Fast-LLM", fast_llm_log_probs),
                               ("vLLM", vllm_log_probs)):
                providers += of_library(f"{name}, log-prob alone", load, lambda kernel, i, _: kernel(sets[i].x, sets[i].targets))
        return Case("log-probs + entropy", size, check, 1e-4, providers)

    def log_probs_backward(self, sets):
        rows, vocab = sets[0].x.shape
        size = 2 * rows * vocab * sets[0].x.element_size() + rows * (8 + 5 * 4)
        saved, calls, work = [], [], [torch.empty_like(s.x) for s in sets]
        for s, d in zip(sets, work):
            forward, out = self.log_probs_call(s)
            forward()
            saved.append(out)
            calls.append((self.native.bind(
                "teamtr_log_probs_backward", **view("logits", d), targets=s.targets, target_type=1, vocab_start=0,
                global_vocab=vocab, temperature=1.0, log_probs=out[0], lse=out[1], entropy=out[2], grad_log_probs=s.g,
                grad_entropy=s.h, **view("d_logits", d, dtype=False)), d))
        s, some = sets[0], sets[0].some
        lp = log_softmax64(s.x[some])
        p = lp.exp()
        hit = F.one_hot(s.targets[some], vocab).double()
        entropy = -(p * lp).sum(-1, keepdim=True)
        expected = s.g[some, None].double() * (hit - p) - s.h[some, None].double() * p * (lp + entropy)

        def check(d):
            return of_gradient(d[some], expected)
        providers = [self.ours(calls, lambda i: work[i].copy_(sets[i].x))]  # in place, so on a fresh copy
        if self.peers:
            def leaf(i): return sets[i].x
            def upstream(i): return sets[i].g, sets[i].h
            providers.append(autograd("PyTorch eager", lambda i, x: peer_log_probs(x, sets[i].targets), leaf, upstream))
            forward, formula = compiled(peer_log_probs), compiled(peer_log_probs_backward)
            if forward:
                providers.append(autograd("torch.compile", lambda i, x: forward(x, sets[i].targets), leaf, upstream))
                providers.append(Provider("torch.compile, formula", lambda i, _: formula(
                    sets[i].x, sets[i].targets, saved[i][1], saved[i][2], sets[i].g, sets[i].h)))
        return Case("log-probs backward, in place", size, check, gradient_tolerance(s.x.dtype), providers)

    def kl(self, sets, others, title):
        rows, vocab = sets[0].x.shape
        size = 2 * rows * vocab * sets[0].x.element_size() + rows * (8 + 5 * 4)
        calls = []
        for s, q in zip(sets, others):
            out = [self.empty(rows) for _ in range(5)]
            calls.append((self.native.bind(
                "teamtr_kl", **view("p", s.x), **view("q", q, dtype=False), targets=s.targets, target_type=1, temperature=1.0,
                kl=out[0], log_probs_p=out[1], log_probs_q=out[2], entropy_p=out[3], entropy_q=out[4]), out[0]))
        some = sets[0].some
        lp, lq = log_softmax64(sets[0].x[some]), log_softmax64(others[0][some])
        expected = (lp.exp() * (lp - lq)).sum(-1)
        providers = [self.ours(calls)]
        if self.peers:
            providers.append(Provider("PyTorch eager", lambda i, _: peer_kl(sets[i].x, others[i])))
            fast = compiled(peer_kl)
            if fast:
                providers.append(Provider("torch.compile", lambda i, _: fast(sets[i].x, others[i])))
            providers += of_library("Fast-LLM", lambda: fast_llm_kl(False), lambda kernel, i, _: kernel(sets[i].x, others[i]))
            providers += of_library("fla, with gradient in place", fla_kl, lambda kernel, i, q: kernel(sets[i].x, q)[0],
                                    lambda i: others[i].clone())
        return Case(f"exact KL, {title}", size, lambda kl: of_kl(kl[some], expected), 1e-4, providers)

    def kl_backward(self, sets, others):
        rows, vocab = sets[0].x.shape
        size = 3 * rows * vocab * sets[0].x.element_size() + rows * 4
        calls = []
        d = torch.empty_like(sets[0].x)
        for s, q in zip(sets, others):
            calls.append((self.native.bind(
                "teamtr_kl_backward", **view("p", s.x), **view("q", q, dtype=False), temperature=1.0, target_type=1,
                grad_kl=s.g, wrt_q=1, **view("d", d, dtype=False)), d))
        some = sets[0].some
        expected = sets[0].g[some, None].double() * (log_softmax64(others[0][some]).exp() - log_softmax64(sets[0].x[some]).exp())
        providers = [self.ours(calls)]
        if self.peers:
            def leaf(i): return others[i]
            def upstream(i): return (sets[i].g,)
            providers.append(autograd("PyTorch eager", lambda i, q: peer_kl(sets[i].x, q), leaf, upstream))
            fast = compiled(peer_kl)
            if fast:
                providers.append(autograd("torch.compile", lambda i, q: fast(sets[i].x, q), leaf, upstream))
        return Case("KL backward", size, lambda d: of_gradient(d[some], expected), gradient_tolerance(d.dtype), providers)

    def kl_with_gradient(self, sets, others):
        """Forward and backward with upstream gradients of 1, which is what the others' kernels compute in one."""
        rows, vocab = sets[0].x.shape
        size = 5 * rows * vocab * sets[0].x.element_size() + rows * 4 * 5  # both rows twice, the gradient once
        ones, d = torch.ones(rows, device=self.device), torch.empty_like(sets[0].x)
        calls = []
        for s, q in zip(sets, others):
            kl, lse_p, lse_q, log_ratio = (self.empty(rows) for _ in range(4))
            both = dict(**view("p", s.x), **view("q", q, dtype=False), temperature=1.0, target_type=1, lse_p=lse_p, lse_q=lse_q,
                        log_ratio=log_ratio)
            forward = self.native.bind("teamtr_kl_with_statistics", kl=kl, **both)
            backward = self.native.bind("teamtr_kl_backward_from_statistics", grad_kl=ones, wrt_q=1,
                                        **view("d", d, dtype=False), **both)
            calls.append((lambda f=forward, b=backward: (f(), b()), (kl, d)))
        some = sets[0].some
        p, q = log_softmax64(sets[0].x[some]), log_softmax64(others[0][some])
        kl, gradient = (p.exp() * (p - q)).sum(-1), q.exp() - p.exp()
        tolerance = gradient_tolerance(d.dtype)

        def check(outputs):  # the KL has the tighter tolerance: brought to the gradient's scale
            return worst(of_kl(outputs[0][some], kl) * tolerance / 1e-4, of_gradient(outputs[1][some], gradient))
        providers = [self.ours(calls)]
        if self.peers:
            def of(function):
                def call(i, _):
                    leaf = others[i].detach().requires_grad_()
                    value = function(sets[i].x, leaf)
                    return value.detach(), torch.autograd.grad(value, leaf, ones)[0]
                return call
            providers.append(Provider("PyTorch eager", of(peer_kl)))
            if compiled(peer_kl):
                providers.append(Provider("torch.compile", of(compiled(peer_kl))))
            providers += of_library("Fast-LLM", lambda: fast_llm_kl(True), lambda kernel, i, _: kernel(sets[i].x, others[i]))
            providers += of_library("fla, in place", fla_kl, lambda kernel, i, q: kernel(sets[i].x, q), lambda i: others[i].clone())
        return Case("exact KL with gradient", size, check, tolerance, providers)

    def log_probs_with_gradient(self, sets):
        """Forward and backward: read twice, written once."""
        rows, vocab = sets[0].x.shape
        size = 3 * rows * vocab * sets[0].x.element_size() + rows * (8 + 8 * 4)
        d, calls = torch.empty_like(sets[0].x), []
        for s in sets:
            forward, out = self.log_probs_call(s)
            backward = self.native.bind(
                "teamtr_log_probs_backward", **view("logits", s.x), targets=s.targets, target_type=1, vocab_start=0,
                global_vocab=vocab, temperature=1.0, log_probs=out[0], lse=out[1], entropy=out[2], grad_log_probs=s.g,
                grad_entropy=s.h, **view("d_logits", d, dtype=False))
            calls.append((lambda f=forward, b=backward: (f(), b()), d))
        s, some = sets[0], sets[0].some
        lp = log_softmax64(s.x[some])
        p = lp.exp()
        entropy = -(p * lp).sum(-1, keepdim=True)
        expected = (s.g[some, None].double() * (F.one_hot(s.targets[some], vocab).double() - p)
                    - s.h[some, None].double() * p * (lp + entropy))
        providers = [self.ours(calls)]
        if self.peers:
            def of(function):
                def call(i, _):
                    leaf = sets[i].x.detach().requires_grad_()
                    outputs = function(leaf, sets[i].targets)
                    return torch.autograd.grad(outputs, leaf, (sets[i].g, sets[i].h))[0]
                return call
            providers.append(Provider("PyTorch eager", of(peer_log_probs)))
            if compiled(peer_log_probs):
                providers.append(Provider("torch.compile", of(compiled(peer_log_probs))))
            alone = F.one_hot(s.targets[some], vocab).double() - p  # without the entropy's part
            providers += of_library(
                "flash-attn, log-prob alone, in place", flash_attn_gradient,
                lambda kernel, i, x: kernel(x, sets[i].targets, sets[i].g), lambda i: d.copy_(sets[i].x),
                lambda found: of_gradient(found[some], s.g[some, None].double() * alone))
            providers += of_library(
                "Fast-LLM, log-prob alone", fast_llm_gradient, lambda kernel, i, _: kernel(sets[i].x, sets[i].targets),
                check=lambda found: of_gradient(found[some], -alone))
        return Case("log-probs + entropy with gradient", size, lambda d: of_gradient(d[some], expected),
                    gradient_tolerance(d.dtype), providers)

    def linear(self, sets):
        """From hidden states and a head to log-probs and entropies, in chunks of rows: a product, and our kernel over it."""
        rows, vocab = sets[0].x.shape
        width, dtype = (HIDDEN if self.device.type == "cuda" else 64), sets[0].x.dtype
        generator = sets[0].generator
        hidden = torch.randn(rows, width, dtype=dtype, device=self.device, generator=generator)
        weight = torch.randn(vocab, width, dtype=dtype, device=self.device, generator=generator).mul_(3 / math.sqrt(width))
        targets, chunk = sets[0].targets, min(CHUNK, rows)
        logits = torch.empty(chunk, vocab, dtype=dtype, device=self.device)
        out = [self.empty(rows) for _ in range(3)]
        parts = [slice(i, min(i + chunk, rows)) for i in range(0, rows, chunk)]
        calls = [self.native.bind("teamtr_log_probs", **view("logits", logits[:c.stop - c.start]), targets=targets[c], target_type=1,
                                  temperature=1.0, log_probs=out[0][c], lse=out[1][c], entropy=out[2][c]) for c in parts]

        def multiply(c):
            torch.mm(hidden[c], weight.T, out=logits[:c.stop - c.start])

        def ours():
            for c, call in zip(parts, calls):
                multiply(c)
                call()
        some = sets[0].some
        lp = log_softmax64(hidden[some].double() @ weight.double().T)
        expected = lp.gather(-1, targets[some, None])[:, 0], -(lp.exp() * lp).sum(-1)

        def check(outputs):
            return worst(0.0, *(absolute(o[some], e) for o, e in zip(outputs, expected) if o is not None))
        size = (rows + vocab) * width * hidden.element_size() + rows * (8 + 3 * 4)
        providers = [self.ours([(ours, (out[0], out[2]))] * len(sets)),
                     Provider(f"the product alone, chunks of {chunk}", lambda i, _: tuple(multiply(c) for c in parts)[:0])]
        if self.peers:
            for name, load in (("verl", verl_linear), ("cut-cross-entropy, log-prob alone", cut_cross_entropy_linear),
                               ("Liger, log-prob alone", liger_linear)):
                providers += of_library(name, load, lambda kernel, i, _: kernel(hidden, weight, targets))
        tolerance = 0.3 if dtype == torch.bfloat16 else 1e-3  # logits of N(0, 3) and more, rounded to bf16
        return Case("linear log-probs + entropy", size, check, tolerance, providers, 2 * rows * vocab * width)

    def policy_loss(self, sets, olds, level=RATIO_MESSAGE):
        """Forward and backward. Two sweeps: the logits are read twice, the old ones too, the gradient is written once."""
        rows, vocab = sets[0].x.shape
        messages = rows // LENGTH
        size = (5 if olds else 3) * rows * vocab * sets[0].x.element_size() + rows * (8 + 4)
        d = torch.empty_like(sets[0].x)
        inputs, calls = [], []
        for k, s in enumerate(sets):
            new = by_chunks(lambda c: log_softmax64(s.x[c]).gather(-1, s.targets[c, None])[:, 0], rows)
            noise = torch.randn(rows, device=self.device, generator=s.generator) * 0.002
            lp_old = (new + noise).float()  # so near that nothing is clipped: a clipped row without KL would not be read again
            advantages = torch.randn(messages, device=self.device, generator=s.generator)
            cu = torch.arange(0, rows + 1, LENGTH, device=self.device, dtype=torch.int32)
            vectors = {name: self.empty(rows) for name in ("log_probs_new", "lse", "entropy")}
            vectors["work"] = self.empty(5 * rows)
            if olds:
                given = {"kl_term": 4, "beta": BETA, "kl": self.empty(rows), **view("old_logits", olds[k], dtype=False)}
            else:
                given = {"kl_term": -1, "beta": 0.0, "old_row_stride": vocab, "old_rows_per_batch": rows, "old_batch_stride": 0}
            stats = self.empty(20, dtype=torch.float64)
            call = self.native.bind(
                "teamtr_policy_loss", **view("logits", s.x), targets=s.targets, target_type=1, temperature=1.0,
                log_probs_old=lp_old, advantages=advantages, advantage_per_token=0, cu_seqlens=cu, cu_type=0, messages=messages,
                ratio_level=level, eps_low=EPS, eps_high=EPS, dual_clip=math.inf, kl_aggregation=1, entropy_coef=0.0,
                aggregation=2, fixed_length=0.0, total_tokens=0, total_messages=0, stats=stats, **vectors, **given,
                **view("d_logits", d, dtype=False))
            inputs.append((s.x, s.targets, lp_old, advantages, level) + ((olds[k],) if olds else ()))
            calls.append((call, (stats, d)))
            if k == 0:
                new0 = new
        s, some = sets[0], sets[0].some
        leaf = new0.clone().requires_grad_()
        loss = clipped(leaf, inputs[0][2].double(), inputs[0][3].double(), level)
        d_log_probs = torch.autograd.grad(loss, leaf)[0][some, None]
        loss = loss.detach()
        p = log_softmax64(s.x[some]).exp()
        expected = d_log_probs * (F.one_hot(s.targets[some], vocab).double() - p)
        if olds:
            def kl(c):
                lo = log_softmax64(olds[0][c])
                return (lo.exp() * (lo - log_softmax64(s.x[c]))).sum(-1)
            loss = loss + BETA * by_chunks(kl, rows).sum() / messages
            expected = expected + BETA / messages * (p - log_softmax64(olds[0][some]).exp())

        def errors(value, rows_found):  # the loss has the tighter tolerance: brought to the gradient's scale
            return worst(absolute(value.reshape(-1)[0], loss) * tolerance / 1e-4, of_gradient(rows_found, expected))

        def check(outputs):
            return errors(outputs[0], outputs[1][some])
        tolerance = gradient_tolerance(d.dtype)
        providers = [self.ours(calls)]
        if self.peers:
            def of(function):
                def call(i, _):
                    x = inputs[i][0].detach().requires_grad_()
                    value = function(x, *inputs[i][1:])
                    return value.detach(), torch.autograd.grad(value, x)[0]
                return call
            providers.append(Provider("PyTorch eager", of(peer_policy_loss)))
            if compiled(peer_policy_loss):
                providers.append(Provider("torch.compile", of(compiled(peer_policy_loss))))
        if self.peers and level == RATIO_MESSAGE_MEAN and not olds:
            providers += of_library("Fast-LLM GSPO loss", fast_llm_policy_loss, lambda kernel, i, _: kernel(*inputs[i][:4]))

            def padded(i):
                x = torch.empty(messages, LENGTH + 1, vocab, dtype=d.dtype, device=self.device)
                x[:, :-1] = inputs[i][0].view(messages, LENGTH, vocab)
                return x.requires_grad_()
            providers += of_library(
                "Liger GRPO loss, sequence-level, in place", liger_policy_loss, lambda kernel, i, x: kernel(x, *inputs[i][1:4]), padded,
                lambda found: errors(found[0], found[1][[r // LENGTH for r in some], [r % LENGTH for r in some]]))
        title = "policy loss with length-normalised message ratios (GSPO)" if level == RATIO_MESSAGE_MEAN else "policy loss"
        return Case(title + ", fwd + bwd" + (", exact KL" if olds else ""), size, check, tolerance, providers)

    def sample(self, sets, top_p):
        rows, vocab = sets[0].x.shape
        size = rows * vocab * sets[0].x.element_size() + rows * (8 + 4)
        calls = []
        for k, s in enumerate(sets):
            tokens, lp = self.empty(rows, dtype=torch.int64), self.empty(rows)
            call = self.native.bind("teamtr_sample", **view("logits", s.x), temperature=1.0, top_k=0, top_p=top_p, min_p=0.0,
                                     seed=17 + k, step=3, tokens=tokens, token_type=1, log_probs=lp)
            calls.append((call, (tokens, lp)))
        some = sets[0].some
        expected = log_softmax64(sets[0].x[some])

        def check(outputs):
            tokens = outputs[0][some]
            if ((tokens < 0) | (tokens >= vocab)).any():
                raise Wrong(f"a drawn token is outside the vocabulary: {tokens.tolist()}")
            drawn = expected.gather(-1, tokens[:, None])
            above = torch.where(expected > drawn, expected.exp(), torch.zeros_like(expected)).sum(-1)
            if (above > top_p + 1e-5).any():
                raise Wrong(f"a drawn token is outside the top-p set: {above.tolist()} of the mass lies above it")
            return absolute(outputs[1][some], drawn[:, 0]) if outputs[1] is not None else 0.0
        providers = [self.ours(calls)]
        if self.peers:
            peer = peer_sample if top_p == 1 else peer_sample_top_p
            providers.append(Provider("PyTorch eager", lambda i, _: peer(sets[i].x)))
            fast = compiled(peer) if top_p == 1 else None  # it would leave the sort, which is all of the time, to eager
            if fast:
                providers.append(Provider("torch.compile", lambda i, _: fast(sets[i].x)))
            if top_p == 1:
                others = [("flashinfer, token alone", flashinfer_sample)]
            else:
                others = [("flashinfer, of a softmax, token alone", flashinfer_sample_top_p)]
            for name, load in (*others, ("vLLM", lambda: vllm_sample(top_p))):
                providers += of_library(name, load, lambda kernel, i, _: kernel(sets[i].x))
        return Case("sample" + (f", top-p {top_p}" if top_p < 1 else ""), size, check, 1e-4, providers)

    def cases(self, sets):
        """One after the other, so that what a case holds is freed before the next."""
        yield lambda: self.log_probs(sets)
        yield lambda: self.log_probs_backward(sets)
        yield lambda: self.log_probs_with_gradient(sets)
        yield lambda: self.sample(sets, 1.0)
        yield lambda: self.sample(sets, TOP_P)
        near = [s.near() for s in sets]
        yield lambda: self.kl(sets, near, "a step apart")
        yield lambda: self.kl_backward(sets, near)
        yield lambda: self.kl_with_gradient(sets, near)
        if len(sets[0].targets) % LENGTH == 0:
            yield lambda: self.policy_loss(sets, None)
            yield lambda: self.policy_loss(sets, None, RATIO_MESSAGE_MEAN)
            yield lambda: self.policy_loss(sets, near)
        del near
        far = [s.far() for s in sets]
        yield lambda: self.kl(sets, far, "arbitrary policies")
        del far
        if len(sets[0].targets) % LENGTH == 0:
            yield lambda: self.linear(sets)


class Decoding(Bench):
    """Shapes are [rows, columns of the cache that each attends to]."""

    def attend(self, sets):
        rows, columns = sets[0].x.shape
        dtype, room = sets[0].x.dtype, columns + 64
        angles = torch.arange(room, device=self.device)[:, None] * 1e6 ** (-torch.arange(HEAD_DIM // 2, device=self.device) / (HEAD_DIM / 2))
        cosine, sine = torch.cat((angles, angles), 1).cos(), torch.cat((-angles, angles), 1).sin()
        positions = torch.full((rows,), columns - 1, device=self.device)
        starts = torch.zeros_like(positions)
        inputs, calls = [], []
        for s in sets[:2]:  # more than any L2 cache holds, and all there may be memory for
            def normal(*shape):
                return torch.randn(*shape, dtype=dtype, device=self.device, generator=s.generator)
            qkv, q_norm, k_norm = normal(rows, (HEADS + 2 * KV_HEADS) * HEAD_DIM), normal(HEAD_DIM), normal(HEAD_DIM)
            keys, values = normal(rows, KV_HEADS, room, HEAD_DIM), normal(rows, KV_HEADS, room, HEAD_DIM)
            y = self.empty(rows, HEADS * HEAD_DIM, dtype=dtype)
            inputs.append((qkv, q_norm, k_norm, cosine, sine, positions, keys, values, columns))
            calls.append((self.native.bind(
                "teamtr_attend", dtype=DTYPE[dtype], qkv=qkv, rows=rows, qkv_stride=qkv.shape[1], heads=HEADS, kv_heads=KV_HEADS,
                head_dim=HEAD_DIM, q_norm=q_norm, k_norm=k_norm, eps=1e-6, cosine=cosine, sine=sine, table_rows=room, positions=positions,
                starts=starts, window=0, keys=keys, values=values, room=room, y=y, y_stride=y.shape[1]), y))
        inputs, calls = inputs * len(sets), calls * len(sets)
        some = min(rows, 4)
        qkv, q_norm, k_norm, _, _, _, keys, values, _ = inputs[0]
        expected = peer_attend(qkv[:some].double(), q_norm.double(), k_norm.double(), cosine.double(), sine.double(), positions[:some],
                               keys[:some].double(), values[:some].double(), columns)
        size = (2 * rows * KV_HEADS * (columns - 1) * HEAD_DIM + rows * (2 * HEADS + 4 * KV_HEADS) * HEAD_DIM) * keys.element_size()
        tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5  # a key of the cache is rounded, too

        def check(y):
            return absolute(y[:some], expected)
        providers = [self.ours(calls)]
        if self.peers:
            providers.append(Provider("PyTorch eager", lambda i, _: peer_attend(*inputs[i])))
            if compiled(peer_attend):
                fast = compiled(peer_attend)
                providers.append(Provider("torch.compile", lambda i, _: fast(*inputs[i])))
        return Case("attention of a decoding step, norms, rotation and cache, [rows, columns]", size, check, tolerance, providers)

    def cases(self, sets):
        yield lambda: self.attend(sets)


# ---- measuring --------------------------------------------------------------------------------------------------


def limited(seconds, function):
    """The function's result, or TooLong; the alarm reaches Python code only, which a compiler is most of the time."""
    def ring(*_):
        raise TooLong(f"not ready after {seconds} s")
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        return function()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def failure(e):
    words = (str(e).strip() or "no words").splitlines()[0]
    return "out of memory" if "out of memory" in str(e) else f"{type(e).__name__}: {words}"[:160]


class Timer:
    def __init__(self, device):
        self.device = device
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            self.l2 = getattr(properties, "L2_cache_size", 0) or 64 << 20
            self.other = torch.zeros(max(2 * self.l2, 128 << 20) // 4, device=device)
            size = min(2_400_000_000, torch.cuda.mem_get_info(device)[0] // 16) // 4
            self.source, self.target = torch.randn(size, device=device), torch.zeros(size, device=device)
            self.copied = 2 * 4 * size  # read and written

    def copy(self):
        return Provider("copy", lambda i, _: self.target.copy_(self.source))

    def launch(self):
        return Provider(LAUNCH, lambda i, _: torch.cuda._sleep(0))

    def once(self, provider, i):
        state = provider.prepare(i)
        self.other.sum()
        torch.cuda._sleep(500_000)  # cycles, about 0.3 ms
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        provider.call(i, state)
        end.record()
        return start, end

    def time(self, providers, sets):
        """In turns; the slow ones take fewer."""
        def milliseconds(p, i):
            try:
                start, end = self.once(p, i)
                torch.cuda.synchronize()
                return start.elapsed_time(end)
            except Exception as e:  # memory, most likely
                if p.name == "TeamTR":
                    raise
                p.failure, p.samples = failure(e), []
        for p in providers:
            ms = milliseconds(p, 0)
            p.rounds = max(5, min(ROUNDS, int(400 / max(ms, 1e-3)))) if ms else 0
        for r in range(ROUNDS):
            for p in providers:
                if r < p.rounds and not p.failure:
                    ms = milliseconds(p, r % sets)
                    if ms:
                        p.samples.append(ms)


def first_call(provider, case, seconds=PROVIDER_SECONDS):
    """Compiles, runs on the first set, finds the error. A peer's failure is kept with it, one of TeamTR is raised."""
    began = time.monotonic()
    if provider.name == "TeamTR":
        provider.error = case.check(provider.call(0, provider.prepare(0)))
    else:
        try:
            provider.error = limited(seconds, lambda: (provider.check or case.check)(provider.call(0, provider.prepare(0))))
        except Exception as e:  # whatever a compiler or another library throws
            provider.failure = failure(e)
    provider.seconds = time.monotonic() - began


def quantile(samples, q):
    ordered = sorted(samples)
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def results(case, shape, copied):
    """One record for each provider of a case that has run."""
    medians = {p.name: quantile(p.samples, 0.5) for p in case.providers if p.samples}
    records = []
    for p in case.providers:
        error = p.error if p.error is None or math.isfinite(p.error) else str(p.error)  # JSON has no NaN
        record = {"case": case.name, "rows": shape[0], "vocab": shape[1], "dtype": NAME[shape[2]], "provider": p.name,
                  "bytes": copied if p.name == "copy" else 0 if p.name == LAUNCH else case.bytes, "max_error": error, "tolerance": case.tolerance,
                  "failure": p.failure, "first_call_s": p.seconds}
        if p.samples:
            ms = medians[p.name]
            rate = record["bytes"] / ms / 1e6
            if case.operations:
                record["tflop_per_s"] = case.operations / ms / 1e9
            record.update(ms_p20=quantile(p.samples, 0.2), ms_p50=ms, ms_p80=quantile(p.samples, 0.8), samples=len(p.samples),
                          gb_per_s=rate, of_copy=rate / (copied / medians["copy"] / 1e6), x_time=ms / medians["TeamTR"])
        records.append(record)
    return records


# ---- the table --------------------------------------------------------------------------------------------------

HEADER = ("| case | shape | provider | ms (p20 to p80) | GB/s | of copy | x time | max error |\n"
          "|---|---|---|---|---|---|---|---|")


def row(r):
    shape = f"{r['dtype']} [{r['rows']}, {r['vocab']}]"
    if r["failure"]:
        return f"| {r['case']} | {shape} | {r['provider']} | {r['failure'].replace('|', '/')} | | | | |"
    error = ""
    if r["max_error"] is not None:
        error = f"{float(r['max_error']):.1e}" + ("" if float(r["max_error"]) <= r["tolerance"] else " (!)")
    if "ms_p50" not in r:
        return f"| {r['case']} | {shape} | {r['provider']} | | | | | {error} |"
    time_ratio = "" if r["provider"] == "copy" else f"{r['x_time']:.2f}"
    return (f"| {r['case']} | {shape} | {r['provider']} | {r['ms_p50']:.3f} ({r['ms_p20']:.3f} to {r['ms_p80']:.3f}) | "
            f"{r['gb_per_s']:.0f} | {100 * r['of_copy']:.1f} % | {time_ratio} | {error} |")


def banner(machine):
    """What is known of the machine, a line each."""
    lines = []
    for key, value in machine.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        if value is not None:
            lines.append(f"- {key.replace('_', ' ')}: {value}")
    return "\n".join(lines)


# ---- the machine ------------------------------------------------------------------------------------------------


def query(*fields):
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    command = ["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader", "--id=" + gpu]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip().splitlines()[0]
        return dict(zip(fields, (a.strip() for a in answer.split(", "))))
    except (OSError, subprocess.SubprocessError, IndexError) as e:
        return {"nvidia-smi": f"no answer: {e}"}


def commit():
    if os.environ.get("TEAMTR_COMMIT"):
        return os.environ["TEAMTR_COMMIT"]
    try:
        def git(*words):
            return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=7", "HEAD") + ("-changed" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def describe(library, device):
    machine = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": commit(),
               "python": sys.version.split()[0], "torch": torch.__version__, "triton": triton.__version__ if triton else None}
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
        machine["cuda_runtime_of_torch"] = torch.version.cuda
        machine["device_as_libteamtr_sees_it"] = library.native.teamtr_cuda_device(0).decode()
        machine["idle"] = query("name", "driver_version", "compute_cap", "memory.total", "clocks.sm", "clocks.mem",
                                "clocks.max.sm", "clocks.max.mem", "power.limit", "ecc.mode.current", "temperature.gpu")
        machine["driver"] = machine["idle"].get("driver_version")
    return machine


def busy_clocks(timer):
    """What nvidia-smi says while copies run."""
    for _ in range(600):  # about a second's worth: queued at once, running while it is asked
        timer.target.copy_(timer.source)
    answer = query("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")
    torch.cuda.synchronize()
    return answer


# ---- all of it --------------------------------------------------------------------------------------------------


def fits(shape, device):
    """The shape, with rows halved until eight logits tensors and some f32 ones have room."""
    rows, vocab, dtype = shape
    free = torch.cuda.mem_get_info(device)[0]
    while rows > 128 and rows * vocab * (8 * (torch.finfo(dtype).bits // 8) + 6 * 4) > free:
        rows //= 2
    return rows, vocab, dtype


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--natives", type=pathlib.Path, default=ROOT / "target/native-install/gpu/libteamtr.so")
    options.add_argument("--header", type=pathlib.Path, default=ROOT / "native/include/teamtr.h")
    options.add_argument("--out", type=pathlib.Path, help="folder for bench.json and table.md")
    options.add_argument("--seconds", type=int, default=190, help="after that, peers are left out")
    options.add_argument("--no-peers", action="store_true")
    options.add_argument("--dry-run", action="store_true")
    given = options.parse_args()
    began = time.monotonic()
    if not given.natives.is_file():
        sys.exit(f"no library at {given.natives}; build it with native/build.sh PREFIX ON, or name it with --natives")

    on_gpu = torch.cuda.is_available()
    if not on_gpu and not given.dry_run:
        sys.exit("PyTorch sees no CUDA device; --dry-run makes the checks without one")
    device = torch.device("cuda:0" if on_gpu else "cpu")
    library = Library(given.natives, given.header, 0, torch.cuda.current_stream().cuda_stream if on_gpu else 0)
    if library.native.teamtr_cuda_count() < 1:
        if on_gpu:
            sys.exit(f"{given.natives} runs on no CUDA device: {library.native.teamtr_last_error().decode()}")
        library.place["device"] = -1
    torch.manual_seed(1)

    machine = describe(library, device)
    print(banner(machine) + "\n\n" + HEADER, flush=True)
    timer = Timer(device) if not given.dry_run else None
    records, failed = {}, []
    shapes = [(128, 1000, torch.bfloat16), (128, 777, torch.float32)] if given.dry_run else SHAPES
    few = [(1, 70000, torch.bfloat16)] if given.dry_run else FEW  # long enough for a cluster
    decoding = [(3, 300, torch.bfloat16), (2, 40, torch.float32)] if given.dry_run else DECODING

    def save():
        found = [r for case in records.values() for r in case]
        machine["seconds"] = round(time.monotonic() - began, 1)
        if given.out and not given.dry_run:
            given.out.mkdir(parents=True, exist_ok=True)
            everything = {"machine": machine, "failed": "; ".join(failed) or None, "results": found}
            (given.out / "bench.json").write_text(json.dumps(everything, indent=1) + "\n")
            text = banner(machine) + "\n\n" + HEADER + "\n" + "\n".join(row(r) for r in found) + "\n"
            (given.out / "table.md").write_text(text + "".join(f"\nFAILED: {words}\n" for words in failed))

    def fail(shape, words):
        failed.append(f"{NAME[shape[2]]} [{shape[0]}, {shape[1]}]: {words}")
        print(f"FAILED: {failed[-1]}", flush=True)
        save()

    def left():
        return given.seconds - (time.monotonic() - began)

    def measure_case(make, shape, bench, count):
        case = make()
        for p in case.providers:
            if p.name == "TeamTR" or left() >= 2:
                if not p.failure:
                    first_call(p, case, max(1, min(PROVIDER_SECONDS, int(left()))))
                if p.name == "TeamTR" and not p.error <= case.tolerance:  # it is timed all the same: time on a GPU is scarce
                    fail(shape, f"{case.name}: error {p.error:.2g}, at most {case.tolerance:.2g} is allowed")
            else:
                p.failure = p.failure or "left out: no time left"
        if timer:
            case.providers.append(timer.copy())
            if shape in few:
                case.providers.append(timer.launch())
            timer.time([p for p in case.providers if not p.failure], count)
        found = results(case, shape, timer.copied if timer else 0)
        print("\n".join(row(r) for r in found), flush=True)
        records[case.name, shape] = found  # the second time beside its peers
        save()

    def measure(shape, bench):
        if timer:
            shape = fits(shape, device)
        size = shape[0] * shape[1] * torch.finfo(shape[2]).bits // 8
        count = max(2, min(6, math.ceil(3 * timer.l2 / size))) if timer else 2
        sets = [Inputs(shape, device, seed) for seed in range(count)]
        for make in bench.cases(sets):
            if bench.peers and left() < 2:
                break
            try:
                measure_case(make, shape, bench, count)
            except (Wrong, RuntimeError) as e:  # RuntimeError: a kernel that refused or failed, or no memory for the inputs
                fail(shape, f"{type(e).__name__}: {e}")
                if on_gpu:
                    torch.cuda.synchronize()  # raises again after an error that spoils all later calls, and that ends the run
            del make
            if on_gpu:
                torch.cuda.empty_cache()
        if timer and "busy" not in machine:
            machine["busy"] = busy_clocks(timer)
        if hasattr(torch, "compiler"):
            torch.compiler.reset()  # else the next shape counts as a recompilation, of which there may be few

    if not given.no_peers:
        machine["not_installed"] = ", ".join(not_installed()) or None
    try:
        for shape in shapes + few:
            measure(shape, Bench(library, device, False))
        for shape in decoding:
            measure(shape, Decoding(library, device, False))
        if not given.no_peers:
            print("\nBeside peers:\n\n" + HEADER, flush=True)
            for shape in shapes:
                if left() > 2:
                    measure(shape, Bench(library, device, True))
            for shape in decoding:
                if left() > 2:
                    measure(shape, Decoding(library, device, True))
    except RuntimeError as e:
        failed.append(f"the rest was not measured: {e}")
    save()
    if machine.get("not_installed"):
        print(f"\nNot installed: {machine['not_installed']}")
    print(f"\n{machine['seconds']} s")
    if failed:
        sys.exit("\n".join(f"FAILED: {words}" for words in failed))


if __name__ == "__main__":
    main()
