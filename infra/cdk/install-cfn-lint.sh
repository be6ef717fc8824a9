#!/bin/sh
# Prints the path of cfn-lint, which it installs into the user's cache folder if
# none is on the path. Running it again installs nothing.
set -eu

version=1.51.0
if command -v cfn-lint >/dev/null && cfn-lint --version 2>/dev/null | grep -q ' 1\.'; then
	command -v cfn-lint
	exit 0
fi
target=${XDG_CACHE_HOME:-$HOME/.cache}/keyturn/cfn-lint-$version
if [ -x "$target/bin/cfn-lint" ]; then
	echo "$target/bin/cfn-lint"
	exit 0
fi
command -v python3 >/dev/null || {
	echo 'infra/cdk: python3 is missing, which cfn-lint runs on; apt-get install python3-venv' >&2
	exit 1
}

# A venv can't be moved, so it is made where it stays, and goes if it isn't whole.
trap 'rm -rf "$target"' EXIT
python3 -m venv "$target" >&2
"$target/bin/pip" install --quiet --disable-pip-version-check "cfn-lint==$version" >&2
trap - EXIT
echo "$target/bin/cfn-lint"
