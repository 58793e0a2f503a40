#!/usr/bin/env bash
# pack.sh FOLDER [--without-libraries]: stages the npm package in FOLDER/package and packs it there. Libraries come from
# packaging/android/build-libraries.sh and packaging/apple/build.sh: with those of one platform it serves apps of that one
# alone. Without any it is of no use to an app, and its list of files can still be checked.
set -euo pipefail
mkdir -p "$1"
out=$(cd "$1" && pwd -P) libraries=${2:-}
cd "$(dirname "$0")/../.."
package=$out/package

rm -rf "$package"
mkdir -p "$package"
cp -R bindings/react-native/{package.json,src,android,ios,delta-react-native.podspec} "$package/"
cp LICENSE-MIT LICENSE-APACHE bindings/THIRD-PARTY-NOTICES.txt "$package/"
cp -R bindings/kotlin/src "$package/android/bindings"
rm "$package/android/bindings/delta/MemoryKeystore.kt"
mkdir -p "$package/ios/bindings"
cp -R bindings/swift/Sources/{DeltaFFI,DeltaKit} "$package/ios/bindings/"
rm "$package/ios/bindings/DeltaKit/MemoryKeystore.swift"

android=target/android/jniLibs apple=bindings/swift/CDelta.xcframework
if [ "$libraries" != --without-libraries ]; then
    packed=
    for pair in "$android:android/libs" "$apple:ios/CDelta.xcframework"; do
        if [ -d "${pair%:*}" ]; then
            cp -R "${pair%:*}" "$package/${pair##*:}"
            packed+=" ${pair##*:}"
        else
            echo "without ${pair##*:}: ${pair%:*} is not built" >&2
        fi
    done
    [ -n "$packed" ] || { echo "no library is built: packaging/android/build-libraries.sh, packaging/apple/build.sh" >&2; exit 1; }
fi
cd "$package"
npm pack --ignore-scripts --json --pack-destination "$out"
