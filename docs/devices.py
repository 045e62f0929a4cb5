#!/usr/bin/env python3
"""The cost table of devices.md, computed and not measured: docs/devices.py prints it, docs/devices.py --write puts it into the page.

Bytes are those that the code exchanges, counted; speeds are the makers' published figures, one direction of a link. Times of exchange are
what a ring algorithm needs at the full speed of the slowest link; times of computing assume the share UTILISATION of the published peak.
"""
import pathlib
import sys

# Qwen3-8B, as its config.json has it
LAYERS, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD, VOCAB = 36, 4096, 12288, 32, 8, 128, 151_936
PARAMETERS = 2 * VOCAB * HIDDEN + LAYERS * (HIDDEN * HEAD * (2 * HEADS + 2 * KV_HEADS) + 3 * HIDDEN * INTERMEDIATE
                                              + 2 * HIDDEN + 2 * HEAD) + HIDDEN  # the last line: norms
# one update: 128 episodes, a message of 512 tokens after a prompt of 1,024 in each, 4 inner steps
EPISODES, PROMPT, MESSAGE, STEPS = 128, 1024, 512, 4
UTILISATION = 0.4  # an assumption

# name, GPUs of a machine, dense bf16 FLOP/s, bytes/s of its memory, bytes/s of a link within a machine, of one between machines
GPUS = [
    ("RTX 4090, PCIe 4.0 x16", 8, 165.2e12, 1.008e12, 32e9, 12.5e9, [2, 4, 8]),
    ("A100 80 GB, NVLink 3; 200 Gb/s for each GPU between machines", 8, 312e12, 2.039e12, 300e9, 25e9, [2, 4, 8, 16, 32, 64]),
    ("H100, NVLink 4; 400 Gb/s for each GPU between machines", 8, 989e12, 3.35e12, 450e9, 50e9, [2, 4, 8, 16, 32, 64]),
]


def row(n, machine, flops, memory, within, between):
    link = within if n <= machine else between
    gradient = 2 * (n - 1) / n * 4 * PARAMETERS
    scores = 2 * (n - 1) / n * 12 * EPISODES * MESSAGE
    episodes = (n - 1) / n * EPISODES * (4 * (PROMPT + MESSAGE) + 4 * MESSAGE + 2 * 4 * MESSAGE)  # tokens, log-probs, text
    exchange = (STEPS * (gradient + scores) + episodes) / link if n > 1 else 0
    computing = STEPS * 6 * PARAMETERS * EPISODES * (PROMPT + MESSAGE) / n / (UTILISATION * flops)
    reading = MESSAGE * 2 * PARAMETERS / memory  # each step of generation reads all weights in bf16, however few the rows
    # shard: weights. In a step bf16 weights forward, back and for the monitor, and f32 sums of the gradient; for an update all weights once
    # more, to speak. Each layer is computed a second time on the way back: 8 operations instead of 6.
    weights = (n - 1) / n * (2 + 2 + 2 + 4) * PARAMETERS
    sharded = (STEPS * (weights + scores) + episodes + (n - 1) / n * 2 * PARAMETERS) / link if n > 1 else 0
    return gradient, scores + episodes / STEPS, exchange, computing, reading, weights, sharded, computing * 8 / 6


def table():
    lines = [f"Parameters: {PARAMETERS:,}. An update of {EPISODES} episodes of {PROMPT:,} + {MESSAGE} tokens in {STEPS} inner steps."]
    for name, machine, flops, memory, within, between, sizes in GPUS:
        lines += ["", f"**{name}**", "",
                  "| GPUs | gradient, GB sent by each in a step | the rest, MB in a step | exchange, s | computing, s | reading weights, s"
                  " | exchange's share | as fast as one | `weights`: GB in a step | exchange, s | computing, s | as fast as one |",
                  "|---|---|---|---|---|---|---|---|---|---|---|---|"]
        one = sum(row(1, machine, flops, memory, within, between)[3:5])
        for n in sizes:
            gradient, rest, exchange, computing, reading, weights, exchange_w, computing_w = row(n, machine, flops, memory, within, between)
            total = exchange + computing + reading
            lines.append(f"| {n} | {gradient / 1e9:.1f} | {rest / 1e6:.1f} | {exchange:.1f} | {computing:.1f} | {reading:.1f}"
                         f" | {100 * exchange / total:.0f} % | {one / total:.1f} x"
                         f" | {weights / 1e9:.1f} | {exchange_w:.1f} | {computing_w:.1f} | {one / (exchange_w + computing_w + reading):.1f} x |")
    return "\n".join(lines)


if sys.argv[1:] == ["--write"]:
    page = pathlib.Path(__file__).with_name("devices.md")
    before, rest = page.read_text().split("<!-- devices.py -->\n", 1)
    after = rest.split("<!-- end -->", 1)[1]
    page.write_text(f"{before}<!-- devices.py -->\n{table()}\n<!-- end -->{after}")
else:
    print(table())
