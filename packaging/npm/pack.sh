#!/usr/bin/env bash
# pack.sh FOLDER [--without-libraries]: stages the npm package in FOLDER/package and packs it there. Libraries come from
# packaging/android/build-libraries.sh and packaging/apple/build.sh; without them the package is of no use to an app, and its
# list of files can still be checked.
set -euo pipefail
out=$(realpath --canonicalize-missing "$1") libraries=${2:-}
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

if [ "$libraries" != --without-libraries ]; then
    cp -R target/android/jniLibs "$package/android/libs"
    cp -R bindings/swift/CDelta.xcframework "$package/ios/CDelta.xcframework"
fi
cd "$package"
npm pack --ignore-scripts --json --pack-destination "$out"
