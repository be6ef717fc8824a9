package compile_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/account"
	"github.com/keyturn/keyturn/policy/compile"
)

const day = policy.Duration(24 * time.Hour)

// accountYAML has every key of the block deploy.
const accountYAML = `version: 1
deploy:
  name: turn
  zones:
    edge: {vpc: vpc-0123456789abcdef0, subnets: [subnet-0123456789abcdef0]}
    core:
      vpc: vpc-0123456789abcdef1
      subnets: [subnet-0123456789abcdef1, subnet-0123456789abcdef2]
      security_groups: [sg-0123456789abcdef0]
  audit: {retention: 2555d, lock: compliance}
  alarms: {topic: arn:aws:sns:eu-central-1:111122223333:pager}
  trail: arn:aws:cloudtrail:eu-central-1:111122223333:trail/main
  permissions_boundary: arn:aws:iam::111122223333:policy/team
  break_glass: [arn:aws:iam::111122223333:role/oncall-*]
  kms_keys: [arn:aws:kms:eu-central-1:111122223333:key/1]
secrets:
  - secret: orders/db
    kind: kmskey
    zone: core
    create: true
    kms_key: arn:aws:kms:eu-central-1:111122223333:key/2
    schedule: cron(0 H(20-20) H * ? *)
    schedule_window: 4h
  - secret: billing/db
    kind: kmskey
    zone: edge
`

// compiled writes a file and compiles it with kinds that read a secret and a file.
func compiled(t *testing.T, text string) (account.Account, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyturn.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	known := kinds()
	k := known["kmskey"]
	k.Needs = func(json.RawMessage) compile.Needs {
		return compile.Needs{Secrets: []string{"arn:admin"}, Files: []string{"ca.pem"}}
	}
	known["kmskey"] = k
	return compile.Account(path, known)
}

func TestAccount(t *testing.T) {
	t.Parallel()
	a, err := compiled(t, accountYAML)
	if err != nil {
		t.Fatal(err)
	}
	want := account.Deploy{
		Name: "turn",
		Zones: []account.Zone{
			{Name: "core", VPC: "vpc-0123456789abcdef1", Subnets: []string{"subnet-0123456789abcdef1", "subnet-0123456789abcdef2"}, SecurityGroups: []string{"sg-0123456789abcdef0"}},
			{Name: "edge", VPC: "vpc-0123456789abcdef0", Subnets: []string{"subnet-0123456789abcdef0"}},
		},
		Audit:               account.Audit{Retention: 2555 * day, Compliance: true},
		Topic:               "arn:aws:sns:eu-central-1:111122223333:pager",
		Trail:               "arn:aws:cloudtrail:eu-central-1:111122223333:trail/main",
		PermissionsBoundary: "arn:aws:iam::111122223333:policy/team",
		BreakGlass:          []string{"arn:aws:iam::111122223333:role/oncall-*"},
		Keys:                []string{"arn:aws:kms:eu-central-1:111122223333:key/1"},
	}
	if diff := cmp.Diff(want, a.Deploy); diff != "" {
		t.Errorf("deploy (-want +got):\n%s", diff)
	}
	if len(a.Secrets) != 2 {
		t.Fatalf("%d secrets", len(a.Secrets))
	}
	s := a.Secrets[0]
	if !s.Create || s.Key != "arn:aws:kms:eu-central-1:111122223333:key/2" || s.Zone != "core" || s.ScheduleWindow != policy.Duration(4*time.Hour) ||
		strings.Contains(s.Schedule, "H") || !strings.HasPrefix(s.Schedule, "cron(0 20 ") {
		t.Errorf("%+v", s)
	}
	if diff := cmp.Diff([][]string{{"arn:admin"}, {"ca.pem"}}, [][]string{s.Reads, s.Files}); diff != "" {
		t.Error(diff)
	}
	const arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:billing/db-AbCdEf"
	if zone, err := a.Policy.Zone(arn); zone != "edge" || err != nil {
		t.Errorf("zone %q, %v", zone, err)
	}
	if zone, err := a.Policy.Zone(strings.Replace(arn, "billing", "other", 1)); !fault.Is(err, fault.NotManaged) {
		t.Errorf("zone %q, %v", zone, err)
	}
	body := string(a.Policy.JSON())
	for _, deployed := range []string{"vpc-", "subnet-", "oncall", "create", "kms_key", "retention"} {
		if strings.Contains(body, deployed) {
			t.Errorf("the functions are told of %s: %s", deployed, body)
		}
	}
}

