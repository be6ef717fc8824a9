package postgres_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// A rename that is turned back before anybody followed: the sessions that are
// older than it live under the identity's OID and belong to the old login, which
// stays. They were taken for the new login's, so that the drain never ended, and
// where the policy says terminate they were ended.
func TestARenameThatIsTurnedBackLeavesTheOldSessionsAlone(t *testing.T) {
	t.Parallel()
	w := newLogin(t, servers["15"])
	w.set["adopt"], w.set["owner"] = "rename", w.app.User+"_owner"
	w.policy.OnTimeout, w.policy.MaxOverlap = rotation.Terminate, time.Minute
	old := w.connect(w.app, "web")
	w.begin(version2)
	c := w.change(version1, version2, 1)
	w.until(rotation.Engine.Create, c, rotation.Done)
	w.until(rotation.Engine.Set, c, rotation.Done)

	c = w.change(version2, version1, 2)
	c.Rotation, c.Back, c.Unpresented = version2, true, true
	w.until(rotation.Engine.Drain, c, rotation.Done)
	w.until(rotation.Engine.Disable, c, rotation.Done)
	w.until(rotation.Engine.Revoke, c, rotation.Done)
	if got := ask(t, old, "SELECT 'alive'"); got != "alive" {
		t.Errorf("the old session is %s", got)
	}
	if err := w.works(w.ctx, version1); err != nil {
		t.Errorf("the old login: %v", err)
	}
}

// Found by internal/chaos: one that is turned back after its promotion, before
// anybody followed. A consumer whose session is older than the rename is on the
// old login, and has no reason to log in again; it was waited for ever.
func TestARenameThatIsTurnedBackSeesWhoStayedOnTheOldLogin(t *testing.T) {
	t.Parallel()
	w := newLogin(t, servers["15"])
	w.set["adopt"], w.set["owner"] = "rename", w.app.User+"_owner"
	w.connect(w.app, "web") // the policy registers it
	w.begin(version2)
	c := w.change(version1, version2, 1)
	w.until(rotation.Engine.Create, c, rotation.Done)
	w.until(rotation.Engine.Set, c, rotation.Done)

	c = w.change(version2, version1, 2)
	c.Rotation, c.Back = version2, true
	w.until(rotation.Engine.Drain, c, rotation.Done)
}
