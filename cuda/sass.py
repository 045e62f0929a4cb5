#!/usr/bin/env python3
"""Counts the machine instructions (SASS) of the kernels' main loops, and holds them to cuda/budgets.txt. Needs no GPU.

  cuda/sass.py [--check] [--write FILE.md] [--arch 90] [FILE...]
  cuda/sass.py --build COMPILER LIBRARY       what the build calls, with nvcc's version: --check, but exit code 0 where there is no
                                              disassembler or the budgets are another compiler's, which is said; with
                                              TEAMTR_BUDGETS=report in the environment counts above the budgets are said, too, and no error

FILE is a library or cubin that holds code of that architecture, or a .cu file of this folder, which is compiled first;
without one, all .cu files that the budgets name. Prints a Markdown table. --check: exit code 1 if a count is above its
budget or a kernel is missing. --write also puts the table between the lines <!-- sass --> and <!-- /sass --> of FILE.md; a
column "before", if the page has one, stays. --loops KERNEL prints the loops of kernels whose name contains KERNEL.

Wanted: cuobjdump and nvdisasm, on the PATH, beside nvcc, or in Triton's Python package; exit code 3 without.

What is counted: of each kernel the loop that has 16-byte loads from global memory and MUFU.EX2 and is entered the way an
aligned row takes, and without a budget the one of rows that are not aligned to 16 bytes, two of whose loads make a vector
(LDG.E.EL). Where it branches, the cheapest way around it with the budget's number of MUFU.EX2 for each element is
taken: for a KL, one is the way of vectors whose elements are near, two that of the others, and "2, mixed" that of vectors that hold
both kinds, whose exponentials stand beside additions that some lanes do (@P0 FADD). The count is divided by the
elements (or pairs) that the loop's 16-byte loads hold. Instructions of all kinds count, but NOP."""
import argparse
import collections
import fractions
import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
Loop = collections.namedtuple("Loop", "first last loads shifted ways mixed")  # ways: {MUFU.EX2: least instructions}; mixed: the same


def say(words, status=2):
    print(f"sass.py: {words}", file=sys.stderr)
    sys.exit(status)


def tool(name):
    """A disassembler, wherever it may be."""
    found = shutil.which(name)
    if not found:
        nvcc = shutil.which(os.environ.get("CUDACXX", "nvcc"))
        folders = [os.path.dirname(os.path.realpath(nvcc))] if nvcc else []
        folders += [os.path.join(p, "triton/backends/nvidia/bin") for p in sys.path + [sysconfig.get_paths()["purelib"]]]
        found = next((f for f in (os.path.join(p, name) for p in folders) if os.access(f, os.X_OK)), None)
    return found


def compiled(source, architecture, folder):
    """A cubin of a .cu file, with the options of the build."""
    with open(os.path.join(ROOT, "native/CMakeLists.txt")) as f:
        options = re.search(r"target_compile_options\(teamtr_cuda PRIVATE ([^)]*)\)", f.read())
    if not options:
        say("native/CMakeLists.txt names no options of teamtr_cuda any more")
    nvcc = shutil.which(os.environ.get("CUDACXX", "nvcc")) or "/usr/local/cuda/bin/nvcc"
    if not os.access(nvcc, os.X_OK):
        say("no nvcc found; put it on the PATH, or set CUDACXX", 3)
    out = os.path.join(folder, os.path.basename(source) + ".cubin")
    folders = [f"-I{os.path.join(ROOT, f)}" for f in ("native/include", "native/src", "cuda")]
    subprocess.run([nvcc, *options[1].split(), "-std=c++17", "-O3", "-DNDEBUG", *folders, "-cubin", f"-arch=sm_{architecture}",
                    source, "-o", out], check=True)
    return out


def functions(file, architecture):
    """Kernel: [(address, instruction)]."""
    cuobjdump = tool("cuobjdump")
    environment = dict(os.environ, PATH=os.path.dirname(cuobjdump) + os.pathsep + os.environ.get("PATH", ""))
    text = subprocess.run([cuobjdump, "--dump-sass", file], env=environment, capture_output=True, text=True)
    if text.returncode:
        say(f"{file}: {text.stderr.strip()}")
    found, code, here = {}, None, True
    for line in text.stdout.splitlines():
        arch = re.match(r"\s*(?:arch = |code for )sm_(\w+)", line)
        if arch:
            here = arch[1].rstrip("af") == architecture
        function = re.match(r"\s*Function : (\S+)", line)
        if function:
            code = found.setdefault(function[1], []) if here else None
        instruction = re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);", line)
        if instruction and code is not None:
            code.append((int(instruction[1], 16), instruction[2].strip()))
    return found


