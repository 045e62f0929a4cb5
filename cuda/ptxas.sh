#!/usr/bin/env bash
# What the compiler made of the CUDA kernels, as a Markdown table: registers, stack, spills, shared memory, occupancy, and
# the 16-byte accesses in the PTX. Needs nvcc, python3 and c++filt, no GPU. Exit code 1 if any kernel spills.
#
#   cuda/ptxas.sh [--arch 80,90,100,120] [--keep FOLDER] [--write FILE.md] [FILE.cu...]   default: every kernel of this folder
#
# Where architectures differ a cell holds one value for each, in the order of the heading. --keep leaves the PTX and ptxas's
# own words in FOLDER. --write also puts the table between the lines <!-- ptxas --> and <!-- /ptxas --> of FILE.md.
# TEAMTR_JOBS is the number of files compiled at a time, 2 by default.
#
# "blocks" and "occupancy" are what registers, threads and static shared memory allow on one multiprocessor at the block
# size of __launch_bounds__; "left" is the dynamic shared memory in KiB that each of those blocks may take without there
# being fewer. Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; registers are given
# out to a warp in units of 256 from its quarter of the multiprocessor's 64 Ki, shared memory in units of 128 bytes with 1
# KiB a block for the system (CUDA Occupancy Calculator).
set -euo pipefail

