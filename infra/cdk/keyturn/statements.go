package keyturn

import (
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/policy/account"
	"github.com/keyturn/keyturn/rotation"
)

// Where things lie in the audit bucket (package audit).
const (
	recordsPrefix   = "records/"
	headsPrefix     = "heads/"
	refusalsPrefix  = "refusals/"
	evidencePrefix  = "evidence/"
	manifestsPrefix = "manifests/"
	// The party of whoever tries a login that is held (rotation.LateParty), under any
	// version of any secret.
	latePrefix = evidencePrefix + "*/" + rotation.LateParty + "/"
)

var prefixes = map[Target][]string{
	Trail: {recordsPrefix, headsPrefix}, Records: {recordsPrefix}, Refusals: {refusalsPrefix}, Evidence: {evidencePrefix}, LateEvidence: {latePrefix}, Manifests: {manifestsPrefix},
}

// scope is what the targets of the table stand for, for one function.
type scope struct {
	secrets  []account.Secret
	rotators []string // aliases
	machines []string // ARNs
	runs     []string // ARN patterns
	log      string   // the log group's ARN
	self     string   // the function's ARN, without a version
	network  bool     // it lies in a VPC
	// deadLetters is the queue's ARN to which Lambda sends what the function has
	// failed on, with the function's role; empty: none.
	deadLetters string
}

// statements turn the table's rows for a function into its role's policy. Each
// secret is named once, with all that may be done to it: a role's policies have
// 10,240 characters.
func (b *builder) statements(function string, s scope) []statement {
	var all []statement
	objects := map[string][]string{} // prefixes by action
	values := map[bool][]string{}    // actions on secrets, by whether Secrets Manager drives them
	keys := keyring{}
	s.secrets = handled(function, s.secrets)
	for _, p := range permissions[function] {
		b.collect(keys, p, s.secrets)
		switch at, stored := prefixes[p.To]; {
		case stored:
			for _, action := range p.Actions {
				objects[action] = append(objects[action], at...)
			}
		case p.To == Managed, p.To == ByStore, p.To == ByMachine:
			for _, byStore := range []bool{true, false} {
				if p.To == Managed || byStore == (p.To == ByStore) {
					values[byStore] = append(values[byStore], p.Actions...)
				}
			}
		default:
			one := statement{sid: sid(p.To), actions: p.Actions, resources: b.resources(p.To, s)}
			if p.To == Bus {
				one.condition = equals("events:source", EventSource)
			}
			all = append(all, one)
		}
	}
	for _, driven := range []Target{ByStore, ByMachine} {
		if actions := values[driven == ByStore]; len(actions) > 0 {
			all = append(all, statement{sid: sid(driven), actions: actions, resources: b.secretARNs(chosen(driven, s.secrets))})
		}
	}
	all = append(all, b.bucketStatements(objects)...)
	all = append(all, b.keyStatements(keys)...)
	all = append(all, statement{sid: "Logs", actions: []string{"logs:CreateLogStream", "logs:PutLogEvents"}, resources: []string{s.log}})
	if s.deadLetters != "" {
		all = append(all, b.deadLetters(s.deadLetters)...)
	}
	if s.network {
		all = append(all, network(s.self)...)
	}
	return all
}

