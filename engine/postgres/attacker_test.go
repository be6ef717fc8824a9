package postgres_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// trap is a server of an attacker's, of which nobody may become a visitor.
type trap struct{ *pgtest.Trap }

func newTrap(t *testing.T) trap {
	t.Helper()
	tr, err := pgtest.NewTrap()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return trap{tr}
}

func (tr trap) untouched(t *testing.T, what string) {
	t.Helper()
	if n, sent := tr.Visits(); n > 0 {
		t.Errorf("%s: the attacker's server got %d connections and %q", what, n, sent)
	}
}

// ownAdmin gives a world an admin that no other test uses, so that the server's
// log tells its logins apart. It returns that admin's secret, and a count of its
// logins.
func (w *world) ownAdmin() (value string, logins func() int) {
	w.t.Helper()
	admin, err := w.s.CreateAdmin(w.ctx, fmt.Sprintf("admin%04d", numbers.Add(1)))
	if err != nil {
		w.t.Fatal(err)
	}
	value = encodeJSON(w.t, map[string]any{"username": admin.User, "password": admin.Password})
	w.store.Add(adminARN, "admin-version", value)
	return value, func() int {
		n := 0
		for _, node := range []*pgtest.Server{w.s.Primary, w.s.Replica} {
			log, err := node.Log()
			if err != nil {
				w.t.Fatal(err)
			}
			n += strings.Count(log, "user="+admin.User+" ")
		}
		return n
	}
}

// steps are all that an engine can be asked for.
func steps() map[string]step {
	return map[string]step{
		"Create": rotation.Engine.Create, "Set": rotation.Engine.Set, "Test": rotation.Engine.Test,
		"Drain": rotation.Engine.Drain, "Disable": rotation.Engine.Disable, "Enable": rotation.Engine.Enable, "Revoke": rotation.Engine.Revoke,
		"Plan": func(e rotation.Engine, ctx context.Context, c rotation.Change) (rotation.Result, error) {
			_, err := e.Plan(ctx, c)
			return rotation.Result{}, err
		},
	}
}

// Whoever may write the secret's value, in the version that goes or the one that
// comes, leads nobody to a server of his own: nothing is sent there, the admin's
// secret isn't read and the admin doesn't log in.
func TestASecretLeadsNobodyAstray(t *testing.T) {
	t.Parallel()
	s := servers["15"]
	tr := newTrap(t)
	w := newLogin(t, s)
	admin, logins := w.ownAdmin()
	other := "arn:aws:secretsmanager:eu-central-1:111122223333:secret:other-AbCdEf"
	for name, change := range map[string]map[string]any{
		"another port":              {"port": tr.Port},
		"another port as text":      {"port": strconv.Itoa(tr.Port)},
		"a name for the same host":  {"host": "localhost", "port": tr.Port},
		"IPv6":                      {"host": "::1", "port": tr.Port},
		"IPv6 in brackets":          {"host": "[::1]", "port": tr.Port},
		"IPv4 in IPv6":              {"host": "::ffff:127.0.0.1", "port": tr.Port},
		"IPv4 in short":             {"host": "127.1", "port": tr.Port},
		"IPv4 as a number":          {"host": "2130706433", "port": tr.Port},
		"every address":             {"host": "0.0.0.0", "port": tr.Port},
		"upper case":                {"host": "LOCALHOST", "port": tr.Port},
		"trailing dot":              {"host": "127.0.0.1."},
		"white space":               {"host": " 127.0.0.1"},
		"full-width digits":         {"host": "１２７.0.0.1"},
		"ideographic dots":          {"host": "127。0。0。1"},
		"a name in another script":  {"host": "lоcalhost"},
		"punycode":                  {"host": "xn--lcalhost-2fg"},
		"host with port":            {"host": tr.Address()},
		"a list of hosts":           {"host": "127.0.0.1,127.0.0.1"},
		"a list with ports":         {"host": s.Primary.Address() + "," + tr.Address()},
		"a socket":                  {"host": "/tmp", "port": tr.Port},
		"an abstract socket":        {"host": "@keyturn"},
		"a path":                    {"host": "127.0.0.1/x"},
		"a URL":                     {"host": "postgres://" + tr.Address() + "/x"},
		"a login before the host":   {"host": "app@127.0.0.1"},
		"a login after the host":    {"host": "127.0.0.1@" + tr.Host},
		"keywords":                  {"host": "127.0.0.1 hostaddr=127.0.0.1 port=" + strconv.Itoa(tr.Port)},
		"a zone":                    {"host": "::1%lo", "port": tr.Port},
		"a zero byte":               {"host": "127.0.0.1\x00" + tr.Host},
		"another admin":             {"masterarn": other},
		"the admin in another case": {"masterarn": strings.ToUpper(adminARN)},
		"plaintext":                 {"ssl": false},
		"another engine":            {"engine": "mysql"},
		"hostaddr":                  {"hostaddr": tr.Host},
		"sslmode":                   {"sslmode": "disable"},
		"options":                   {"options": "-c role=postgres"},
		"host in another case":      {"Host": tr.Host},
	} {
		for _, which := range []string{version1, version2} {
			x := worldFor(w.ctx, t, s, w.app)
			x.store.Add(adminARN, "admin-version", admin)
			evil := map[string]any{}
			for k, v := range x.fields {
				evil[k] = v
			}
			for k, v := range change {
				evil[k] = v
			}
			values := map[string]string{version1: encodeJSON(t, x.fields), version2: encodeJSON(t, x.fields)}
			values[which] = encodeJSON(t, evil)
			x.store.Add(x.arn, version1, values[version1])
			x.store.PutByHand(x.arn, version2, values[version2])
			for what, act := range steps() {
				what = fmt.Sprintf("%s in version %.1s, %s", name, which, what)
				_, err := act(x.engine, x.ctx, x.change(version1, version2, 1))
				if !fault.Is(err, fault.PolicyViolation) && !fault.Is(err, fault.InvalidInput) {
					t.Errorf("%s: %v", what, err)
				}
				if usedAdmin(x) {
					t.Fatalf("%s: the admin's secret was read", what)
				}
			}
			tr.untouched(t, fmt.Sprintf("%s in version %.1s", name, which))
		}
	}
	if n := logins(); n != 0 {
		t.Errorf("the admin has logged in %d times", n)
	}
}

