#!/bin/sh
# Deploys YAML, a keyturn.yaml, by the CDK: into the account of the credentials, or,
# where AWS_ENDPOINT_URL is of this machine, into the local AWS that runs there
# (keyturn up). That one is given the synthesized template; it has no cdk bootstrap
# and no CloudFormation, and a stack is deployed there once. CDK is the version of
# the CDK's command line.
set -eu
cd "$(dirname "$0")"
export KEYTURN_YAML="$YAML" CDK_DISABLE_CLI_TELEMETRY=true

case ${AWS_ENDPOINT_URL-} in
http://127.0.0.1:* | http://localhost:*) ;;
*) exec npx --yes "aws-cdk@$CDK" deploy --all --no-notices ;;
esac

out=$(cd ../.. && pwd)/bin/cdk
mkdir -p "$out"
go build -o "$out/app" .
rm -rf "$out/local"
account=$(aws sts get-caller-identity --query Account --output text)
KEYTURN_FUNCTIONS="$(cd ../../bin/local && pwd)" CDK_OUTDIR="$out/local" CDK_DEFAULT_ACCOUNT="$account" CDK_DEFAULT_REGION="$AWS_REGION" \
	CDK_CONTEXT_JSON="$(node -p 'JSON.stringify(require("./cdk.json").context)')" "$out/app"
for template in "$out"/local/*.template.json; do
	node --input-type=module -e '
const answer = await fetch(process.env.AWS_ENDPOINT_URL + "/_keyturn/deploy", {
	method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({template: process.argv[1]}),
})
const made = await answer.json()
if (!answer.ok) {
	console.error("keyturn: " + made.message)
	process.exit(1)
}
console.log("Outputs:")
for (const [name, value] of Object.entries(made.outputs).sort()) console.log(`${made.stack}.${name} = ${value}`)
' "$template"
done
