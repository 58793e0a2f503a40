#!/usr/bin/env bash
# bindings/swift/CDelta.xcframework: the library for iPhones, their simulator and Macs. Needs macOS with Xcode and rustup.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=bindings/swift/CDelta.xcframework
headers=bindings/swift/Sources/CDelta
phone=(aarch64-apple-ios)
simulator=(aarch64-apple-ios-sim x86_64-apple-ios)
mac=(aarch64-apple-darwin x86_64-apple-darwin)
export IPHONEOS_DEPLOYMENT_TARGET=16.0 MACOSX_DEPLOYMENT_TARGET=13.0

command -v xcodebuild >/dev/null || { echo "xcodebuild is missing: this needs macOS with Xcode" >&2; exit 1; }
rustup target add "${phone[@]}" "${simulator[@]}" "${mac[@]}"

CARGO_ENCODED_RUSTFLAGS=$(packaging/rustflags.sh apple)
export CARGO_ENCODED_RUSTFLAGS
older=()
rustc --version | grep -q ' 1\.95\.' && older=(--ignore-rust-version)
for target in "${phone[@]}" "${simulator[@]}" "${mac[@]}"; do
    # A static library: an app has one copy, and nothing to sign.
    cargo rustc --package delta-ffi --lib --crate-type staticlib --profile mobile --locked \
        ${older[@]+"${older[@]}"} --target "$target"
done

staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
arguments=()
# join NAME TARGET…: one library of several architectures.
join() {
    local name=$1 libraries=() target
    shift
    for target in "$@"; do libraries+=("target/$target/mobile/libdelta_ffi.a"); done
    mkdir -p "$staged/$name"
    lipo -create "${libraries[@]}" -output "$staged/$name/libdelta_ffi.a"
    arguments+=(-library "$staged/$name/libdelta_ffi.a" -headers "$headers")
}
join phone "${phone[@]}"
join simulator "${simulator[@]}"
join mac "${mac[@]}"
rm -rf "$out"
xcodebuild -create-xcframework "${arguments[@]}" -output "$out"
(cd bindings/swift && swift package dump-package >/dev/null)
