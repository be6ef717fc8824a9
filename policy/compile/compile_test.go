package compile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
)

var update = flag.Bool("update", false, "write the golden files anew")

// kinds has one kind that asks for hosts, and one that takes nothing.
func kinds() map[string]compile.Kind {
	return map[string]compile.Kind{
		"postgres": {
			Defaults: rotation.Policy{Window: 30 * time.Minute, Hold: 24 * time.Hour, MaxOverlap: 48 * time.Hour},
			Validate: func(raw json.RawMessage) error {
				var s map[string]json.RawMessage
				if err := json.Unmarshal(raw, &s); err != nil {
					return err
				}
				var errs []error
				if len(s["hosts"]) == 0 {
					errs = append(errs, errors.New(`setting "hosts" is missing`))
				}
				if bytes.Contains(s["mode"], []byte("odd")) {
					errs = append(errs, errors.New(`setting "mode" must be fresh or pair`))
				}
				return fault.Wrap(fault.InvalidInput, errors.Join(errs...), "postgres settings")
			},
		},
		"kmskey": {},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			doc, err := compile.File(name, kinds())
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, doc.JSON(), "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			golden := strings.TrimSuffix(name, ".yaml") + ".json"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("compiled document (-want +got):\n%s", diff)
			}
			roundTrip(t, doc, want)
		})
	}
}

// roundTrip checks that the indented golden file gives the same policies and hash.
func roundTrip(t *testing.T, doc policy.Document, golden []byte) {
	t.Helper()
	again, err := policy.Parse(golden)
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash() != doc.Hash() {
		t.Errorf("hash %s became %s", doc.Hash(), again.Hash())
	}
	for _, s := range doc.Secrets() {
		arn := s
		if !policy.IsARN(s) {
			arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:" + s + "-Zz09Aa"
		}
		before, err1 := doc.Policy(arn)
		after, err2 := again.Policy(arn)
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: %v, %v", arn, err1, err2)
		}
		var p, q any
		if json.Unmarshal(before.Settings, &p) != nil || json.Unmarshal(after.Settings, &q) != nil {
			t.Fatal("settings aren't JSON")
		}
		before.Settings, after.Settings = nil, nil
		if diff := cmp.Diff(before, after) + cmp.Diff(p, q); diff != "" {
			t.Errorf("policy of %s after a round trip:\n%s", arn, diff)
		}
	}
}

func TestDefaultsGoFromFileToKindToPackage(t *testing.T) {
	t.Parallel()
	text := "version: 1\ndefaults: {hold: 5h}\nsecrets: [{secret: s, kind: postgres, drain: {poll: 7s}, postgres: {hosts: [h]}}]\n"
	doc, err := compile.Source("keyturn.yaml", []byte(text), kinds())
	if err != nil {
		t.Fatal(err)
	}
	p, err := doc.Policy("arn:aws:secretsmanager:eu-central-1:111122223333:secret:s-AbCdEf")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(p.Poll, p.Hold, p.Window, p.QuietPolls, p.FunctionLimit, p.Driver)
	if want := fmt.Sprint(7*time.Second, 5*time.Hour, 30*time.Minute, 3, time.Minute, "secretsmanager"); got != want {
		t.Errorf("got %s; want %s: the secret's poll, the file's hold, the kind's window, the package's rest", got, want)
	}
}

func TestStuckLimitsFollowFromTheRest(t *testing.T) {
	t.Parallel()
	type limits = policy.Stuck
	hours := func(head, drain, revoke time.Duration) limits {
		return limits{Head: policy.Duration(head), Drain: policy.Duration(drain), Revoke: policy.Duration(revoke)}
	}
	for name, tt := range map[string]struct {
		defaults, keys string
		want           limits
	}{
		"a database's":      {"", "head_limit: 15m", hours(30*time.Minute, time.Hour, 48*time.Hour+24*time.Hour+30*time.Minute)},
		"a slow head":       {"", "head_limit: 2h", hours(4*time.Hour, time.Hour, 72*time.Hour+30*time.Minute)},
		"a slow consumer":   {"", "consumers: [{name: a, cadence: 24h}]", hours(time.Hour, 48*time.Hour+30*time.Minute, 72*time.Hour+30*time.Minute)},
		"a file's":          {"stuck: {drain: 3h}", "head_limit: 15m", hours(30*time.Minute, 3*time.Hour, 72*time.Hour+30*time.Minute)},
		"its own":           {"stuck: {drain: 3h}", "stuck: {head: 45m, drain: 4h, revoke: 30h}", hours(45*time.Minute, 4*time.Hour, 30*time.Hour)},
		"a drain for weeks": {"", "stuck: {drain: 30d}", hours(time.Hour, 30*24*time.Hour, 30*24*time.Hour)},
		"ten years":         {"", "head_limit: 3650d", hours(policy.MaxDuration, time.Hour, 72*time.Hour+30*time.Minute)},
	} {
		text := "version: 1\ndefaults: {poll: 60s, " + tt.defaults + "}\nsecrets:\n- secret: s\n  kind: postgres\n  postgres: {hosts: [h]}\n  " + tt.keys + "\n"
		doc, err := compile.Source("keyturn.yaml", []byte(text), kinds())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, doc.Entries()[0].Stuck); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if again, err := policy.Parse(doc.JSON()); err != nil || again.Hash() != doc.Hash() {
			t.Errorf("%s: the document isn't read: %v", name, err)
		}
	}
}

