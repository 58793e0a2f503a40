#!/bin/sh
# A Debian 13 root with Swift: `make ROOT` writes it, `check ROOT` says what is missing in it, `run ROOT REPOSITORY PROGRAMS
# SCRATCH` builds the bindings in it and runs their tests, `bench` the same and its benchmark, `first … COMMAND` what the first
# page of the documentation says to run, in /scratch. All but `check` are called in a
# mount and process namespace of their own: whatever is mounted or started here ends with it, however it ends.
set -eu
root=$2

enter() {
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/tmp"
}

inside() {
    chroot "$root" /usr/bin/env -i HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

# Enters with what is lent to the root.
lent() {
    enter
    mount --bind "$3" "$root/delta"
    mount -o remount,bind,ro "$root/delta"
    mount --bind "$4" "$root/programs"
    mount --bind "$5" "$root/scratch"
}

# As `inside`, on the network: through the proxies of this machine, whichever way they are named.
online() {
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        eval "value=\${$name:-}"
        if [ -n "$value" ]; then set -- "$name=$value" "$@"; fi
    done
    inside "$@"
}

# What is wrong with the root; nothing, when it is whole. What was unpacked from an archive that was cut lacks files.
fault() {
    info=$root/var/lib/dpkg/info
    for package in swiftlang libswiftlang libstdc++-14-dev dash coreutils; do
        set -- "$info/$package.list" "$info/$package":*.list
        if [ ! -e "$1" ] && [ ! -e "$2" ]; then
            echo "$package is not installed in it"
            return
        fi
    done
    if grep '^Status:' "$root/var/lib/dpkg/status" | grep -qv 'install ok installed$'; then
        echo "a package in it is installed by half"
        return
    fi
    cat "$info"/*.list | while read -r file; do
        # apt's lists are removed on purpose. A link may lead out of this folder: inside it leads to a file.
        case $file in /var/lib/apt/*) continue ;; esac
        if [ ! -e "$root$file" ] && [ ! -L "$root$file" ]; then
            echo "$file is missing in it"
            break
        fi
    done
}

case $1 in
check)
    found=$(fault)
    if [ -n "$found" ]; then
        echo "$found"
        exit 1
    fi
    ;;
make)
    # debootstrap knows the environment alone, not what apt was told.
    if [ -z "${http_proxy:-}" ]; then
        proxy=$(apt-config shell proxy Acquire::http::Proxy 2> /dev/null || true)
        eval "$proxy"
        if [ -n "${proxy:-}" ] && [ "$proxy" != DIRECT ]; then export http_proxy="$proxy"; fi
    fi
    debootstrap --variant=minbase trixie "$root"
    mkdir -p "$root/delta" "$root/programs" "$root/scratch"
    enter
    online DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --no-install-recommends swiftlang libstdc++-14-dev
    inside apt-get clean
    rm -rf "${root:?}"/var/lib/apt/lists/*
    ;;
bench)
    lent "$@"
    inside swift build --configuration release --package-path /delta/bindings/swift --scratch-path /scratch \
        --cache-path /scratch/cache -Xlinker -L/programs 1>&2
    inside LD_LIBRARY_PATH=/programs /scratch/release/DeltaScenario --bench
    ;;
first)
    lent "$@"
    inside LD_LIBRARY_PATH=/programs sh -c "cd /scratch && $6"
    ;;
run)
    lent "$@"
    inside swift build --package-path /delta/bindings/swift --scratch-path /scratch --cache-path /scratch/cache \
        -Xlinker -L/programs -Xswiftc -warnings-as-errors
    # React Native's module for iOS: all of it but what is Objective-C, with its tests.
    inside sh -c 'exec swiftc -swift-version 6 -warnings-as-errors -parse-as-library -I /scratch/debug/Modules \
        -Xcc -fmodule-map-file=/delta/bindings/swift/Sources/CDelta/module.modulemap \
        /delta/bindings/react-native/ios/*.swift /delta/bindings/react-native/tests/ios/*.swift \
        /scratch/debug/DeltaKit.build/*.o /scratch/debug/DeltaFFI.build/*.o -L/programs -ldelta_ffi -o /tmp/bridge'
    inside LD_LIBRARY_PATH=/programs /tmp/bridge
    inside DELTA_PROGRAMS=/programs DELTA_VECTORS=/delta/core/tests/vectors LD_LIBRARY_PATH=/programs \
        /scratch/debug/DeltaScenario
    ;;
*)
    echo "unknown command $1" >&2
    exit 2
    ;;
esac
