# functions.awk FILES: functions that are longer than the house allows: 60 lines; what runs on a GPU, and what measures it, 150.
# As clang-format writes them: a function's braces stand alone at the beginning of a line, what is before them since the last
# empty line or comment is its head.
FNR == 1 { head = ""; at = 0 }
/^\{$/ { at = FNR; next }
/^\}/ {
    most = head ~ /__global__|__device__/ || FILENAME ~ /^kernels\/bench\// ? 150 : 60
    if (at && FNR - at + 1 > most) print FILENAME ":" at ": a function of " FNR - at + 1 " lines, at most " most " are allowed"
    at = 0; head = ""; next
}
!at && (/^$/ || /^(\/\*| \*|#)/) { head = ""; next }
!at { head = head " " $0 }
