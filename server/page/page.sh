#!/bin/sh
# page.sh OUT: puts the page together. OUT/page.html is the document, OUT/page.head the headers that it is sent with, ended by a NUL.
# Its policy names style and script by their hashes: nothing else runs, and nothing is fetched but from this server.
set -eu
here=$(dirname "$0")
out=$1
css='base talk engine'
js='dom server store code markdown metrics charts engine settings draft turns talk main'

join() { # extension, names
    ext=$1
    shift
    for name; do cat "$here/$name.$ext"; done
}
digest() { # of standard input, as a source expression
    hex=$(sha256sum | cut -c 1-64 | sed 's/../\\x&/g')
    printf "'sha256-%s'" "$(env printf "$hex" | base64 -w 0)"
}

mkdir -p "$out"
# A hash covers all between the tags, the line feed after the first one too.
{ echo; join css $css; } >"$out/style.css"
{ echo; echo '"use strict";'; join js $js; } >"$out/script.js"
awk -v style="$out/style.css" -v script="$out/script.js" '
    function put(tag, file, line) {
        printf "<%s>", tag
        while ((getline line < file) > 0) print line
        printf "</%s>\n", tag
    }
    $0 == "<!-- style -->" { put("style", style); next }
    $0 == "<!-- script -->" { put("script", script); next }
    { print }' "$here/page.html" >"$out/page.html"
{
    printf "Content-Security-Policy: default-src 'none'; style-src %s; script-src %s; " \
        "$(digest <"$out/style.css")" "$(digest <"$out/script.js")"
    printf "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    printf 'Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nVary: Accept\r\n\0'
} >"$out/page.head"
