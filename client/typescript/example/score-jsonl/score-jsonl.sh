#!/bin/sh
# Runs the example program, which is beside this file. V8 is told to collect garbage before it asks for more memory.
exec node --optimize-for-size "$(readlink -f "$0").mjs" "$@"
