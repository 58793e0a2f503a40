#!/usr/bin/env bash
# check-alignment.sh LIBRARY [PAGE [READELF]]: every loadable segment of the library is aligned to PAGE (16384) or more.
set -euo pipefail
library=$1 page=${2:-16384} readelf=${3:-readelf}

aligned=0
while read -r alignment; do
    if (( alignment < page )); then
        echo "$library: a segment is aligned to $alignment, not $page" >&2
        exit 1
    fi
    aligned=$((aligned + 1))
done < <("$readelf" --program-headers --wide "$library" | awk '$1 == "LOAD" { print $NF }')
if (( aligned == 0 )); then
    echo "$library: no loadable segment" >&2
    exit 1
fi