def plain(symbol):
    name = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"^void |\(anonymous namespace\)::|teamtr::cuda::|teamtr::", "", name)
    name = re.sub(r"\((?:bool|int|PairGradientKind)\)", "", name)
    depth = 0
    for i, c in enumerate(name):  # without the parameters, which start at the first parenthesis outside <>
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


def opcode(instruction):
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0]


def target(instruction):
    found = re.search(r"\bBRA\S*\b.*?(0x[0-9a-f]+)", instruction)
    return int(found[1], 16) if found else None


def loops(code):
    """Innermost loops with 16-byte loads and exponentials."""
    ends = [(target(i), a) for a, i in code if opcode(i).startswith("BRA") and target(i) is not None and target(i) < a]
    found = []
    for first, last in ends:
        inside = [opcode(i) for a, i in code if first <= a <= last]
        if any(re.match(r"LDG\S*\.128", o) for o in inside) and any(o.startswith("MUFU.EX2") for o in inside):
            found.append((first, last))
    inner = [l for l in found if not any(o != l and o[0] >= l[0] and o[1] <= l[1] for o in found)]
    return [ways(code, *l) for l in inner]


def ways(code, first, last):
    """The least instructions around a loop, for each number of MUFU.EX2 on the way."""
    mixed = walked(code, first, last, lambda block: any(re.match(r"@!?P\d (FADD|FFMA)", i) for i in block))
    return walked(code, first, last, lambda block: True)._replace(mixed=mixed.ways)


