package bench_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/internal/pgtest"
)

// bare does a rotation by hand: the calls that a step can't avoid, one after
// the other, and no code around them. Each thing is read once a step, and once
// more where the protocol asks for it: the labels and both logins inside the
// lock, the login that stays before and after the refusal of the one that goes.
// A repetition of any other kind is the step's own cost.
type bare struct {
	*rig
	*app
	ledger   audit.Dir
	token    string              // the version that comes
	old      string              // the version that goes
	versions map[string][]string // version → labels, as last described
	looked   string              // the token of the last look
	puts     int
	web      http.Client
}

func newBare(r *rig, a *app) *bare {
	return &bare{rig: r, app: a, ledger: audit.Dir{Root: r.path("bare")}}
}

// steps are the bare forms, by the name of the step.
func (b *bare) steps() map[string]func() {
	return map[string]func(){
		"create": b.create, "set": b.set, "test": b.test, "finish": b.finish,
		"adopt": b.adopt, "drain": b.drain, "disable": b.disable, "revoke": b.revoke,
	}
}

func (b *bare) create() {
	b.record("announce")
	b.describe()
	b.old = b.holder("AWSCURRENT")
	b.record("intent")
	from, _ := b.get(b.old)
	if _, there := b.get(b.token); there {
		b.tb.Fatalf("version %s has a value already", b.token)
	}
	own := b.connect("bare", from)
	b.ask(own, roleSQL, from.Username)
	b.ask(own, triggersSQL, uint32(10))
	b.ask(own, cronSQL)
	admin := b.asAdmin()
	to := from
	to.Username, to.Password = b.Name+"_"+strings.ToLower(rand.Text()[:8]), rand.Text()
	role := b.ask(admin, roleSQL, from.Username)[0]
	b.ask(admin, rightsSQL)
	for _, s := range b.ask(admin, settingsSQL, role[0]) {
		name, _, _ := strings.Cut(s[1].(string), "=")
		if name != "role" {
			b.ask(admin, maySetSQL, name)
		}
	}
	b.ask(admin, roomSQL, role[0], from.DBName)
	b.ask(admin, subscriptionsSQL, role[0])
	b.ask(admin, forgottenSQL, from.Username, 60.0)
	b.ask(admin, mayReadHBASQL)
	b.close(admin, own)
	b.put(to)
	if p := b.holder("AWSPENDING"); p == b.old {
		b.label("AWSPENDING", b.token, p)
	} else {
		b.label("AWSPENDING", b.token, "")
	}
	b.label("KEYTURN_LIVE_"+b.token, b.token, "")
	b.record("result")
}

func (b *bare) set() {
	b.describe()
	b.record("intent")
	from, to := b.both()
	b.refused(to)
	own := b.connect("bare", from)
	b.ask(own, roleSQL, from.Username)
	admin := b.asAdmin()
	b.locked(admin, func() {
		b.ask(admin, roleSQL, to.Username)
		role := b.ask(admin, roleSQL, from.Username)[0]
		b.describe()
		b.do(admin, "CREATE ROLE "+pgtest.Ident(to.Username)+" LOGIN INHERIT PASSWORD "+pgtest.Literal(pgtest.Verifier(to.Password))+
			" CONNECTION LIMIT 90 VALID UNTIL 'infinity' IN ROLE "+pgtest.Ident(b.Name))
		for _, s := range b.ask(admin, settingsSQL, role[0]) {
			name, val, _ := strings.Cut(s[1].(string), "=")
			scope := ""
			switch {
			case name == "role":
				continue
			case s[0] != "":
				scope = " IN DATABASE " + pgtest.Ident(s[0].(string))
			}
			right := pgtest.Literal(val)
			if name == "search_path" {
				right = `'shop', '$user', 'public'`
			}
			b.do(admin, "ALTER ROLE "+pgtest.Ident(to.Username)+scope+" SET "+pgtest.Ident(name)+" = "+right)
		}
		b.do(admin, "ALTER ROLE "+pgtest.Ident(to.Username)+" SET role = "+pgtest.Literal(b.Name))
		b.comment(admin, to.Username, b.token, 1)
	})
	b.ask(admin, lsnSQL)
	b.close(admin, own)
	b.close(b.connect("bare", to))
	b.record("result")
}

func (b *bare) test() {
	b.describe()
	b.record("intent")
	b.prove()
	b.record("result")
}

// prove is the test, which finish repeats: a function has no memory of it.
func (b *bare) prove() {
	from, to := b.both()
	admin := b.asAdmin()
	b.ask(admin, roleSQL, to.Username)
	b.ask(admin, lsnSQL)
	b.close(admin)
	next := b.connect("bare", to)
	b.ask(next, whoSQL)
	b.ask(next, inheritedSQL)
	b.do(next, "begin read write")
	b.ask(next, mayWriteSQL)
	b.do(next, "CREATE TEMPORARY TABLE keyturn_probe ON COMMIT DROP AS SELECT 1 AS written")
	b.do(next, "rollback")
	before := b.connect("bare", from)
	b.ask(before, whoSQL)
	b.ask(before, inheritedSQL)
	b.close(before, next)
}

