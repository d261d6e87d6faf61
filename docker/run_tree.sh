#!/bin/sh
# run_tree.sh BINARY TREE: lays out what a run image copies: the binary, the shared libraries that it needs beyond the C
# library, their licences, the router files and an empty /models. Runs in the build stage.
set -eu
binary=${1:?binary}
tree=${2:?folder}
lib=$tree/usr/local/lib/fluxd
licences=$tree/usr/local/share/doc/fluxd

mkdir -p "$tree/usr/local/bin" "$lib" "$licences" "$tree/usr/share/fluxd" "$tree/models"
install -m 755 "$binary" "$tree/usr/local/bin/fluxd"
cp -r configs/routers "$tree/usr/share/fluxd/"
install -m 644 LICENSE "$licences/LICENSE"
install -m 644 configs/default.conf "$licences/default.conf"

# The C library and its loader are the base image's: they must fit each other and its kernel interface.
c_library='^(ld-linux|libc|libm|libpthread|libdl|librt|libresolv)[-.]'

add_library() { # file
    cp -L "$1" "$lib/"
    package=$(dpkg -S "$(readlink -f "$1")" 2>/dev/null || dpkg -S "$1" 2>/dev/null || true)
    package=$(echo "$package" | head -n 1 | cut -d: -f1)
    [ -z "$package" ] || [ ! -e "/usr/share/doc/$package/copyright" ] ||
        cp -L "/usr/share/doc/$package/copyright" "$licences/$package.copyright"
}

if ldd "$binary" | grep 'not found'; then
    echo "run_tree.sh: $binary lacks the libraries above" >&2
    exit 1
fi
for file in $(ldd "$binary" | awk '$2 == "=>" { print $3 }'); do
    echo "$(basename "$file")" | grep -qE "$c_library" || add_library "$file"
done
# Opened while it runs, so no entry of the binary's.
shift 2
for file in "$@"; do
    [ -e "$file" ] || { echo "run_tree.sh: no file $file" >&2; exit 1; }
    add_library "$file"
done
du -sk "$tree" | awk '{ printf "run tree: %.1f MB\n", $1 / 1000 }'