// A deployment that only differs in where it is has the same policy.
func TestTheBlockDeployIsntPartOfThePolicysHash(t *testing.T) {
	t.Parallel()
	const plain = "version: 1\nsecrets: [{secret: a, kind: kmskey}]\n"
	first, err := compiled(t, plain)
	if err != nil {
		t.Fatal(err)
	}
	second, err := compiled(t, plain+"deploy: {name: other}\n")
	if err != nil {
		t.Fatal(err)
	}
	if first.Policy.Hash() != second.Policy.Hash() {
		t.Error("the hash changed")
	}
	if diff := cmp.Diff(account.Defaults(), first.Deploy); diff != "" {
		t.Errorf("a file without the block (-want +got):\n%s", diff)
	}
}

func TestAccountErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		old, new string // what is changed in the whole file
		want     []string
	}{
		"name":                 {"name: turn", "name: Turn", []string{`k:3:3: deploy.name: "Turn" can't begin names; use 1 to 20 lower-case letters`}},
		"unknown key":          {"name: turn", "nam: turn", []string{"deploy.nam: unknown key; did you mean name?"}},
		"zone's name":          {"    edge:", "    Edge:", []string{`deploy.zones.Edge: "Edge" can't name a zone`, `secrets[1].zone: there is no zone "edge"; list it under deploy.zones, or use one of: Edge, core`}},
		"vpc":                  {"vpc-0123456789abcdef0", "vpc-1", []string{`deploy.zones.edge.vpc: "vpc-1" is no such id`}},
		"no subnets":           {"subnets: [subnet-0123456789abcdef0]", "subnets: []", []string{"deploy.zones.edge.subnets: 0 are listed; list 1 to 16"}},
		"subnet":               {"[subnet-0123456789abcdef0]", "[sg-0123456789abcdef0]", []string{`deploy.zones.edge.subnets[0]: "sg-0123456789abcdef0" is no such id`}},
		"group":                {"[sg-0123456789abcdef0]", "[sg-xyz]", []string{"deploy.zones.core.security_groups[0]: "}},
		"retention":            {"2555d", "36h", []string{"deploy.audit.retention: 1d12h isn't how long Object Lock can keep a record; use whole days"}},
		"lock":                 {"lock: compliance", "lock: compliant", []string{`deploy.audit.lock: "compliant" is no mode of Object Lock; did you mean compliance?`}},
		"topic":                {"arn:aws:sns:eu", "arn:aws:sqs:eu", []string{"deploy.alarms.topic: "}},
		"trail":                {"trail/main", "trail/", []string{"deploy.trail: "}},
		"boundary":             {"policy/team", "role/team", []string{"deploy.permissions_boundary: "}},
		"break glass":          {"role/oncall-*", "group/oncall", []string{`deploy.break_glass[0]: "arn:aws:iam::111122223333:group/oncall" is no ARN of a role or user`}},
		"an alias":             {"key/1", "alias/orders", []string{"deploy.kms_keys[0]: "}},
		"a secret's key":       {"key/2", "alias/orders", []string{"secrets[0].kms_key: "}},
		"no zone":              {"    zone: edge\n", "", []string{"secrets[1].zone: missing, and there are zones; say in which zone its targets are reached"}},
		"create what is there": {"secret: orders/db", "secret: arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders/db-AbCdEf", []string{"secrets[0].create: a secret that has an ARN exists already"}},
		"create as a text":     {"create: true", `create: "yes"`, []string{`secrets[0].create: true or false is expected, not the text "yes"`}},
		"window":               {"schedule_window: 4h", "schedule_window: 5h", []string{"secrets[0].schedule_window: 5h from 20 o'clock reaches into the next day (UTC)"}},
		"window of nothing":    {"    schedule: cron(0 H(20-20) H * ? *)\n", "", []string{"secrets[0].schedule_window: nothing is scheduled"}},
		"H of minutes":         {"cron(0 H(20-20)", "cron(H H(20-20)", []string{"secrets[0].schedule: minutes and year can't be H"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Count(accountYAML, tt.old) < 1 {
				t.Fatalf("%q isn't in the file", tt.old)
			}
			_, err := compile.Source("k", []byte(strings.Replace(accountYAML, tt.old, tt.new, 1)), kinds())
			if !fault.Is(err, fault.InvalidInput) {
				t.Fatalf("got %v", err)
			}
			lines := strings.Split(strings.TrimPrefix(err.Error(), "compiling the policy: "), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d errors, want %d:\n%v", len(lines), len(tt.want), err)
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("error %d:\n got %s\nwant %s", i, lines[i], want)
				}
			}
		})
	}
}