def walked(code, first, last, good):
    """The same, through blocks without MUFU.EX2 and those that are good."""
    body = [(a, i) for a, i in code if first <= a <= last]
    leaders = {first} | {target(i) for _, i in body if opcode(i).startswith("BRA")}
    blocks = []  # (address, instructions)
    for address, instruction in body:
        if not blocks or address in leaders or opcode(blocks[-1][1][-1]).startswith("BRA"):
            blocks.append((address, []))
        blocks[-1][1].append(instruction)
    number = {address: n for n, (address, _) in enumerate(blocks)}
    least, done = {(0, 0, 0): 0}, {}  # (block, MUFU, loads): instructions
    for n, (_, instructions) in enumerate(blocks):
        names = [opcode(i) for i in instructions]
        if any(o.startswith("MUFU.EX2") for o in names) and not good(instructions):
            continue
        count = sum(not o.startswith("NOP") for o in names)
        mufu = sum(o.startswith("MUFU.EX2") for o in names)
        loads = sum(bool(re.match(r"LDG\S*\.128", o)) for o in names)
        end = instructions[-1]
        to = []
        if names[-1].startswith("BRA") and not names[-1].startswith("BRA.DIV"):
            to.append(target(end))
        if not to or re.match(r"^@", end) or re.search(r"\bBRA\S*\s+!?U?P\d", end):
            to.append(blocks[n + 1][0] if n + 1 < len(blocks) else None)
        for (block, m, l), total in [s for s in least.items() if s[0][0] == n]:
            for t in to:
                key, sum_ = (m + mufu, l + loads), total + count
                if t == first:
                    done[key] = min(done.get(key, sum_), sum_)
                elif number.get(t, -1) > n:
                    state = (number[t], *key)
                    least[state] = min(least.get(state, sum_), sum_)
    most = max((l for _, l in done), default=0)
    shifted = any(re.match(r"LDG\S*\.EL\S*\.128", opcode(i)) for _, i in body)
    return Loop(first, last, most // 2 if shifted else most, shifted, {m: c for (m, l), c in done.items() if l == most}, {})


def budgets():
    with open(os.path.join(HERE, "budgets.txt")) as f:
        for line in f:
            line = line.split("#")[0].strip()
            if line and not line.startswith("nvcc"):
                file, kernel, rows, exps, budget = [part.strip() for part in line.split("|")]
                exps, _, mixed = exps.partition(", ")
                yield file, kernel, int(rows), fractions.Fraction(exps), mixed, float(budget)


def budgets_compiler():
    """The version of nvcc that the budgets are for."""
    with open(os.path.join(HERE, "budgets.txt")) as f:
        return re.search(r"^nvcc ([\d.]+)$", f.read(), re.M)[1]


def count_of(code, kernel, rows, exps, mixed, shifted=False):
    """Instructions for an element, or None. Shifted: of rows that are not aligned."""
    elements = 4 if "F32" in kernel else 8
    counts = []
    for loop in code:
        each = loop.loads // rows * elements  # elements, or pairs, of one way around
        wanted = each * exps  # half a number of them: one more every other time
        of = loop.mixed if mixed else loop.ways
        ways = [of.get(math.floor(wanted)), of.get(math.ceil(wanted))]
        if loop.shifted == shifted and each and wanted * 2 % 1 == 0 and None not in ways:
            counts.append((loop.loads, sum(ways) / 2 / each))
    most = max((l for l, _ in counts), default=0)
    return min((c for l, c in counts if shifted or l == most), default=None)


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=True)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write")
    parser.add_argument("--arch", default="90")
    parser.add_argument("--loops")
    parser.add_argument("--build")
    given = parser.parse_args()
    if not tool("cuobjdump") or not tool("nvdisasm"):
        say("no cuobjdump and nvdisasm found (they come with the CUDA toolkit, or with `pip install triton`): instructions are not "
            "counted", 0 if given.build else 3)
    if given.build and not (given.build + ".").startswith(budgets_compiler() + "."):
        say(f"instructions are not counted: the budgets are for nvcc {budgets_compiler()}, this is {given.build}", 0)
    wanted = list(budgets())
    with tempfile.TemporaryDirectory() as folder:
        files = given.files or sorted({os.path.join(HERE, b[0]) for b in wanted})
        code = {}
        for file in files:
            code.update(functions(compiled(file, given.arch, folder) if file.endswith(".cu") else file, given.arch))
    kernels = {plain(symbol): loops(c) for symbol, c in code.items()}
    if given.loops is not None:
        for kernel, found in kernels.items():
            for loop in found if given.loops in kernel else []:
                print(f"{kernel}: {loop.first:x} to {loop.last:x}, {loop.loads} {'shifted ' if loop.shifted else ''}vectors, "
                      + ", ".join(f"{m} MUFU.EX2: {c}" for m, c in sorted(loop.ways.items())))
        return 0
    sources = {os.path.basename(f) for f in files if f.endswith(".cu")}
    before = {}
    if given.write:
        with open(given.write) as f:
            page = f.read()
        table = re.search(r"<!-- sass -->\n(.*?)<!-- /sass -->", page, re.S)
        if not table:
            say(f"{given.write} has no line <!-- sass -->")
        for line in table[1].splitlines():
            cells = [c.strip() for c in line.strip("| ").split("|")]
            if len(cells) >= 5:
                before[cells[0], cells[1]] = cells[2]
    rows, bad = [], []
    for file, kernel, streams, exps, mixed, budget in wanted:
        if sources and file not in sources:
            continue
        name = kernel.replace(", ", ",")
        found = next((c for k, c in kernels.items() if k.replace(", ", ",") == name), None)
        count = None if found is None else count_of(found, kernel, streams, exps, mixed)
        shown = f"`{kernel}`", f"{exps}, {mixed}" if mixed else str(exps)
        other = None if found is None else count_of(found, kernel, streams, exps, mixed, shifted=True)
        rows.append((*shown, before.get(shown, "–"), "–" if count is None else f"{count:.1f}", f"{budget:g}",
                     "–" if other is None else f"{other:.1f}"))
        if count is None:
            bad.append(f"{kernel}: {'no such kernel' if found is None else f'no loop with {exps} MUFU.EX2 for each element'}")
        elif count > budget + 0.05:
            bad.append(f"{kernel}, {shown[1]} MUFU.EX2: {count:.1f} instructions, of which {budget:g} are allowed")
    lines = [f"sm_{given.arch}, instructions for an element, or for a pair where two rows are read.\n",
             "| kernel | exponentials | before | now | budget | now, rows not aligned |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(r) + " |" for r in rows]
    text = "\n".join(lines) + "\n"
    if not given.build:
        print(text, end="")
    if given.write:
        with open(given.write, "w") as f:
            f.write(page[:table.start(1)] + text + page[table.end(1):])
    if bad:
        print("sass.py: above the budgets of cuda/budgets.txt:\n  " + "\n  ".join(bad), file=sys.stderr)
    return 1 if bad and (given.check or given.build and os.environ.get("TEAMTR_BUDGETS") != "report") else 0


if __name__ == "__main__":
    sys.exit(main())