func (b *bare) finish() {
	b.describe()
	b.record("intent")
	b.prove()
	b.label("KEYTURN_RETIRING", b.old, "")
	b.label("KEYTURN_CANDIDATE_"+b.token, "", b.token)
	b.label("AWSCURRENT", b.token, b.old)
	b.record("result")
	if _, err := b.sfn.StartExecution(b.ctx, &sfn.StartExecutionInput{
		StateMachineArn: &b.machine, Name: aws.String("bare-" + b.token), Input: aws.String("{}"),
	}); err != nil {
		b.tb.Fatal(err)
	}
}

func (b *bare) adopt() {
	b.describe()
	b.record("intent")
	b.http(http.MethodGet, "")
	b.http(http.MethodPost, fmt.Sprintf(`{"secret":%q,"version":%q}`, b.ARN, b.token))
	b.http(http.MethodGet, "")
	b.record("result")
}

// drain is one look; the last one's result is no news but for its outcome.
func (b *bare) drain() {
	b.describe()
	if b.looked != b.token { // the first look also records the intent
		b.looked = b.token
		b.record("intent")
	}
	from, to := b.both()
	admin := b.asAdmin()
	oids := []any{b.oid(admin, from.Username), b.oid(admin, b.Name)}
	b.look(admin, from, oids, to.Username)
	b.close(admin)
	b.record("result")
}

func (b *bare) disable() {
	b.describe()
	b.record("intent")
	from, to := b.both()
	b.label("KEYTURN_DISABLED", b.old, "")
	b.close(b.connect("bare", to))
	admin := b.asAdmin()
	b.ask(admin, roleSQL, to.Username)
	var oids []any
	b.locked(admin, func() {
		oids = append(oids, b.oid(admin, from.Username))
		b.ask(admin, roleSQL, to.Username)
		b.describe()
		b.comment(admin, to.Username, b.token, 1_000_001)
		b.do(admin, "ALTER ROLE "+pgtest.Ident(from.Username)+" NOLOGIN")
	})
	b.ask(admin, lsnSQL)
	b.look(admin, from, append(oids, b.oid(admin, b.Name)), "")
	b.close(admin)
	b.refused(from)
	b.close(b.connect("bare", to))
	b.record("result")
}

func (b *bare) revoke() {
	b.describe()
	b.record("intent")
	from, to := b.both()
	b.close(b.connect("bare", to))
	admin := b.asAdmin()
	b.ask(admin, roleSQL, to.Username)
	oids := []any{b.oid(admin, from.Username), b.oid(admin, b.Name)}
	b.look(admin, from, oids, "")
	b.locked(admin, func() {
		b.ask(admin, roleSQL, from.Username)
		b.ask(admin, roleSQL, to.Username)
		b.describe()
		b.do(admin, "ALTER ROLE "+pgtest.Ident(from.Username)+" NOLOGIN PASSWORD NULL VALID UNTIL 'infinity'")
	})
	b.ask(admin, lsnSQL)
	b.refused(from)
	b.close(b.connect("bare", to))
	b.look(admin, from, oids, "")
	b.locked(admin, func() {
		b.ask(admin, roleSQL, from.Username)
		b.ask(admin, roleSQL, to.Username)
		b.describe()
		b.do(admin, "SAVEPOINT before_drop")
		if from.Username != b.Name { // the identity stays
			b.do(admin, "DROP ROLE "+pgtest.Ident(from.Username))
		}
	})
	b.close(admin)
	for _, l := range []string{"KEYTURN_DISABLED", "KEYTURN_LIVE_" + b.old, "KEYTURN_RETIRING"} {
		if slices.Contains(b.versions[b.old], l) { // the first version, which an operator stored, isn't marked as live
			b.label(l, "", b.old)
		}
	}
	b.describe() // has anything waited for this end?
	b.record("result")
}

// look counts who is on the login that goes, and on the one that stays.
func (b *bare) look(admin *pgx.Conn, from value, oids []any, stays string) {
	b.ask(admin, headSQL)
	b.ask(admin, sessionsSQL+goesSQL, oids, false)
	b.ask(admin, sendersSQL, oids)
	b.ask(admin, preparedSQL, from.Username, 0.0)
	if stays != "" {
		b.ask(admin, sessionsSQL+staysSQL, stays, uint32(0))
	}
}

// oid reads a role.
func (b *bare) oid(admin *pgx.Conn, login string) any { return b.ask(admin, roleSQL, login)[0][0] }

// locked is one transaction under the identity's lock.
func (b *bare) locked(admin *pgx.Conn, act func()) {
	b.do(admin, "begin")
	b.do(admin, "SET LOCAL lock_timeout = 3000")
	b.do(admin, "SELECT pg_advisory_xact_lock(hashtextextended("+pgtest.Literal("keyturn/"+b.Name)+", 0))")
	act()
	b.do(admin, "commit")
}

func (b *bare) comment(admin *pgx.Conn, login, token string, rank int) {
	text := fmt.Sprintf(`{"keyturn":1,"identity":%q,"token":%q,"gen":%d}`, b.Name, token, rank)
	b.do(admin, "COMMENT ON ROLE "+pgtest.Ident(login)+" IS "+pgtest.Literal(text))
}
