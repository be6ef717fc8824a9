#!/bin/sh
# Installs the npm packages of this folder where the tests of stepfunctions/ look
# for them: in the user's cache folder, under the lock file's hash. Running it
# again when they are there does nothing and needs no network.
set -eu
cd "$(dirname "$0")"

lock=$(sha256sum package-lock.json | cut -c1-16)
target=${XDG_CACHE_HOME:-$HOME/.cache}/keyturn/asl-npm-$lock
if [ -d "$target/node_modules" ]; then
	exit 0
fi
command -v npm >/dev/null || {
	echo 'stepfunctions/differential: npm is missing; apt-get install npm' >&2
	exit 1
}

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json "$work/"
# The lock file names no registry: npm asks the one it is configured for, and
# the integrity fields pin the bytes.
(cd "$work" && npm ci --loglevel=error --ignore-scripts --no-audit --no-fund >/dev/null)
chmod 755 "$work"
mv -T "$work" "$target" 2>/dev/null || [ -d "$target/node_modules" ] # another install was first
