#!/usr/bin/env bash
# Prints the folders that hold CUDA 13's libraries, cuDNN and NCCL, which libtorch's natives for CUDA want, as LD_LIBRARY_PATH takes
# them. Looks in LD_LIBRARY_PATH, in the nvidia-* wheels of the python3 on the PATH (a PyTorch for CUDA 13 brings them), in CUDA_HOME
# or else /usr/local/cuda, and where the system looks. Exit code 3 if one is missing, which is said.
set -euo pipefail

wheels=$(python3 -c 'import nvidia; print("\n".join(nvidia.__path__))' 2> /dev/null || true)
folders=${LD_LIBRARY_PATH:-}
while read -r wheel; do
  [[ -z $wheel ]] || while read -r folder; do # no empty entry, which would stand for the current folder
    folders+=:$folder
  done < <(find -L "$wheel" -name '*.so*' -path '*/lib/*' -printf '%h\n' | sort -u)
done <<< "$wheels"
cuda=${CUDA_HOME:-/usr/local/cuda}
for folder in "$cuda/lib64" "$cuda/extras/CUPTI/lib64"; do
  [[ ! -d $folder ]] || folders+=:$folder
done
folders=${folders#:}

missing=()
system=$(ldconfig -p 2> /dev/null || /sbin/ldconfig -p 2> /dev/null || true)
for library in libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcufile.so.0 libcupti.so.13 libcurand.so.10 \
  libcusolver.so.12 libcusparse.so.12 libnccl.so.2; do
  found=0
  while read -r -d : folder; do
    [[ -z $folder || ! -e $folder/$library ]] || found=1
  done <<< "$folders:"
  [[ $found == 1 || $system == *"$library "* ]] || missing+=("$library")
done
if [[ ${#missing[@]} -gt 0 ]]; then
  echo "teamtr: libtorch for CUDA wants ${missing[*]}, not found here; \`pip install torch\` for CUDA 13 brings all of them, or install" \
    "CUDA 13, cuDNN 9 and NCCL and name their folders in LD_LIBRARY_PATH" >&2
  exit 3
fi
echo "$folders"
