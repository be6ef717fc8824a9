#!/bin/sh
# The life of an audit bucket by the AWS CLI, as an operator would type it. Its
# output is compared with audit.golden: version ids are v1, v2, …, and of an
# error the code that AWS documents.
#
#   BUCKET=keyturn-audit ENDPOINT=http://127.0.0.1:4566 sh audit.sh
#
# On a real account it leaves a bucket with two objects that are kept for a day.
set -eu
: "${BUCKET:?the name of a bucket that does not exist yet}"

s3() {
	aws ${ENDPOINT:+--endpoint-url "$ENDPOINT"} --output json s3api "$@" --bucket "$BUCKET"
}

# try prints a command, and "ok" or the error's code.
try() {
	echo "\$ $*" | sed "s/$v1/v1/g; s/$v2/v2/g; s|$dir/||g"
	if s3 "$@" >/dev/null 2>"$errors"; then
		echo ok
	else
		sed -n 's/.*An error occurred (\([A-Za-z0-9]*\)).*/\1/p' "$errors" | grep . || cat "$errors"
	fi
}

v1=none1 v2=none2
dir=$(mktemp -d)
errors=$dir/errors
trap 'rm -rf "$dir"' EXIT
printf one >"$dir/one"
printf two >"$dir/two"

echo "# a bucket with Object Lock, kept for a day by default"
try create-bucket --object-lock-enabled-for-bucket
try create-bucket --object-lock-enabled-for-bucket
s3 get-bucket-versioning --query Status
try put-object-lock-configuration --object-lock-configuration \
	'{"ObjectLockEnabled":"Enabled","Rule":{"DefaultRetention":{"Mode":"COMPLIANCE","Days":1}}}'
try put-bucket-versioning --versioning-configuration Status=Suspended

echo "# its policy: records are only ever added"
cat >"$dir/policy" <<EOF
{"Version":"2012-10-17","Statement":[
  {"Sid":"TLS","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::$BUCKET","arn:aws:s3:::$BUCKET/*"],
   "Condition":{"Bool":{"aws:SecureTransport":"false"}}},
  {"Sid":"Append","Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::$BUCKET/records/*",
   "Condition":{"Null":{"s3:if-none-match":"true"}}}]}
EOF
try put-bucket-policy --policy "file://$dir/policy"

echo "# a record is written once"
try put-object --key records/1 --body "$dir/one"
try put-object --key records/1 --body "$dir/one" --if-none-match '*'
try put-object --key records/1 --body "$dir/two" --if-none-match '*'
v1=$(s3 head-object --key records/1 --query VersionId | tr -d '"')

echo "# and stays"
try get-object --key records/1 --version-id "$v1" "$dir/read"
cat "$dir/read"
echo
try delete-object --key records/1 --version-id "$v1"
try delete-object --key records/1 --version-id "$v1" --bypass-governance-retention
s3 get-object-retention --key records/1 --query Retention.Mode
try delete-object --key records/1
try get-object --key records/1 "$dir/read"
try get-object --key records/1 --version-id "$v1" "$dir/read"

echo "# elsewhere a write needs no condition"
try put-object --key manifests/1 --body "$dir/two" --checksum-algorithm SHA256
v2=$(s3 head-object --key manifests/1 --query VersionId | tr -d '"')
try head-object --key manifests/1 --version-id "$v2" --checksum-mode ENABLED
s3 list-objects-v2 --delimiter / --query 'CommonPrefixes[].Prefix'
s3 list-objects-v2 --prefix manifests/ --query 'Contents[].[Key,Size]'
s3 list-object-versions --query '[length(Versions),length(DeleteMarkers)]'

echo "# what the local S3 doesn't model is refused"
try put-object-tagging --key manifests/1 --tagging 'TagSet=[{Key=a,Value=b}]'
