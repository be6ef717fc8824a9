package demo

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// failedLogins counts what PostgreSQL's own logs say of a login.
func failedLogins(t *testing.T, s *stage, login string) int {
	t.Helper()
	n := 0
	for _, node := range []*pgtest.Server{s.cluster.Primary, s.cluster.Replica} {
		text, err := node.Log()
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(text, fmt.Sprintf("password authentication failed for user %q", login))
	}
	return n
}

// A wrong password in AWSCURRENT meets Secrets Manager's retries and a person
// who starts anew, each in a process of its own: the account isn't locked.
func TestRetriesOfAWrongPasswordStayWithinTheFailedLogins(t *testing.T) {
	s := newStage(t)
	s.load.Stop() // consumers would fail logins of their own
	good, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := failedLogins(t, s, good.Username)
	roles := s.roles(t)
	s.put(t, good, func(m map[string]any) { m["password"] = "not the database's" })
	const allowed = 3 // the policy's default
	token := s.strand(t)
	s.eventually(t, "Secrets Manager's own attempts have spent the budget", func(rotation.Versions) bool {
		return failedLogins(t, s, good.Username)-before >= allowed
	})
	for attempt := range 9 {
		if attempt%3 == 0 {
			token = s.strand(t) // somebody starts anew, and Secrets Manager tries that several times
		}
		out, err := s.aws.Lambda.Invoke(t.Context(), functionARN("rotateSecret"), []byte(s.event("createSecret", s.appARN, token)))
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ ErrorType, ErrorMessage string }
		if err := json.Unmarshal(out.Payload, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.ErrorType != string(fault.Blocked) || !strings.Contains(doc.ErrorMessage, "it isn't tried again before") {
			t.Errorf("attempt %d answered %s", attempt, out.Payload)
		}
	}
	s.put(t, good, nil)
	s.wantFault(t, s.event("createSecret", s.appARN, s.strand(t)), fault.Blocked) // mended, and parked until the hour is over
	if got := failedLogins(t, s, good.Username) - before; got != allowed {
		t.Errorf("the servers saw %d failed logins, %d are allowed", got, allowed)
	}
	if now := s.roles(t); now != roles {
		t.Errorf("roles changed from %s to %s", roles, now)
	}
	records, err := audit.Records(t.Context(), audit.Dir{Root: s.path("audit")}, s.appARN)
	if err != nil {
		t.Fatal(err)
	}
	parked := 0
	for _, r := range records {
		if r.Step == "create" && r.Outcome == string(fault.Blocked) {
			parked++
		}
	}
	if parked == 0 {
		t.Error("the audit trail doesn't show that the rotation is parked")
	}
	if class, err := s.try(t.Context(), s.cluster.Primary, good); class != "" {
		t.Errorf("the login is refused: %v", err)
	}
}
