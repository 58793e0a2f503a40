#!/usr/bin/env bash
# libdelta_ffi.so for Android into target/android/jniLibs. Needs rustup, cargo-ndk and an NDK (r27 or later).
set -euo pipefail
cd "$(dirname "$0")/../.."

abis=(arm64-v8a armeabi-v7a x86_64)
targets=(aarch64-linux-android armv7-linux-androideabi x86_64-linux-android)
# java.time, which the bindings use, is there from API 26 on.
api=26
out=target/android/jniLibs
# What packaging/rustflags.sh links with.
page=16384

command -v cargo-ndk >/dev/null || { echo "cargo-ndk is missing. Install it: cargo install cargo-ndk" >&2; exit 1; }
[ -d "${ANDROID_NDK_HOME:-}" ] || { echo "ANDROID_NDK_HOME names no NDK" >&2; exit 1; }
rustup target add "${targets[@]}"

# p2panda declares Rust 1.96 and compiles unchanged on 1.95 (CONTRIBUTING.md).
older=()
rustc --version | grep -q ' 1\.95\.' && older=(--ignore-rust-version)
rm -rf "$out"
# cargo-ndk adds to RUSTFLAGS, which are divided by blanks.
RUSTFLAGS=$(packaging/rustflags.sh android | tr '\037' ' ')
export RUSTFLAGS
cargo ndk \
    "${abis[@]/#/--target=}" --platform "$api" --output-dir "$out" \
    build --package delta-ffi --profile mobile --locked ${older[@]+"${older[@]}"}

readelf=$(find "$ANDROID_NDK_HOME/toolchains/llvm/prebuilt" -name llvm-readelf | head -n 1)
for abi in "${abis[@]}"; do
    library=$out/$abi/libdelta_ffi.so
    packaging/android/check-alignment.sh "$library" "$page" "${readelf:-readelf}"
    printf '%s: %d bytes\n' "$library" "$(($(wc -c < "$library")))"
done
