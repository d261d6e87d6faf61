#!/bin/sh
# Fills an empty models volume with the small default model, checked by SHA-256, and ends. Does nothing where the operator
# names a model (FLUXD_MODEL) or where the file is there: this is the only part of the stack that goes out.
set -eu
file=/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [ -n "${FLUXD_MODEL:-}" ]; then
    echo "FLUXD_MODEL is $FLUXD_MODEL: nothing is fetched"
elif [ -e "$file" ]; then
    echo "$file is there"
else
    sh /usr/local/lib/fluxd/fetch_model.sh /models
    echo "$file is fetched"
fi