// A document of a release that knew no stuck limits works: they follow from the
// rest, as they would if it were compiled anew.
func TestADocumentWithoutStuckLimitsWorks(t *testing.T) {
	t.Parallel()
	doc, err := compile.File("testdata/minimal.yaml", kinds())
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := json.Unmarshal(doc.JSON(), &raw); err != nil {
		t.Fatal(err)
	}
	delete(raw["secrets"].([]any)[0].(map[string]any), "stuck") //nolint:forcetypeassert // our own document
	text, err := json.Marshal(raw)
	if err != nil || bytes.Contains(text, []byte("stuck")) {
		t.Fatal(string(text), err)
	}
	old, err := policy.Parse(text)
	if err != nil || bytes.Contains(old.JSON(), []byte("stuck")) {
		t.Fatalf("%s, %v", old.JSON(), err)
	}
	arn := doc.Secrets()[0]
	if !policy.IsARN(arn) {
		arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:" + arn + "-Zz09Aa"
	}
	before, err1 := old.Policy(arn)
	after, err2 := doc.Policy(arn)
	if err1 != nil || err2 != nil || before.Limits() != after.Limits() || before.Limits().Head == 0 {
		t.Errorf("limits %+v and %+v, %v, %v", before.Limits(), after.Limits(), err1, err2)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:"
	const key = arn + "follow-key-AbCdEf"
	head := "version: 1\nsecrets:\n- secret: orders/db\n  kind: postgres\n  postgres: {hosts: [h]}\n"
	tests := map[string]struct {
		text string
		want []string // one line each, with its position
	}{
		"too long":       {strings.Repeat("#\n", 1<<19) + head, []string{"k:1:1: longer than 1048576 bytes; deploy"}},
		"empty":          {"", []string{"k:1:1: the file is empty; write version: 1 and the secrets"}},
		"syntax":         {"a: [", []string{"k:1:4: no valid YAML"}},
		"two documents":  {"version: 1\n---\nversion: 1\n", []string{"k:3:1: a second document begins here"}},
		"not a mapping":  {"- 1\n", []string{"k:1:1: a mapping is expected, not a list", "k:1:1: version: missing"}},
		"no version":     {strings.TrimPrefix(head, "version: 1\n"), []string{"k:1:1: version: missing; write version: 1 at the top"}},
		"other version":  {strings.Replace(head, "1", "2", 1), []string{"k:1:1: version: this release reads version 1 only"}},
		"quoted version": {strings.Replace(head, "1", `"1"`, 1), []string{`k:1:1: version: a whole number is expected, not the text "1"`}},
		"no secrets":     {"version: 1\n", []string{"k:1:1: secrets: no secret is listed; list at least one"}},
		"unknown key": {head + "  holdd: 1h\n", []string{
			"k:6:3: secrets[0].holdd: unknown key; did you mean hold?"}},
		"unknown key far from any": {head + "  zzzzzzzzzzzz: 1\n", []string{"k:6:3: secrets[0].zzzzzzzzzzzz: unknown key; there are secret, kind"}},
		"key of defaults": {"defaults: {on_timeout: hold}\n" + head, []string{
			"k:1:12: defaults.on_timeout: unknown key; did you mean on_drain_timeout?"}},
		"another kind's block": {head + "  kmskey: {a: 1}\n", []string{"k:6:3: secrets[0].kmskey: unknown key"}},
		"unknown kind": {"version: 1\nsecrets: [{secret: a, kind: postgre, postgre: {hosts: []}}]\n", []string{
			`k:2:23: secrets[0].kind: "postgre" is no kind of credential; did you mean postgres?`}},
		"unknown kind, right block": {"version: 1\nsecrets: [{secret: a, kind: postgrs, postgres: {hosts: []}}]\n", []string{
			`k:2:23: secrets[0].kind: "postgrs" is no kind of credential; did you mean postgres?`}},
		"key twice":      {head + "  kind: postgres\n", []string{"k:6:3: no valid YAML: mapping key \"kind\" already defined"}},
		"anchor":         {head + "  hold: &h 1h\n", []string{"k:6:3: secrets[0].hold: anchors and aliases aren't taken"}},
		"merge":          {head + "  <<: {hold: 1h}\n", []string{"secrets[0]: << isn't a key"}},
		"tag":            {head + "  hold: !!str 1h\n", []string{"k:6:3: secrets[0].hold: tags aren't taken"}},
		"empty value":    {head + "  drain:\n", []string{"k:6:3: secrets[0].drain: empty; give it a value or leave the key out"}},
		"number as time": {head + "  hold: 90\n", []string{"k:6:3: secrets[0].hold: a duration is expected, not the number 90; add its unit"}},
		"unknown unit":   {head + "  drain: {window: 2w}\n", []string{`k:6:11: secrets[0].drain.window: "2w" is not a duration`}},
		"several at once": {head + "  drain: {poll: 0s, quiet_polls: 0, on_timeout: wait}\n  driver: lambda\n", []string{
			"k:6:11: secrets[0].drain.poll: 0s is too short; use 1s or more",
			"k:6:21: secrets[0].drain.quiet_polls: 0 is out of range",
			`k:6:37: secrets[0].drain.on_timeout: "wait" is unknown; use hold or terminate`,
			`k:7:3: secrets[0].driver: "lambda" is no driver; use secretsmanager or machine`,
		}},
		"stuck limits": {head + "  hold: 2h\n  stuck: {head: 29m, drain: 29m, revoke: 2h}\n  head_limit: 30m\n", []string{
			"k:7:11: secrets[0].stuck.head: 29m is shorter than 30m, head_limit, within which a rotation may still succeed; use 30m or more, or leave it out",
			"k:7:22: secrets[0].stuck.drain: 29m is shorter than 30m, which the evidence of a drain needs",
			"k:7:34: secrets[0].stuck.revoke: 2h is shorter than 2h30m, which the evidence of a drain and hold need"}},
		"stuck limits in their order": {head + "  hold: 0s\n  stuck: {drain: 5h, revoke: 4h}\n", []string{
			"secrets[0].stuck.revoke: 4h is shorter than the 5h of drain, which comes before it; use as much as for drain, or more"}},
		"stuck at once":   {"defaults: {stuck: {head: 0s}}\n" + head, []string{"k:1:20: defaults.stuck.head: every rotation would be stuck at once; leave it out"}},
		"a phase unknown": {head + "  stuck: {tail: 1h}\n", []string{"k:6:11: secrets[0].stuck.tail: unknown key"}},
		"overlap below the floor": {head + "  consumers: [{name: a, cadence: 3d}]\n", []string{
			"secrets[0].drain.max_overlap: 2d is shorter than the least overlap, 3d"}},
		"consumers": {head + "  consumers: [{name: a b}, {cache: 1m}, {name: a}, {name: a, wave: 2}, 7]\n", []string{
			`secrets[0].consumers[0].name: "a b" can't name a consumer`,
			"k:6:28: secrets[0].consumers[1].name: missing",
			"secrets[0].consumers[3].name: consumers[2] has the same name",
			"secrets[0].consumers[3].wave: nothing follows in waves",
			"secrets[0].consumers[4]: a mapping is expected, not the number 7",
		}},
		"follow": {head + "  consumers: [{name: a, wave: 0, follow: [ftp://h/x, 'https:///x', 'https://u:p@h/', 'https://h/#f', 'https://h', 'https://h']}]\n", []string{
			"k:6:25: secrets[0].consumers[0].wave: 0 is out of range",
			"follow[0]: no http or https URL", "follow[1]: no http or https URL", "follow[2]: the URL holds a login",
			"follow[3]: the URL has a fragment", "follow[5]: secrets[0].consumers[0].follow[4] is the same URL",
		}},
		"follow_key": {head + "  consumers: [{name: a, follow: ['https://h'], follow_key: hunter2}, {name: b, follow_key: '" + key + "'}, {name: c, follow: ['https://i'], folow_key: x}]\n", []string{
			"k:6:48: secrets[0].consumers[0].follow_key: no ARN of a secret; store the key in a secret of its own and copy that secret's full ARN",
			"k:6:80: secrets[0].consumers[1].follow_key: nothing is told, so nothing is signed; leave it out, or list URLs under follow",
			"secrets[0].consumers[2].folow_key: unknown key; did you mean follow_key?",
		}},
		"follow_key of other types": {head + "  consumers: [{name: a, follow: ['https://h'], follow_key: [x]}, {name: b, follow: ['https://i'], follow_key: ''}]\n", []string{
			"secrets[0].consumers[0].follow_key: a text is expected, not a list",
			"secrets[0].consumers[1].follow_key: no ARN of a secret",
		}},
		"follow_key that is rotated": {head + "  consumers: [{name: a, follow: ['https://h'], follow_key: '" + arn + "orders/db-AbCdEf'}]\n", []string{
			"k:6:48: secrets[0].consumers[0].follow_key: secrets[0] is rotated here: its value is a credential and no key; store the key in a secret of its own"}},
		"follow_key of the defaults": {"defaults: {follow_key: hunter2}\n" + head + "  consumers: [{name: a, follow: ['https://h']}, {name: b, follow: ['https://i']}]\n", []string{
			"k:1:12: defaults.follow_key: no ARN of a secret; store the key in a secret of its own"}},
		"consumers without end": {head + "  consumers:" + manyConsumers(501), []string{
			"k:6:3: secrets[0].consumers: 501 are listed; list 500 or fewer"}},
		"same secret twice": {head + "- secret: arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders/db-AbCdEf\n  kind: kmskey\n", []string{
			"k:6:3: secrets[1].secret: secrets[0] is the same secret; list each secret once"}},
		"short ARN": {"version: 1\nsecrets: [{secret: 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:db', kind: kmskey}]\n", []string{
			"is no ARN of a secret; copy the full ARN"}},
		"nothing in an item": {"version: 1\nsecrets: [{}]\n", []string{
			"secrets[0].secret: missing; give its ARN", "secrets[0].kind: missing"}},
		"schedule too often": {head + "  schedule: rate(3 days)\n", []string{
			"k:6:3: secrets[0].schedule: two rotations can be 3d apart, less than"}},
		"schedule of the machine": {head + "  schedule: rate(90 days)\n  driver: machine\n", []string{
			"k:6:3: secrets[0].schedule: Secrets Manager schedules only secrets that it drives"}},
		"kind's own complaints": {"version: 1\nsecrets:\n- secret: a\n  kind: postgres\n  postgres:\n    mode: odd\n", []string{
			`k:5:3: secrets[0].postgres: setting "hosts" is missing; see the settings of postgres`,
			`k:6:5: secrets[0].postgres.mode: setting "mode" must be fresh or pair`,
		}},
		"settings for a kind that has none": {"version: 1\nsecrets: [{secret: a, kind: kmskey, kmskey: {a: 1}}]\n", []string{
			"secrets[0].kmskey: this kind has no settings"}},
		"settings that are no mapping": {"version: 1\nsecrets: [{secret: a, kind: postgres, postgres: [1]}]\n", []string{
			"secrets[0].postgres: a mapping is expected, not a list"}},
		"a number that JSON can't keep": {"version: 1\nsecrets: [{secret: a, kind: postgres, postgres: {hosts: [h], n: 12345678901234567890}}]\n", []string{
			"secrets[0].postgres.n: the number 12345678901234567890 is too large"}},
		"failed_logins_per_hour": {"defaults: {failed_logins_per_hour: many}\n" + head + "  failed_logins_per_hour: 21\n- {secret: b, kind: kmskey, failed_logins_per_hour: 0}\n", []string{
			"k:1:12: defaults.failed_logins_per_hour: a whole number is expected",
			"secrets[0].failed_logins_per_hour: 21 is out of range; use 1 to 20",
			"secrets[1].failed_logins_per_hour: 0 is out of range; use 1 to 20",
		}},
		"function_limit": {"function_limit: 1h\n" + head, []string{"k:1:1: function_limit: 1h is out of range; set it to the functions' time-out"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := compile.Source("k", []byte(test.text), kinds())
			if !fault.Is(err, fault.InvalidInput) {
				t.Fatalf("got %v, want %s", err, fault.InvalidInput)
			}
			lines := strings.Split(strings.TrimPrefix(err.Error(), "compiling the policy: "), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("%d errors, want %d:\n%v", len(lines), len(test.want), err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error repeats what may be a key: %v", err)
			}
			for i, want := range test.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("error %d:\n got %s\nwant %s", i, lines[i], want)
				}
			}
		})
	}
}

func manyConsumers(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "\n  - {name: c%d}", i)
	}
	return text.String() + "\n"
}

func TestErrorsAreValues(t *testing.T) {
	t.Parallel()
	_, err := compile.Source("k", []byte("version: 1\nsecrets: [{secret: a, kind: kmskey, hold: soon}]\n"), kinds())
	var e *compile.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v holds no *compile.Error", err)
	}
	if e.Line != 2 || e.Column != 37 || e.Path != "secrets[0].hold" {
		t.Errorf("got %+v", e)
	}
}

// The examples in the operator's page compile.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("docs/policy.md shows no example")
	}
	for i, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		if _, err := compile.Source(fmt.Sprintf("example %d", i+1), []byte(text), kinds()); err != nil {
			t.Error(err)
		}
	}
}
