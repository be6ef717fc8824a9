package postgres_test

import (
	"context"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// A revoke that was past its fence when a rollback came commits while enable
// looks: the dead login isn't opened again.
func TestEnableBesideARevokeThatGoesOn(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.seen.add("web", w.clock.Now)
		forward := w.change(version1, version2, 2)
		w.until(rotation.Engine.Disable, forward, rotation.Done)
		back := w.change(version1, version2, 3)
		back.Fence = func(context.Context) error { // called inside the lock, after the first look
			execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" PASSWORD NULL")
			return nil
		}
		w.fails(rotation.Engine.Enable, back, fault.TooLate)
		if got := ask(t, w.root("postgres"), "SELECT rolcanlogin::text FROM pg_roles WHERE rolname = $1", w.app.User); got != "false" {
			t.Error("the login that has lost its password was opened")
		}
	})
}
