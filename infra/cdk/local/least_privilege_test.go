package local_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/iam"
)

const leastPrivilegeYAML = `version: 1
function_limit: 5s
deploy:
  name: shop
  zones:
    core: {vpc: vpc-0123456789abcdef0, subnets: [subnet-0123456789abcdef0, subnet-0123456789abcdef1]}
  break_glass: ["arn:aws:iam::000000000000:user/oncall"]
  kms_keys: [%[5]s]
defaults:
  follow_key: %[6]s
  window: 1s
  poll: 1s
  quiet_polls: 1
  max_overlap: 1h
  hold: 3s
  head_limit: 20s
  failed_logins_per_hour: 20
secrets:
  - secret: orders/db
    kind: postgres
    zone: core
    kms_key: %[5]s
    schedule: rate(4 hours)
    schedule_window: 1h
    consumers: [{name: orders-api, cache: 1s, follow: ["%[7]s"]}]
    postgres: {hosts: ["%[3]s"], admin: %[4]s, root_ca_file: ca.pem}
  - secret: billing/db
    kind: postgres
    zone: core
    driver: machine
    kms_key: %[5]s
    consumers: [{name: billing-api, cache: 1s, follow: ["%[8]s"]}]
    postgres: {hosts: ["%[3]s"], admin: %[4]s, root_ca_file: ca.pem}
  - secret: %[1]s
    kind: postgres
    zone: core
    kms_key: %[5]s
    schedule: rate(4 hours)
    schedule_window: 1h
    consumers: [{name: stock-api, cache: 1s, follow: ["%[9]s"]}]
    postgres: {mode: pair, hosts: ["%[3]s"], admin: %[4]s, root_ca_file: ca.pem}
  - secret: %[2]s
    kind: postgres
    zone: core
    driver: machine
    kms_key: %[5]s
    consumers: [{name: prices-api, cache: 1s, follow: ["%[10]s"]}]
    postgres: {mode: pair, hosts: ["%[3]s"], admin: %[4]s, root_ca_file: ca.pem}
  - secret: returns/db
    kind: postgres
    zone: core
    kms_key: %[5]s
    schedule: rate(4 hours)
    schedule_window: 1h
    hold: 20s
    consumers: [{name: returns-api, cache: 1s, follow: ["%[11]s"]}]
    postgres: {hosts: ["%[3]s"], admin: %[4]s, root_ca_file: ca.pem, log_groups: [%[12]s]}
`

// Every call that a role makes is allowed by what is deployed, and a role is
// allowed nothing that no run needs.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	asked := &calls{asked: map[string]iam.Request{}}
	d, admin := stage(t, localstack.Options{OnCall: asked.add})
	keys := []string{d.key("values")}
	followKey := strings.Repeat("k", 32)
	signs := d.plain("keyturn/follow-key", followKey, keys[0])
	orders, billing := d.application("orders", keys[0], followKey), d.application("billing", keys[0], followKey)
	stock, prices := d.application("stock", keys[0], followKey), d.application("prices", keys[0], followKey)
	returns := d.application("returns", keys[0], followKey)
	all := []*follower{orders, billing, stock, prices, returns}
	d.exportsItsLog()
	d.deploy(fmt.Sprintf(leastPrivilegeYAML, stock.d.secret, prices.d.secret, d.cluster.Primary.Address(), admin, keys[0], signs,
		orders.url, billing.url, stock.url, prices.url, returns.url, serverLog))
	for _, f := range all {
		f.d.Stack = d.Stack
	}

	// Both drivers, and whatever can become of a rotation; both modes of logins.
	for _, f := range []*follower{orders, billing} {
		f.rotates()
		f.isTurnedBack()
		f.isRefused()
		f.isPaused()
		f.isStolen()
		f.isMovedBack()
		f.isStoredByHand()
		f.isDeclaredStolen()
	}
	orders.isAskedForAgain()
	billing.breaksOff()
	for _, f := range []*follower{stock, prices} {
		f.rotates()
		f.rotates()
	}
	returns.comesLate()
	// Twice: the second manifest follows from the first.
	d.aws.Clock.Advance(24 * time.Hour)
	d.within(time.Minute, func() bool { return asked.has("s3:PutObject", "/manifests/") }, d.logs.warnings)
	d.aws.Clock.Advance(24 * time.Hour)
	d.within(time.Minute, func() bool { return asked.has("s3:GetObject", "/manifests/") }, d.logs.warnings)

	for _, err := range asked.errs {
		t.Error(err)
	}
	q := d.policies(keys...)
	q.Calls = asked.list()
	unused := q.grants()
	named := "arn:aws:secretsmanager:" + awsproto.Region + ":" + awsproto.Account + ":secret:"
	driven := strings.NewReplacer(
		named+"orders/db-??????", "by store", named+"returns/db-??????", "by store", stock.d.secret, "by store", named+"billing/db-??????", "by machine", prices.d.secret, "by machine")
	used := map[grant]bool{}
	for i, v := range simulate(t, q) {
		c := q.Calls[i]
		if !v.Allowed {
			t.Errorf("%s isn't allowed %s on %s %v: %s", c.Principal, c.Action, c.Resource, c.Context, v.Why)
		}
		for _, g := range v.Used {
			g.Role = c.Principal
			delete(unused, g)
			g.Resource = driven.Replace(g.Resource)
			used[g] = true
		}
	}
	for _, g := range slices.SortedFunc(maps.Keys(unused), compare) {
		like := g // done to another secret that the same driver rotates
		like.Resource = driven.Replace(g.Resource)
		if !used[like] && !excepted(g) {
			t.Errorf("nothing has used what %s may do: %s on %s (%s)", g.Role, g.Action, g.Resource, g.Statement)
		}
	}
	t.Logf("%d different calls by %d roles", len(q.Calls), len(q.Roles))
}

