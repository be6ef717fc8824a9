#!/bin/sh
# The label operations of Secrets Manager by the AWS CLI, as an operator types
# them. Its output is compared with labels.golden: version ids are v1, v2, …, and
# of an error the code that AWS documents (API reference, UpdateSecretVersionStage,
# PutSecretValue, GetSecretValue).
#
# It works on any account:
#   NAME=keyturn-labels sh labels.sh            with the CLI's own configuration
#   NAME=… ENDPOINT=http://127.0.0.1:4566 sh labels.sh
# and removes its secret at the end.
set -eu
: "${NAME:?the name of a secret that doesn't exist yet}"

v1=11111111-1111-4111-8111-111111111111
v2=22222222-2222-4222-8222-222222222222
v3=33333333-3333-4333-8333-333333333333
v4=44444444-4444-4444-8444-444444444444
v5=55555555-5555-4555-8555-555555555555
v9=99999999-9999-4999-8999-999999999999

sm() {
	aws ${ENDPOINT:+--endpoint-url "$ENDPOINT"} --output json secretsmanager "$@"
}

# try prints a command, and "ok" or the error's code.
try() {
	echo "\$ $*" | sed "s/$v1/v1/g; s/$v2/v2/g; s/$v3/v3/g; s/$v4/v4/g; s/$v5/v5/g; s/$v9/v9/g"
	if sm "$@" --secret-id "$NAME" >/dev/null 2>"$errors"; then
		echo ok
	else
		sed -n 's/.*An error occurred (\([A-Za-z]*\)).*/\1/p' "$errors" | grep . || cat "$errors"
	fi
}

# labels prints who holds what.
labels() {
	sm describe-secret --secret-id "$NAME" --query VersionIdsToStages |
		tr -d ' "\n[]{}' | sed "s/$v1:/ v1=/; s/$v2:/ v2=/; s/$v3:/ v3=/; s/$v4:/ v4=/; s/$v5:/ v5=/" | tr -d '\n' | sed 's/, / /g; s/,\( v\)/ \1/g' |
		tr ' ' '\n' | grep . | sort | sed 's/^/  /'
}

errors=$(mktemp)
trap 'sm delete-secret --secret-id "$NAME" --force-delete-without-recovery >/dev/null; rm -f "$errors"' EXIT

echo "# a new secret has one version, and it is current"
sm create-secret --name "$NAME" --secret-string one --client-request-token $v1 >/dev/null
labels

echo "# a version that is staged as pending is nobody's value yet"
try put-secret-value --client-request-token $v2 --secret-string two --version-stages AWSPENDING
labels
sm get-secret-value --secret-id "$NAME" --query SecretString
sm get-secret-value --secret-id "$NAME" --version-stage AWSPENDING --query SecretString

echo "# a token keeps its first value"
try put-secret-value --client-request-token $v2 --secret-string two --version-stages AWSPENDING
try put-secret-value --client-request-token $v2 --secret-string other --version-stages AWSPENDING

echo "# moving AWSCURRENT names the version that loses it; AWSPREVIOUS follows"
try update-secret-version-stage --version-stage AWSCURRENT --move-to-version-id $v2
try update-secret-version-stage --version-stage AWSCURRENT --move-to-version-id $v2 --remove-from-version-id $v2
try update-secret-version-stage --version-stage AWSCURRENT --remove-from-version-id $v1
labels
try update-secret-version-stage --version-stage AWSCURRENT --move-to-version-id $v2 --remove-from-version-id $v1
labels

echo "# AWSPENDING stays until somebody takes it off"
try update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id $v1
try update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id $v2
labels

echo "# a label of one's own: set if absent, and compare and swap"
try update-secret-version-stage --version-stage MINE --move-to-version-id $v1
try update-secret-version-stage --version-stage MINE --move-to-version-id $v2
try update-secret-version-stage --version-stage MINE --move-to-version-id $v2 --remove-from-version-id $v1
labels

echo "# without stages a value is current at once; MINE stays where it is"
try put-secret-value --client-request-token $v3 --secret-string three
labels

echo "# reads by label, by both, and by id"
try get-secret-value --version-id $v2 --version-stage MINE
try get-secret-value --version-id $v1 --version-stage MINE
try get-secret-value --version-stage AWSPENDING
try get-secret-value --version-id $v9
sm get-secret-value --secret-id "$NAME" --version-stage AWSPREVIOUS --query SecretString

echo "# back, as a rollback does"
try update-secret-version-stage --version-stage AWSCURRENT --move-to-version-id $v2 --remove-from-version-id $v3
labels

echo "# v1 has no label any more: deprecated, listed only if asked for"
sm list-secret-version-ids --secret-id "$NAME" --query 'length(Versions)'
sm list-secret-version-ids --secret-id "$NAME" --include-deprecated --query 'length(Versions)'

echo "# a label brings a deprecated version back"
try update-secret-version-stage --version-stage OLD --move-to-version-id $v1
try update-secret-version-stage --version-stage OLD --remove-from-version-id $v1

echo "# stages of a put come from wherever they are, AWSCURRENT among them"
try put-secret-value --client-request-token $v4 --secret-string four --version-stages AWSCURRENT MINE
labels

echo "# update-secret makes its value current, and takes no token twice"
try update-secret --client-request-token $v5 --secret-string five
try update-secret --client-request-token $v5 --secret-string five
labels

echo "# all versions together have 20 labels"
# shellcheck disable=SC2046 # one word each
try put-secret-value --client-request-token $v9 --secret-string nine --version-stages $(seq -f L%g 18)
try put-secret-value --client-request-token $v9 --secret-string nine --version-stages $(seq -f L%g 17)
try update-secret-version-stage --version-stage L18 --move-to-version-id $v9
try update-secret-version-stage --version-stage L17 --move-to-version-id $v4 --remove-from-version-id $v9
