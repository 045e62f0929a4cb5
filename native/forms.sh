#!/usr/bin/env bash
# Puts the JNI glue, which is the same for all forms of libteamtr, beside each form that build.sh installed besides the plain
# one, in the folders that go on a class path:
#   native/forms.sh PREFIX TARGET GLUE    PREFIX/gpu -> TARGET/native-gpu, PREFIX/simt -> TARGET/native-simt
# Called by Maven (phase process-test-classes).
set -euo pipefail

prefix=$1 target=$2 glue=$3
for form in gpu simt; do
  folder=linux-x86_64
  [[ $form != gpu ]] || folder=linux-x86_64-gpu # what the Loader prefers
  rm -rf "$target/native-$form"
  [[ -f $prefix/$form/libteamtr.so ]] || continue
  mkdir -p "$target/native-$form/org/teamtr/kernels/internal/$folder"
  cp "$prefix/$form/libteamtr.so" "$glue/libjniteamtr.so" "$target/native-$form/org/teamtr/kernels/internal/$folder"
done
