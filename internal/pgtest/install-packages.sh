#!/bin/sh
# Installs the Debian packages that tests need and that aren't there: PgBouncer,
# the AWS CLI, boto3 and npm. Run as root.
set -eu

missing=
command -v pgbouncer >/dev/null || missing="$missing pgbouncer"
command -v aws >/dev/null || missing="$missing awscli"
command -v npm >/dev/null || missing="$missing npm"
{ python3 -c 'import boto3' || /usr/bin/python3 -c 'import boto3'; } 2>/dev/null || missing="$missing python3-boto3"
[ -n "$missing" ] || exit 0

apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
