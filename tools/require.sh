#!/bin/sh
# require.sh PYTHON: says in one sentence what is missing, or nothing.
command -v "$1" >/dev/null 2>&1 || { echo "Taskyard needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python3." >&2; exit 1; }
"$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Taskyard needs Python 3.11 or newer, and '$1' is $("$1" -V 2>&1): install a newer one, or run make PYTHON=/path/to/python3.11." >&2; exit 1; }
"$1" -c 'import venv, ensurepip' 2>/dev/null || { echo "'$1' cannot make virtual environments: install its venv package (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
command -v git >/dev/null 2>&1 || { echo "Taskyard needs git: install it." >&2; exit 1; }