say() { echo "ptxas.sh: $*" >&2; }
fail() { say "$*"; exit 2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
architectures=80,90,100,120
keep="" page=""
files=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --arch) [[ $# -ge 2 ]] || fail "--arch needs a list such as 80,90"; architectures=$2; shift 2 ;;
    --keep) [[ $# -ge 2 ]] || fail "--keep needs a folder"; keep=$2; shift 2 ;;
    --write) [[ $# -ge 2 ]] || fail "--write needs a file"; page=$2; shift 2 ;;
    -h | --help) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) fail "unknown option $1" ;;
    *) files+=("$1"); shift ;;
  esac
done
if [[ ${#files[@]} -eq 0 ]]; then
  for file in "$here"/*.cu; do
    [[ $(basename "$file") =~ ^(bench|device).cu$ ]] || files+=("$file")
  done
fi

nvcc=${CUDACXX:-$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")}
command -v "$nvcc" > /dev/null || fail "no nvcc found; put it on the PATH, or set CUDACXX"
ptxas=$(dirname "$(readlink -f "$(command -v "$nvcc")")")/ptxas
command -v "$ptxas" > /dev/null || fail "no ptxas beside $nvcc"
command -v python3 > /dev/null || fail "no python3 found"
command -v c++filt > /dev/null || fail "no c++filt found; on Debian or Ubuntu: apt-get install binutils"

if [[ -z $keep ]]; then
  keep=$(mktemp -d)
  trap 'rm -rf "$keep"' EXIT
fi
mkdir -p "$keep"

# The options that the build gives nvcc, so that this table is of the same code.
line='s/.*target_compile_options(teamtr_cuda PRIVATE \([^)]*\)).*/\1/p'
read -r -a options <<< "$(sed -n "$line" "$root/native/CMakeLists.txt")"
[[ ${#options[@]} -gt 0 ]] || fail "native/CMakeLists.txt names no options of teamtr_cuda any more"
options+=(-std=c++17 -O3 -DNDEBUG "-I$root/native/include" "-I$root/native/src" "-I$here")

compile() { # file, architecture
  local name
  name=$keep/$(basename "$1" .cu).$2
  if ! "$nvcc" "${options[@]}" -ptx "-arch=compute_$2" "$1" -o "$name.ptx" > "$name.log" 2>&1 \
    || ! "$ptxas" -v -O3 "-arch=sm_$2" "$name.ptx" -o "$name.cubin" > "$name.txt" 2>&1; then
    say "$1 does not compile for sm_$2:"
    cat "$name.log" "$name.txt" >&2 2> /dev/null
    return 1
  fi
}

IFS=, read -r -a list <<< "$architectures"
running=0
for file in "${files[@]}"; do
  for architecture in "${list[@]}"; do
    compile "$file" "$architecture" &
    if [[ $((++running)) -ge ${TEAMTR_JOBS:-2} ]]; then
      wait -n || exit 2
      running=$((running - 1))
    fi
  done
done
while [[ $running -gt 0 ]]; do
  wait -n || exit 2
  running=$((running - 1))
done

names=()
for file in "${files[@]}"; do names+=("$(basename "$file" .cu)"); done
[[ -z $page ]] || grep -qx '<!-- ptxas -->' "$page" || fail "$page has no line <!-- ptxas -->"
compiler=$("$nvcc" --version | sed -n 's/.*release \([^,]*\),.*/nvcc \1/p')
status=0
python3 - "$compiler" "$keep" "$architectures" "${names[@]}" << 'PYTHON' > "$keep/table.md" 2> "$keep/words.txt" || status=$?
import math
import re
import subprocess
import sys

compiler, folder, architectures, names = sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4:]
# architecture: warps, blocks and bytes of shared memory of a multiprocessor; the registers are 64 Ki on all
LIMITS = {"80": (64, 32, 164), "86": (48, 16, 100), "89": (48, 24, 100), "90": (64, 32, 228), "100": (64, 32, 228),
          "103": (64, 32, 228), "120": (48, 24, 100)}


def up(n, unit):
    return -(-n // unit) * unit


def occupancy(architecture, registers, threads, static_shared):
    """Blocks of a multiprocessor, share of its warps in per cent, KiB of shared memory that each block has left."""
    if architecture.rstrip("af") not in LIMITS or not threads:
        return "?", "?", "?"
    warps, blocks, shared = LIMITS[architecture.rstrip("af")]
    shared *= 1024
    mine = math.ceil(threads / 32)
    by_registers = 16384 // up(max(registers, 1) * 32, 256) * 4 // mine
    by_shared = shared // (up(static_shared, 128) + 1024)
    blocks = min(blocks, warps // mine, by_registers, by_shared)
    if blocks == 0:
        return 0, 0, 0
    left = (shared // blocks // 128 * 128 - 1024 - up(static_shared, 128)) / 1024
    return blocks, round(100 * blocks * mine / warps), math.floor(left)


BITS = re.compile(r"^[bfsu](\d+)$")


def width(opcode):
    """Bytes that one thread moves with a load or store of global (or generic) memory; 0 for anything else."""
    parts = opcode.split(".")
    if parts[0] not in ("ld", "st") or {"shared", "local", "param", "const"} & {p.split("::")[0] for p in parts}:
        return 0
    bits = [int(m[1]) for m in map(BITS.match, parts) if m]
    lanes = [int(p[1:]) for p in parts if re.match(r"^v[248]$", p)]
    return bits[-1] * (lanes[0] if lanes else 1) // 8 if bits else 0


def entries(ptx):
    """Kernel: threads of a block, wide loads, wide stores."""
    found = {}
    for part in re.split(r"^(?:\.visible |\.weak )?\.entry ", ptx, flags=re.M)[1:]:
        name = re.match(r"[\w$]+", part)[0]
        # To the end of this kernel: a function that is no kernel may follow.
        body = re.split(r"^(?:\.visible |\.weak )?\.func ", part, flags=re.M)[0]
        threads = re.search(r"\.(?:maxntid|reqntid)\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?", body)
        threads = math.prod(int(n) for n in threads.groups() if n) if threads else 0
        opcodes = re.findall(r"^\s*(?:@!?%\w+\s+)?((?:ld|st)\.[\w.:]+)", body, flags=re.M)
        # asm statements keep their own layout
        wide = [o for o in opcodes if width(o) >= 16]
        copies = len(re.findall(r"cp\.async\.(?:cg|ca)\.shared\S*\.global\S*\s[^;]*,\s*16\b", body))
        copies += len(re.findall(r"cp\.async\.bulk\.shared\S*global", body))
        found[name] = (threads, sum(o.startswith("ld") for o in wide) + copies, sum(o.startswith("st") for o in wide))
    return found


def resources(text):
    """Kernel: registers, stack, spill stores, spill loads, static shared memory."""
    found = {}
    blocks = re.split(r"Compiling entry function '", text)[1:]
    for block in blocks:
        name = block.split("'")[0]
        of_entry = block.split(f"Function properties for {name}", 1)[-1]
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", of_entry)
        used = re.search(r"Used (\d+) registers", block)
        shared = re.search(r"(\d+) bytes smem", block)
        if not frame or not used:
            sys.exit(f"ptxas.sh: nothing read of {name}; has the form of ptxas -v changed?")
        found[name] = (int(used[1]), *map(int, frame.groups()), int(shared[1]) if shared else 0)
    return found


def short(symbol):
    name = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"\(anonymous namespace\)::|teamtr::cuda::|teamtr::|\b__nv_\w+::", "", name)
    depth = 0
    for i, c in enumerate(name):  # without the parameters, which start at the first parenthesis outside <>
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            name = name[:i]
            break
    name = re.sub(r"\((?:bool|int|unsigned int)\)", "", re.sub(r"^void ", "", name))
    return name.replace("|", "\\|")


def joined(values):
    values = [str(v) for v in values]
    return values[0] if len(set(values)) == 1 else " / ".join(values)


kernels = {}
for name in names:
    for architecture in architectures:
        with open(f"{folder}/{name}.{architecture}.ptx") as f:
            seen = entries(f.read())
        with open(f"{folder}/{name}.{architecture}.txt") as f:
            used = resources(f.read())
        for symbol, (registers, stack, stores, loads, shared) in used.items():
            threads, wide_loads, wide_stores = seen[symbol]
            kernels.setdefault((name, symbol), {})[architecture] = (
                registers, stack, f"{stores} + {loads}" if stores or loads else "0", shared, threads or "?",
                *occupancy(architecture, registers, threads, shared), wide_loads, wide_stores)

print(f"{compiler}. Values that differ are of sm_{' / sm_'.join(architectures)}.\n")
print("| kernel | registers | stack, B | spills, B | static shared, B | threads | blocks | occupancy, % | left, KiB "
      "| 16-byte loads | 16-byte stores |\n|---|---|---|---|---|---|---|---|---|---|---|")
spilled = []
for (name, symbol), columns in kernels.items():
    rows = [columns[a] for a in architectures if a in columns]
    print(f"| `{short(symbol)}` | " + " | ".join(joined(c) for c in zip(*rows)) + " |")
    spilled += [f"{short(symbol)} on sm_{a}: {c[2]} bytes" for a, c in columns.items() if c[2] != "0"]
if not kernels:
    sys.exit("ptxas.sh: no kernel found")
if spilled:
    sys.exit("ptxas.sh: spills, stores + loads:\n  " + "\n  ".join(spilled))
PYTHON
cat "$keep/table.md"
cat "$keep/words.txt" >&2
if [[ -n $page ]]; then
  sed -i -e '/^<!-- ptxas -->$/,/^<!-- \/ptxas -->$/{//!d}' -e "/^<!-- ptxas -->\$/r $keep/table.md" "$page"
fi
exit $status
