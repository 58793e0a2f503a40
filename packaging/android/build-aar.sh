#!/usr/bin/env bash
# build-aar.sh CLASSES JNILIBS AAR: an AAR of compiled Kotlin bindings (a folder of classes) and libraries per ABI. `cargo xtask
# aar` compiles them and calls this.
#
# An AAR is a zip with fixed names; nothing of the Android SDK is needed to write one.
set -euo pipefail
mkdir -p "$(dirname "$3")"
classes=$(cd "$1" && pwd -P) libraries=$(cd "$2" && pwd -P) aar=$(cd "$(dirname "$3")" && pwd -P)/$(basename "$3")
cd "$(dirname "$0")/../.."
root=$PWD

staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT

cat > "$staged/AndroidManifest.xml" <<'XML'
<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="delta.android">
    <uses-sdk android:minSdkVersion="26" />
    <uses-permission android:name="android.permission.INTERNET" />
</manifest>
XML
: > "$staged/R.txt"
cp "$root/bindings/react-native/android/consumer-rules.pro" "$staged/proguard.txt"
cp LICENSE-MIT LICENSE-APACHE bindings/THIRD-PARTY-NOTICES.txt "$staged/"
mkdir -p "$staged/jni"
# Macs have none of their own.
readelf=$(command -v readelf || find "${ANDROID_NDK_HOME:-}/toolchains/llvm/prebuilt" -name llvm-readelf | head -n 1)
for folder in "$libraries"/*/; do
    abi=$(basename "$folder")
    packaging/android/check-alignment.sh "$folder/libdelta_ffi.so" 16384 "${readelf:-readelf}"
    mkdir -p "$staged/jni/$abi"
    cp "$folder/libdelta_ffi.so" "$staged/jni/$abi/"
done
# Without what is in META-INF Kotlin finds no function that is outside of a class.
[ -n "$(ls "$classes"/META-INF/*.kotlin_module)" ]
(cd "$classes" && jar --create --no-compress --no-manifest --date=2026-01-01T00:00:00Z --file "$staged/classes.jar" META-INF delta)
rm -f "$aar"
(cd "$staged" && jar --create --no-manifest --date=2026-01-01T00:00:00Z --file "$aar" \
    AndroidManifest.xml R.txt proguard.txt classes.jar jni LICENSE-MIT LICENSE-APACHE THIRD-PARTY-NOTICES.txt)
printf '%s: %d bytes\n' "$aar" "$(($(wc -c < "$aar")))"
