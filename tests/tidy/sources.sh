#!/usr/bin/env bash
# Prints the C++ files of the repository, one a line; with an argument, those that differ from that
# commit (or are new).
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ $# -gt 0 ]]; then
  { git diff --name-only --diff-filter=d "$1" -- '*.h' '*.cc'
    git ls-files --others --exclude-standard -- '*.h' '*.cc'; } | sort -u
else
  { git ls-files --cached --others --exclude-standard -- '*.h' '*.cc' 2>/dev/null ||
    find scheduler backend service tests -name '*.h' -o -name '*.cc'; } | sort -u |
    while read -r path; do [[ ! -e $path ]] || echo "$path"; done
fi
