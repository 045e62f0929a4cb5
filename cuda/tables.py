#!/usr/bin/env python3
"""The tables of docs/kernels.md that are made from measurements on GPUs.

    cuda/tables.py RESULTS PAGE...

RESULTS is a folder of cuda/results: its JSON files are what cuda/bench.py wrote. In each page, what stands between
<!-- gpu --> and <!-- /gpu --> (everything), and between <!-- gpu-summary --> and <!-- /gpu-summary --> (the first shape, ours
beside the fastest other) is replaced; a page without these lines is left alone. Nothing is shown that is not in the files.
"""
import json
import os
import pathlib
import re
import sys

PEERS = ["| case | shape | provider | ms (p20 to p80) | of copy | × our time | largest error |", "|---|---|---|---|---|---|---|"]
OURS, COPY = "TeamTR", "copy"


def shape(r):
    return f"{r['dtype']} [{r['rows']}, {r['vocab']}]"


def machine_line(machine, folder, page):
    device = machine["device_as_libteamtr_sees_it"]
    link = pathlib.PurePosixPath(os.path.relpath(folder, page.parent))
    commit = machine["commit"]
    return (f"{device.split(', CUDA')[0]}, driver {machine['driver']}, CUDA {machine['cuda_runtime_of_torch']}, "
            f"PyTorch {machine['torch']}, Triton {machine['triton']}, kernels of commit {commit}, {machine['date'][:10]}; "
            f"[data]({link}).")


def kernels(results):
    """A line for each case, a pair of columns for each shape: ours alone."""
    ours = [r for r in results if r["provider"] == OURS and "ms_p50" in r]
    shapes, cases = (list(dict.fromkeys(of)) for of in ((shape(r) for r in ours), (r["case"] for r in ours)))
    found = {(r["case"], shape(r)): r for r in ours}
    lines = ["| kernel | " + " | ".join(f"{s}, ms | of copy" for s in shapes) + " |", "|---" * (1 + 2 * len(shapes)) + "|"]
    for case in cases:
        cells = [case]
        for s in shapes:
            r = found.get((case, s))
            cells += [f"{r['ms_p50']:.3f}", f"{100 * r['of_copy']:.0f} %"] if r else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def peers(results):
    """A line for each provider of a file's cases that had others beside ours."""
    with_others = {(r["case"], shape(r)) for r in results if r["provider"] not in (OURS, COPY)}
    lines = []
    for r in results:
        if (r["case"], shape(r)) not in with_others or r["provider"] == COPY:
            continue
        if "ms_p50" not in r:
            lines.append(f"| {r['case']} | {shape(r)} | {r['provider']} | {r['failure'] or 'not timed'} | | | |")
            continue
        error = "" if r["max_error"] is None else f"{float(r['max_error']):.1e}"
        if error and not float(r["max_error"]) <= r["tolerance"]:
            error += " (!)"
        copied = f"{r['tflop_per_s']:.0f} TFLOP/s" if "tflop_per_s" in r else f"{100 * r['of_copy']:.0f} %"
        lines.append(f"| {r['case']} | {shape(r)} | {r['provider']} | {r['ms_p50']:.3f} ({r['ms_p20']:.3f} to {r['ms_p80']:.3f}) "
                     f"| {copied} | {r['x_time']:.2f} | {error} |")
    return lines


def summary(files):
    """Ours of the first shape beside the fastest provider that computes the case, in whatever accuracy it does."""
    results = [r for f in files for r in f["results"] if "ms_p50" in r]
    first = next(shape(r) for r in results if r["provider"] == OURS)
    lines = [f"| kernel, {first} | TeamTR, ms | of copy | largest error | fastest other | ms | largest error |",
             "|---|---|---|---|---|---|---|"]
    for case in dict.fromkeys(r["case"] for r in results if shape(r) == first):
        of = [r for r in results if r["case"] == case and shape(r) == first and r["provider"] != COPY]
        ours = next((r for r in of if r["provider"] == OURS), None)
        others = sorted((r for r in of if r["provider"] != OURS), key=lambda r: r["ms_p50"])
        if ours is None or not others or "tflop_per_s" in ours:
            continue
        ours = next((r for r in of if r["provider"] == OURS and r["max_error"] is not None), ours)
        error = lambda r: "" if r["max_error"] is None else f"{float(r['max_error']):.1e}"
        lines.append(f"| {case} | {ours['ms_p50']:.2f} | {100 * ours['of_copy']:.0f} % | {error(ours)} | {others[0]['provider']} | "
                     f"{others[0]['ms_p50']:.2f} | {error(others[0])} |")
    return lines


def sources(files):
    found = {name: source for f in files for name, source in f.get("sources", {}).items()}
    if not found:
        return []
    return ["Others' code: " + "; ".join(f"{name} {s[0]} {s[1][:10]}" for name, s in sorted(found.items(), key=lambda f: f[0].lower()))
            + "."]


def sections(folder, page):
    """What stands between the lines of each name."""
    files = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    if not files:
        sys.exit(f"tables.py: no JSON file in {folder}")
    first = next((f for f in files if f["machine"]["commit"] != "unknown"), files[0])
    for f in files:  # one table is of one machine
        for key in ("gpu", "driver", "torch", "triton"):
            if f["machine"].get(key) != first["machine"].get(key):
                sys.exit(f"tables.py: {folder} mixes {key} {f['machine'].get(key)} with {first['machine'].get(key)}")
    machine = machine_line(first["machine"], folder, page)
    lines = [machine, "", *kernels(first["results"])]
    beside = [line for f in files for line in peers(f["results"])]
    if beside:
        lines += ["", *PEERS, *beside, "", *sources(files)]
    return {"gpu": "\n".join(lines), "gpu-summary": "\n".join([machine, "", *summary(files)])}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:]:
        page = pathlib.Path(name)
        text = page.read_text()
        for section, made in sections(folder.resolve(), page.resolve()).items():
            begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
            text = re.sub(f"{begin}\n.*?{end}", lambda _: f"{begin}\n{made}\n{end}", text, flags=re.S)
        page.write_text(text)


if __name__ == "__main__":
    main()
