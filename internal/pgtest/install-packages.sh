#!/bin/sh
# Installs the Debian packages that tests need and that aren't there: PgBouncer,
# the AWS CLI and npm. Run as root.
set -eu

missing=
command -v pgbouncer >/dev/null || missing="$missing pgbouncer"
command -v aws >/dev/null || missing="$missing awscli"
command -v npm >/dev/null || missing="$missing npm"
[ -n "$missing" ] || exit 0

apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