// Names that look like connection strings are names: they go to the allowed host
// and fail there, before the admin is used.
func TestNamesAreNoConnectionStrings(t *testing.T) {
	s := servers["15"]
	tr := newTrap(t)
	port := strconv.Itoa(tr.Port)
	for _, name := range []string{"PGHOST", "PGHOSTADDR"} {
		t.Setenv(name, tr.Host)
	}
	t.Setenv("PGPORT", port)
	t.Setenv("PGUSER", "postgres")
	t.Setenv("PGSSLMODE", "disable")
	t.Setenv("PGOPTIONS", "-c role=postgres")
	w := newLogin(t, s)
	admin, logins := w.ownAdmin()
	for _, text := range []string{
		"postgres host=" + tr.Host + " port=" + port, "postgres://" + tr.Address() + "/postgres", "postgresql://x:y@" + tr.Address() + "/postgres?sslmode=disable",
		"postgres?host=" + tr.Host + "&port=" + port, "' hostaddr='" + tr.Host + "' port='" + port, "postgres\thostaddr=" + tr.Host, "service=x", "passfile=/etc/passwd",
		"replication=true", "options=-crole=postgres", "postgres;host=" + tr.Host,
	} {
		for _, field := range []string{"dbname", "username", "password"} {
			x := worldFor(w.ctx, t, s, w.app)
			x.store.Add(adminARN, "admin-version", admin)
			x.fields[field] = text
			x.store.Add(x.arn, version1, encodeJSON(t, x.fields))
			x.begin(version2)
			_, err := x.engine.Create(x.ctx, x.change(version1, version2, 1))
			if !fault.Is(err, fault.CredentialRejected) && !fault.Is(err, fault.InvalidInput) {
				t.Errorf("%s %q: %v", field, text, err)
			}
			if usedAdmin(x) {
				t.Errorf("%s %q: the admin's secret was read", field, text)
			}
			tr.untouched(t, field+" "+text)
		}
	}
	// The environment changes nothing for a rotation that is right.
	w.head(version1, version2)
	tr.untouched(t, "the environment")
	if logins() == 0 {
		t.Error("the log shows no login of the admin, and so proves nothing")
	}
}

// What a function's environment says to other PostgreSQL clients, on purpose or
// left over, says nothing to a step: not how it is verified, not who it is, not
// which proof of the password it accepts.
func TestTheEnvironmentSaysNothing(t *testing.T) {
	s := servers["18"]
	w := newLogin(t, s)
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for name, value := range map[string]string{
		"PGSERVICEFILE": nowhere, "PGPASSFILE": nowhere, "PGPASSWORD": "guessed", "PGAPPNAME": "web", "PGUSER": "postgres",
		"PGSSLMODE": "disable", "PGSSLROOTCERT": "system", "PGSSLCERT": nowhere, "PGSSLKEY": nowhere, "PGSSLCERTMODE": "require",
		"PGSSLNEGOTIATION": "direct", "PGSSLSNI": "0", "PGREQUIREAUTH": "password", "PGCHANNELBINDING": "disable",
		"PGTARGETSESSIONATTRS": "standby", "PGCONNECT_TIMEOUT": "1000000", "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "latest",
		"PGTZ": "Nowhere/Else", "PGOPTIONS": "-c role=postgres", "PGHOST": "/tmp", "PGPORT": "1",
	} {
		t.Setenv(name, value)
	}
	w.head(version1, version2)
	w.tail(version1, version2)
	t.Setenv("PGSERVICE", "elsewhere") // the driver insists on reading that one
	w.store.Finish(w.arn, version2)
	w.begin(version3)
	err := w.fails(rotation.Engine.Create, w.change(version2, version3, 1), fault.InvalidInput)
	if !strings.Contains(err.Error(), "environment") || strings.Contains(err.Error(), "password") {
		t.Errorf("got %v", err)
	}
}

// Even the admin's own secret names no host that the policy doesn't allow
// (rule C4.7).
func TestTheAdminsSecretNamesAllowedHostsOnly(t *testing.T) {
	t.Parallel()
	s := servers["18"]
	tr := newTrap(t)
	w := newLogin(t, s)
	_, logins := w.ownAdmin()
	for _, host := range []string{tr.Host, "LOCALHOST", tr.Address(), "/tmp", "127.0.0.1,127.0.0.1"} {
		admin := map[string]any{"username": s.admin.User, "password": s.admin.Password, "host": host, "port": tr.Port}
		w.store.Add(adminARN, "admin-version", encodeJSON(t, admin))
		w.begin(version2)
		w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.PolicyViolation)
		w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
		tr.untouched(t, host)
	}
	if n := logins(); n != 0 {
		t.Errorf("the admin has logged in %d times", n)
	}
}
