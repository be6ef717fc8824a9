#!/bin/sh
# Installs the npm packages of a folder (this one's, if none is named) into the
# user's cache folder, under a name and the lock file's hash, and prints where that
# is. Running it again when they are there does nothing and needs no network.
set -eu
cd "$(dirname "$0")/${1:-.}"
name=${2:-asl-npm}

lock=$(sha256sum package-lock.json | cut -c1-16)
target=${XDG_CACHE_HOME:-$HOME/.cache}/keyturn/$name-$lock
if [ -d "$target/node_modules" ]; then
	echo "$target"
	exit 0
fi
command -v npm >/dev/null || {
	echo "$name: npm is missing; apt-get install npm" >&2
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
echo "$target"
