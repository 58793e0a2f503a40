#!/bin/sh
# A Debian 13 root with Swift: `make ROOT` writes it, `run ROOT REPOSITORY PROGRAMS SCRATCH` builds the bindings in it and
# runs their tests. Called in a mount and process namespace of its own: whatever is mounted or started here ends with
# it, however it ends.
set -eu
root=$2

enter() {
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/tmp"
}

inside() {
    chroot "$root" /usr/bin/env -i HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

case $1 in
make)
    debootstrap --variant=minbase trixie "$root"
    mkdir -p "$root/delta" "$root/programs" "$root/scratch"
    enter
    inside DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --no-install-recommends swiftlang libstdc++-14-dev
    inside apt-get clean
    rm -rf "${root:?}"/var/lib/apt/lists/*
    ;;
run)
    enter
    mount --bind "$3" "$root/delta"
    mount -o remount,bind,ro "$root/delta"
    mount --bind "$4" "$root/programs"
    mount --bind "$5" "$root/scratch"
    inside swift build --package-path /delta/bindings/swift --scratch-path /scratch --cache-path /scratch/cache \
        -Xlinker -L/programs -Xswiftc -warnings-as-errors
    # React Native's module for iOS: all of it but what is Objective-C.
    inside sh -c 'exec swiftc -typecheck -swift-version 6 -warnings-as-errors -I /scratch/debug/Modules \
        -Xcc -fmodule-map-file=/delta/bindings/swift/Sources/CDelta/module.modulemap \
        /delta/bindings/react-native/ios/*.swift'
    # What the first page of the documentation shows.
    sed -n '/^[[:punct:]]\{3\}swift$/,/^[[:punct:]]\{3\}$/p' "$3/docs/getting-started-swift.md" | sed '1d;$d' > "$root/tmp/hello.swift"
    inside swiftc -typecheck -parse-as-library -swift-version 6 -I /scratch/debug/Modules \
        -Xcc -fmodule-map-file=/delta/bindings/swift/Sources/CDelta/module.modulemap /tmp/hello.swift
    inside DELTA_PROGRAMS=/programs DELTA_VECTORS=/delta/core/tests/vectors LD_LIBRARY_PATH=/programs \
        /scratch/debug/DeltaScenario
    ;;
*)
    echo "unknown command $1" >&2
    exit 2
    ;;
esac