// sid makes a statement's id of a target: it has letters and digits only.
func sid(t Target) string {
	var out strings.Builder
	for word := range strings.SplitSeq(string(t), "-") {
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}

// resources are the ARNs of a target. Nothing there is no permission at all.
func (b *builder) resources(t Target, s scope) []string {
	switch t {
	case Read:
		return reads(s.secrets)
	case FollowKeys:
		return followKeys(s.secrets)
	case Rotator:
		if len(chosen(ByStore, s.secrets)) == 0 {
			return nil
		}
		return s.rotators
	case Machines:
		return s.machines
	case Runs:
		return s.runs
	case Bus:
		return []string{b.arn("events", "event-bus/default")}
	case SigningKey:
		return []string{b.signingKey}
	case Everything:
		return []string{"*"}
	}
	return nil
}

func (b *builder) secretARNs(secrets []account.Secret) []string {
	arns := make([]string, 0, len(secrets))
	for _, s := range secrets {
		arns = append(arns, b.secretARN(s))
	}
	return arns
}

// handled are the secrets that a function has to do with, by its rows: who acts on
// those that one driver rotates reads nothing that the others need.
func handled(function string, secrets []account.Secret) []account.Secret {
	var some []account.Secret
	for _, s := range secrets {
		if slices.ContainsFunc(permissions[function], func(p Permission) bool { return p.means(s) }) {
			some = append(some, s)
		}
	}
	return some
}

// means reports a row for a secret that is rotated.
func (p Permission) means(s account.Secret) bool {
	byStore := s.Driver == rotation.DriverSecretsManager
	return p.To == Managed || p.To == ByStore && byStore || p.To == ByMachine && !byStore
}

// chosen are the secrets that a target means.
func chosen(t Target, secrets []account.Secret) []account.Secret {
	var some []account.Secret
	for _, s := range secrets {
		if (Permission{To: t}).means(s) {
			some = append(some, s)
		}
	}
	return some
}

// reads and followKeys are sorted and have each ARN once.
func reads(secrets []account.Secret) []string {
	arns := map[string]bool{}
	for _, s := range secrets {
		for _, arn := range s.Reads {
			arns[arn] = true
		}
	}
	return slices.Sorted(maps.Keys(arns))
}

func followKeys(secrets []account.Secret) []string {
	arns := map[string]bool{}
	for _, s := range secrets {
		for _, c := range s.Consumers {
			if c.FollowKey != "" {
				arns[c.FollowKey] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(arns))
}

// keyring is, for each KMS key, the secrets whose values are read and written
// under it.
type keyring map[string]struct{ read, written map[string]bool }

func (k keyring) note(key, secret string, written bool) {
	if key == "" {
		return // AWS's own key for Secrets Manager: its policy lets the account's roles
	}
	if _, ok := k[key]; !ok {
		k[key] = struct{ read, written map[string]bool }{map[string]bool{}, map[string]bool{}}
	}
	k[key].read[secret] = true
	if written {
		k[key].written[secret] = true
	}
}

// collect notes which keys a row needs.
func (b *builder) collect(k keyring, p Permission, secrets []account.Secret) {
	writes := slices.Contains(p.Actions, putValue)
	if !writes && !slices.Contains(p.Actions, getValue) {
		return
	}
	switch p.To {
	case Managed, ByStore, ByMachine:
		for _, s := range chosen(p.To, secrets) {
			k.note(s.Key, b.secretARN(s), writes)
		}
	case Read, FollowKeys:
		arns := reads(secrets)
		if p.To == FollowKeys {
			arns = followKeys(secrets)
		}
		for _, arn := range arns {
			if own, managed := b.keyOf(arn); managed {
				k.note(own, arn, false)
				continue
			}
			for _, key := range b.account.Deploy.Keys { // which of them isn't said
				k.note(key, arn, false)
			}
		}
	}
}

// keyOf is the key of a secret that is read here and managed here, too.
func (b *builder) keyOf(arn string) (key string, managed bool) {
	for _, s := range b.account.Secrets {
		if s.Secret == arn {
			return s.Key, true
		}
	}
	return "", false
}

// keyStatements let keys be used through Secrets Manager only, and for these
// secrets only: the encryption context names the secret (user guide, "Secret
// encryption and decryption").
func (b *builder) keyStatements(k keyring) []statement {
	var all []statement
	for _, key := range slices.Sorted(maps.Keys(k)) {
		read, written := slices.Sorted(maps.Keys(k[key].read)), slices.Sorted(maps.Keys(k[key].written))
		if slices.Equal(read, written) {
			all = append(all, b.keyUse(key, read, "kms:Decrypt", "kms:GenerateDataKey"))
			continue
		}
		all = append(all, b.keyUse(key, read, "kms:Decrypt"))
		if len(written) > 0 {
			all = append(all, b.keyUse(key, written, "kms:GenerateDataKey"))
		}
	}
	return all
}

func (b *builder) keyUse(key string, secrets []string, actions ...string) statement {
	return statement{
		actions: actions, resources: []string{key},
		condition: map[string]any{
			"StringEquals": map[string]any{"kms:ViaService": "secretsmanager." + b.region + "." + b.suffix},
			"StringLike":   map[string]any{"kms:EncryptionContext:SecretARN": texts(secrets)},
		},
	}
}

// bucketStatements grant objects by prefix, and the listing of those prefixes.
func (b *builder) bucketStatements(objects map[string][]string) []statement {
	var all []statement
	for _, action := range slices.Sorted(maps.Keys(objects)) {
		at := slices.Compact(slices.Sorted(slices.Values(objects[action])))
		if action == listBucket {
			var like []string
			for _, p := range at {
				like = append(like, p+"*")
			}
			all = append(all, statement{
				actions: []string{action}, resources: []string{b.bucketARN},
				condition: map[string]any{"StringLike": map[string]any{"s3:prefix": texts(like)}},
			})
			continue
		}
		var arns []string
		for _, p := range at {
			arns = append(arns, b.bucketARN+"/"+p+"*")
		}
		all = append(all, statement{actions: []string{action}, resources: arns})
	}
	return all
}

// networkActions are Lambda's own, by which it puts a function into a VPC
// (developer guide, "Required IAM permissions"). They know no resource that could
// be named beforehand.
var networkActions = []string{
	"ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
	"ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
}

// network grants them to Lambda and denies them to the function's code: only its
// own calls carry lambda:SourceFunctionArn (developer guide, "Security best
// practices" of VPC access).
func network(function string) []statement {
	return []statement{
		{sid: "Network", actions: networkActions, resources: []string{"*"}},
		{
			sid: "NetworkNotByCode", deny: true, actions: networkActions, resources: []string{"*"},
			condition: map[string]any{"ArnEquals": map[string]any{"lambda:SourceFunctionArn": function}},
		},
	}
}

// deadLetters is for Lambda, which puts failed events there with the function's
// rights (developer guide, "Adding a destination").
func (b *builder) deadLetters(queue string) []statement {
	return []statement{
		{sid: "DeadLetters", actions: []string{"sqs:SendMessage"}, resources: []string{queue}},
		{
			sid: "DeadLettersKey", actions: []string{"kms:Decrypt", "kms:GenerateDataKey"}, resources: []string{b.key},
			condition: equals("kms:ViaService", "sqs."+b.region+"."+b.suffix),
		},
	}
}
