package postgres_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// What the clone owns in a database that has no connection free just now isn't what
// can't be repaired: the new login would be promoted without rights on it.
func TestPairWaitsForADatabaseWhoseObjectsItCantReach(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		clone := cloned(t, w)
		root, second := w.root("postgres"), w.app.Database+"_second"
		execute(t, root, "CREATE DATABASE "+second)
		t.Cleanup(func() { execute(t, root, "DROP DATABASE "+second+" WITH (FORCE)") })
		there := w.root(second)
		execute(t, there, "CREATE TABLE of_the_clone (id int)", "ALTER TABLE of_the_clone OWNER TO "+clone.User,
			"GRANT CREATE ON SCHEMA public TO "+w.app.User, "ALTER DATABASE "+second+" CONNECTION LIMIT 0")
		w.fields["username"], w.fields["password"] = clone.User, clone.Password
		w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
		execute(t, root, "ALTER ROLE "+w.app.User+" NOLOGIN") // the standby was revoked
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		if err := w.fails(rotation.Engine.Set, c, fault.Unavailable); !strings.Contains(err.Error(), second) {
			t.Errorf("%v doesn't name the database", err)
		}
		execute(t, root, "ALTER DATABASE "+second+" CONNECTION LIMIT -1")
		if res := w.until(rotation.Engine.Set, c, rotation.Done); len(res.Notes) > 0 {
			t.Errorf("left unrepaired: %q", res.Notes)
		}
		if got := ask(t, there, "SELECT tableowner::text FROM pg_tables WHERE tablename = 'of_the_clone'"); got != w.app.User {
			t.Errorf("the table belongs to %s", got)
		}
	})
}
