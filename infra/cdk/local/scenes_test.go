package local_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack/awsproto"
)

// key makes a customer key of the account.
func (d *deployed) key(description string) (arn string) {
	d.t.Helper()
	out, err := kms.NewFromConfig(d.config).CreateKey(d.t.Context(), &kms.CreateKeyInput{Description: &description})
	if err != nil {
		d.t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// plain makes a secret that holds a text.
func (d *deployed) plain(name, value, key string) (arn string) {
	d.t.Helper()
	out, err := d.secrets.CreateSecret(d.t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &value, KmsKeyId: &key})
	if err != nil {
		d.t.Fatal(err)
	}
	return *out.ARN
}

// application makes a login, its secret and who follows it.
func (d *deployed) application(name, key, followKey string) *follower {
	own := *d
	own.secret = d.login(name, key)
	return follow(d.t, &own, name+"-api", followKey)
}

// operator runs the operator's tool.
func (d *deployed) operator(args ...string) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), tool, append(args, "--deployment", "shop")...)
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+d.aws.Endpoint, "AWS_REGION="+awsproto.Region,
		"AWS_ACCESS_KEY_ID=oncall", "AWS_SECRET_ACCESS_KEY=local", "AWS_EC2_METADATA_DISABLED=true")
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("keyturn %v: %v\n%s\n%s", args, err, out, d.waitsFor())
	}
}

func (f *follower) rotates() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.d.operator("rotate", f.d.secret)
	f.d.rotated(before)
}

// isTurnedBack: a rotation whose application doesn't follow is rolled back.
func (f *follower) isTurnedBack() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.hold(true)
	f.d.operator("rotate", f.d.secret)
	f.d.within(time.Minute, func() bool { now, _ := f.d.current(); return now != before }, f.d.waitsFor)
	f.d.operator("rollback", "--yes", f.d.secret)
	f.hold(false)
	f.d.within(time.Minute, func() bool { now, _ := f.d.current(); return now == before && f.d.alone() }, f.d.waitsFor)
}

// isStolen: the credential is replaced at once, while the one before is drained.
func (f *follower) isStolen() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.hold(true)
	f.d.operator("rotate", f.d.secret)
	f.d.within(time.Minute, func() bool { now, _ := f.d.current(); return now != before }, f.d.waitsFor)
	stolen, _ := f.d.current()
	f.hold(false)
	f.d.operator("emergency", "--cut", "--yes", f.d.secret)
	f.d.rotated(stolen)
}

// isPaused: nobody goes on with what is paused, which is a finding.
func (f *follower) isPaused() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.hold(true)
	f.d.operator("rotate", f.d.secret)
	f.d.within(time.Minute, func() bool { now, _ := f.d.current(); return now != before }, f.d.waitsFor)
	f.d.operator("pause", f.d.secret)
	f.d.watch()
	f.d.operator("resume", f.d.secret)
	f.hold(false)
	f.d.rotated(before)
}

// isAskedForAgain: somebody asks for a rotation in the middle of a drain, at whose
// end it is granted.
func (f *follower) isAskedForAgain() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.hold(true)
	f.d.operator("rotate", f.d.secret)
	f.d.within(time.Minute, func() bool { now, _ := f.d.current(); return now != before }, f.d.waitsFor)
	second, _ := f.d.current()
	f.d.rotate()
	f.hold(false)
	f.d.rotated(second)
}

// breaksOff: the admin's login is refused in the middle of a head, which is given
// up; its credential can't be destroyed before the login works again. It is tried
// until it comes between create and finish.
func (f *follower) breaksOff() {
	f.d.t.Helper()
	for range 10 {
		before, _ := f.d.current()
		f.d.operator("rotate", f.d.secret)
		f.d.within(time.Minute, f.pending, f.d.waitsFor)
		f.d.sql("ALTER ROLE rotator PASSWORD 'another'")
		f.d.within(time.Minute, func() bool {
			now, _ := f.d.current()
			return now != before || strings.Contains(f.d.logs.String(), "RunStuck")
		}, f.d.waitsFor)
		f.d.sql("ALTER ROLE rotator PASSWORD '" + f.d.admin.Password + "'")
		if now, _ := f.d.current(); now != before {
			f.d.rotated(before)
			continue
		}
		f.d.within(time.Minute, func() bool {
			if !f.d.alone() { // the abort may not have ended, and then nothing is resumed
				f.d.operator("resume", f.d.secret)
				time.Sleep(time.Second)
			}
			return f.d.alone()
		}, f.d.waitsFor)
		return
	}
	f.d.t.Error("the admin's login was never refused between create and finish")
}

