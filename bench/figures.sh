# Sourced: what the scripts here have in common.

# The number behind a key, anywhere in a one-line JSON document.
number() { sed -n "s/.*\"$2\":\([0-9.e+-]*\).*/\1/p" <<<"$1"; }
# Of a file with a number in each line.
median() { sort -g "$1" | sed -n "$((($(wc -l <"$1") + 1) / 2))p"; }
