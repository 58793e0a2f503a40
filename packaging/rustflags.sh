#!/usr/bin/env bash
# rustflags.sh android|apple|linux: what CARGO_ENCODED_RUSTFLAGS is when a library is built to ship (docs/size.md). It
# stands in for every other setting of flags. Linux is what `cargo xtask size` measures.
set -euo pipefail

flags=(
    # Tables for unwinding say at each instruction where the frame begins, unless a register does.
    -Cforce-frame-pointers=yes
    # What phones compute with, on x86-64, too: without a second curve for AVX2 (docs/adr/0016).
    '--cfg=curve25519_dalek_backend="serial"'
)
# Panics and logs name files: without the folders of whoever builds.
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    flags+=("--remap-path-prefix=$sources=")
done
# What UniFFI's generator reads of a library is left out of one that ships.
without_metadata=-T$(cd "$(dirname "$0")" && pwd)/without-metadata.ld
case ${1:-} in
    # Devices with pages of 16 KB load only libraries whose segments are aligned to them. Relocations are packed the
    # way API 26 reads; RELR, which is smaller still, is read from API 30 on.
    android) linked=(--icf=all -O2 --pack-dyn-relocs=android "-z,max-page-size=16384" "$without_metadata") ;;
    linux) linked=(--icf=all -O2 "-z,pack-relative-relocs" "$without_metadata") ;;
    # A static library: an app's own linker has the last word.
    apple) linked=() ;;
    *)
        echo "rustflags.sh android|apple|linux" >&2
        exit 2
        ;;
esac
for argument in ${linked[@]+"${linked[@]}"}; do
    flags+=("-Clink-arg=-Wl,$argument")
done
(IFS=$'\x1f' && printf '%s' "${flags[*]}")