// pending reports a version that is made and not current yet.
func (f *follower) pending() bool {
	for _, stages := range f.d.stages() {
		if slices.Contains(stages, "AWSPENDING") && !slices.Contains(stages, "AWSCURRENT") {
			return true
		}
	}
	return false
}

// isRefused: the admin's password is refused, so that the rotation can't begin. It
// is given up, and the next one goes.
func (f *follower) isRefused() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.d.sql("ALTER ROLE rotator PASSWORD 'another'")
	f.d.operator("rotate", f.d.secret)
	f.d.within(time.Minute, func() bool { return strings.Contains(f.d.waitsFor(), "Keyturn.CredentialRejected") }, f.d.waitsFor)
	f.d.within(3*time.Minute, f.d.alone, f.d.waitsFor)
	f.d.sql("ALTER ROLE rotator PASSWORD '" + f.d.admin.Password + "'")
	f.d.operator("rotate", f.d.secret)
	f.d.rotated(before)
}

// isDeclaredStolen: an emergency that was killed after its first mark is gone on
// with by the watchdog.
func (f *follower) isDeclaredStolen() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.d.label("KEYTURN_STOLEN_"+before, before, "")
	f.d.watch()
	f.d.rotated(before)
}

// isStoredByHand: somebody stores a login of his own, and the one before is retired.
func (f *follower) isStoredByHand() {
	f.d.t.Helper()
	before, login := f.d.current()
	identity := strings.TrimSuffix(f.name, "-api")
	mine := pgtest.Login{User: identity + "_by_hand", Password: "made-by-hand-0123456789", Database: login.Database}
	f.d.sql("CREATE ROLE "+mine.User+" LOGIN PASSWORD '"+mine.Password+"' IN ROLE "+identity, "ALTER ROLE "+mine.User+" SET role = "+identity)
	value := aws.String(f.d.value(mine, mine.Database))
	if _, err := f.d.secrets.PutSecretValue(f.d.t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &f.d.secret, SecretString: value}); err != nil {
		f.d.t.Fatal(err)
	}
	f.d.watch()
	f.d.within(time.Minute, func() bool {
		return !f.d.works(login) && !slices.Contains(f.d.stages()[before], "KEYTURN_LIVE_"+before)
	}, f.d.waitsFor)
	f.d.rotated(before)
}

// isMovedBack: somebody moves AWSCURRENT back to the login that is held, which is
// let in again; the other one is retired.
func (f *follower) isMovedBack() {
	f.d.t.Helper()
	before, _ := f.d.current()
	f.d.operator("rotate", f.d.secret)
	f.d.within(time.Minute, func() bool { return slices.Contains(f.d.stages()[before], "KEYTURN_DISABLED") }, f.d.waitsFor)
	now, _ := f.d.current()
	f.d.label("AWSCURRENT", before, now)
	f.d.watch()
	f.d.within(time.Minute, func() bool {
		current, login := f.d.current()
		return current == before && f.d.alone() && f.d.works(login)
	}, f.d.waitsFor)
}

// watch doesn't wait for the next minute.
func (d *deployed) watch() {
	d.t.Helper()
	out, err := d.aws.Lambda.Invoke(d.t.Context(), "shop-watchdog:live", []byte("{}"))
	if err != nil || out.FunctionError != "" {
		d.t.Fatalf("the watchdog: %v, %s", err, out.Payload)
	}
}

// label moves a staging label by hand.
func (d *deployed) label(name, to, from string) {
	d.t.Helper()
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &d.secret, VersionStage: &name, MoveToVersionId: &to}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	if _, err := d.secrets.UpdateSecretVersionStage(d.t.Context(), in); err != nil {
		d.t.Fatal(err)
	}
}

// sql runs statements as the database's owner.
func (d *deployed) sql(statements ...string) {
	d.t.Helper()
	if err := d.cluster.Exec(d.t.Context(), "postgres", statements...); err != nil {
		d.t.Fatal(err)
	}
}
