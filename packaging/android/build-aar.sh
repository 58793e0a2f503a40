#!/usr/bin/env bash
# build-aar.sh CLASSES JNILIBS AAR: an AAR of compiled Kotlin bindings (a folder of classes) and libraries per ABI.
#
# An AAR is a zip with fixed names; nothing of the Android SDK is needed to write one.
set -euo pipefail
classes=$(realpath "$1") libraries=$(realpath "$2") aar=$(realpath --canonicalize-missing "$3")
cd "$(dirname "$0")/../.."
root=$PWD

staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT

cat > "$staged/AndroidManifest.xml" <<'XML'
<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="delta">
    <uses-sdk android:minSdkVersion="26" />
    <uses-permission android:name="android.permission.INTERNET" />
</manifest>
XML
: > "$staged/R.txt"
cp "$root/bindings/react-native/android/consumer-rules.pro" "$staged/proguard.txt"
mkdir -p "$staged/jni" "$(dirname "$aar")"
for folder in "$libraries"/*/; do
    abi=$(basename "$folder")
    packaging/android/check-alignment.sh "$folder/libdelta_ffi.so"
    mkdir -p "$staged/jni/$abi"
    cp "$folder/libdelta_ffi.so" "$staged/jni/$abi/"
done
# The bindings alone: tests are compiled into the same folder.
(cd "$classes" && jar --create --no-compress --date=2026-01-01T00:00:00Z --file "$staged/classes.jar" \
    delta/*.class delta/ffi)
rm -f "$aar"
(cd "$staged" && jar --create --no-manifest --date=2026-01-01T00:00:00Z --file "$aar" \
    AndroidManifest.xml R.txt proguard.txt classes.jar jni)
printf '%s: %d bytes\n' "$aar" "$(stat -c %s "$aar")"