// exception is a right that no run here has used, and why a role has it.
type exception struct {
	functions string // folders, or "" for any
	actions   string // the beginnings of actions
	resource  string // what its resource ends in; "" for any
	why       string
}

// ofAWS are used by AWS's services with a function's role, and not by its code.
var ofAWS = []exception{
	{"", "logs:CreateLogStream logs:PutLogEvents", ":*", "Lambda writes the function's log"},
	{"rotation emergency", "logs:", "*", "Step Functions sets up the delivery of its log"},
	{"", "ec2:", "*", "Lambda puts the function into the VPC; another statement denies them to its code"},
	{"watchdog audit lateLogin", "sqs:SendMessage kms:Decrypt kms:GenerateDataKey", "", "Lambda keeps an event that the function has failed on"},
}

// ofRareRuns are for what comes too seldom, or too late, to be waited for here; the
// tests of package rotation go these ways.
var ofRareRuns = []exception{
	{"abortSecret cutSecret disableSecret drainCheck revokeSecret rollback watchdog", "s3:PutObject s3:GetObject", "/heads/*",
		"what takes a stolen credential away doesn't wait for the trail: the first record that S3 takes begins the chain"},
	{"lateLogin", "s3:PutObject s3:GetObject", "/heads/*",
		"a login tried just after somebody has stored another by hand: its record may begin that one's chain"},
	{"rotateSecret setSecret", "s3:GetObject", "/evidence/*",
		"the standby of a pair that an AWS sample has left alive is drained first, by its consumers' own reports, too"},
	{"", "s3:PutObject", "/refusals/*", "a password that the server refuses is counted by whichever step has sent it"},
	{"adoptSecret disableSecret drainCheck emergency revokeSecret watchdog", "secretsmanager:RotateSecret lambda:InvokeFunction", "",
		"a run that hands have overtaken ends at any step, and asks for the rotation that has waited for it"},
	{"createSecret", "secretsmanager:UpdateSecretVersionStage", "", "a version that Secrets Manager has left behind is promoted if it alone works"},
	{"drainCheck", "secretsmanager:UpdateSecretVersionStage", "", "the labels of a login go that somebody has stored again meanwhile"},
	{"setSecret testSecret", "secretsmanager:UpdateSecretVersionStage", "", "KEYTURN_LIVE is put on again where a hand has taken it off"},
	{"emergency watchdog", "states:StopExecution", "", "a run that isn't in haste is stopped in an emergency"},
	{"rotation", "states:StartExecution", "", "an execution whose history is nearly full hands over"},
}

// excepted reports a right that one of the lists names.
func excepted(g grant) bool {
	for _, e := range slices.Concat(ofAWS, ofRareRuns) {
		functions, actions := strings.Fields(e.functions), strings.Fields(e.actions)
		is := len(functions) == 0 || slices.ContainsFunc(functions, func(f string) bool { return strings.Contains(g.Role, f+"Role") })
		if is && strings.HasSuffix(g.Resource, e.resource) && slices.ContainsFunc(actions, func(a string) bool { return strings.HasPrefix(g.Action, a) }) {
			return true
		}
	}
	return false
}

func compare(a, b grant) int {
	return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Action, b.Action), strings.Compare(a.Resource, b.Resource))
}
