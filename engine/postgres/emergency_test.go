package postgres_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// A stolen login is cut off before there is another one: its sessions end, and
// the locked login is proof enough of who it is to be replaced.
func TestAStolenLoginIsCutOffAndReplaced(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		thief := w.connect(w.login(version1), "thief")
		cut := w.change(version1, "", 0)
		w.fails(rotation.Engine.Disable, cut, fault.InvalidStage) // no emergency: somebody has to stay
		cut.Emergency = true
		res := w.until(rotation.Engine.Disable, cut, rotation.Done)
		if len(res.Evidence) == 0 || !strings.Contains(res.Evidence[0].By, "refused") {
			t.Errorf("no evidence of the refusal: %+v", res.Evidence)
		}
		if err := thief.Ping(w.ctx); err == nil {
			t.Error("the thief's session goes on")
		}
		if err := w.works(w.ctx, version1); err == nil {
			t.Error("the stolen login works")
		}
		w.until(rotation.Engine.Disable, cut, rotation.Done) // again

		w.begin(version2)
		w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.CredentialRejected)
		replace := w.change(version1, version2, 1)
		replace.Emergency = true
		w.until(rotation.Engine.Create, replace, rotation.Done)
		w.until(rotation.Engine.Set, replace, rotation.Done)
		w.until(rotation.Engine.Test, replace, rotation.Done)
		if err := w.works(w.ctx, version2); err != nil {
			t.Error(err)
		}
	})
}

// The first rotation of a login that is to be renamed is an emergency, which has
// commented and cut the login off already: it is renamed all the same, and what
// takes its place stays cut off.
func TestAStolenLoginThatIsRenamedStaysCutOff(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.set["adopt"], w.set["owner"] = "rename", w.app.User+"_owner"
		cut := w.change(version1, "", 0)
		cut.Emergency = true
		w.until(rotation.Engine.Disable, cut, rotation.Done)

		w.begin(version2)
		replace := w.change(version1, version2, 1)
		replace.Emergency = true
		for range 2 { // twice: as after a lost answer
			for _, step := range []step{rotation.Engine.Create, rotation.Engine.Set, rotation.Engine.Test} {
				w.until(step, replace, rotation.Done)
			}
			if err := w.works(w.ctx, version2); err != nil {
				t.Error(err)
			}
			if err := w.works(w.ctx, version1); err == nil {
				t.Error("the stolen login works")
			}
		}
		bury := w.change(version1, version2, 2)
		bury.Emergency = true
		bury.Policy.OnTimeout = rotation.Terminate
		w.until(rotation.Engine.Disable, bury, rotation.Done)
		w.until(rotation.Engine.Revoke, bury, rotation.Done)
		if got := ask(t, w.root("postgres"), "SELECT count(*)::text FROM pg_roles WHERE rolname = '"+w.app.User+"'"); got != "0" {
			t.Error("the stolen login is left over")
		}
		if got := ask(t, w.root("postgres"), "SELECT coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = '"+w.app.User+"_owner'"); got != "" {
			t.Errorf("the identity is commented as a login: %s", got)
		}
	})
}
