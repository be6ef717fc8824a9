package local_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/party/webhook"
	"github.com/keyturn/keyturn/rotation"
)

// follower is an application that takes another login when it is told to, by a
// signed request, and can be kept from it.
type follower struct {
	d    *deployed
	name string
	key  string
	url  string

	mu      sync.Mutex
	held    bool
	conn    *pgx.Conn
	version string
}

func follow(t *testing.T, d *deployed, name, key string) *follower {
	t.Helper()
	f := &follower{d: d, name: name, key: key}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	f.take(t.Context())
	return f
}

// ServeHTTP implements docs/policy.md, "How instances follow".
func (f *follower) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = webhook.CheckSignature(rotation.NewValue(f.key), r.Header.Get("Keyturn-Signature"), time.Now(), 5*time.Minute, r.Method, body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusAccepted)
		go f.take(f.d.t.Context())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"version": f.version, "done": true})
}

// hold keeps the application from following, or lets it again.
func (f *follower) hold(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = on
}

// take moves the application to the login that is current.
func (f *follower) take(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, err := f.d.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &f.d.secret})
	if err != nil || f.held || *out.VersionId == f.version {
		return
	}
	var value struct{ Username, Password, DBName string }
	if err := json.Unmarshal([]byte(*out.SecretString), &value); err != nil {
		f.d.t.Error(err)
		return
	}
	login := pgtest.Login{User: value.Username, Password: value.Password, Database: value.DBName}
	next, err := pgx.Connect(ctx, f.d.cluster.DSN(f.d.cluster.Primary, login)+"&application_name="+f.name)
	if err != nil {
		if ctx.Err() == nil {
			f.d.t.Errorf("%s: %s is refused: %v\n%v", time.Now().UTC().Format(time.StampMilli), f.name, err, f.d.stages())
		}
		return
	}
	if f.conn != nil {
		_ = f.conn.Close(ctx) // an emergency has ended it, perhaps
	}
	f.conn, f.version = next, *out.VersionId
	if f.d.Stack != nil {
		f.report(ctx)
	}
}

// report writes down what the application uses, as a consumer with rights in the
// audit bucket does.
func (f *follower) report(ctx context.Context) {
	evidence := audit.EvidenceLedger{Ledger: f.d.ledger()}
	if err := evidence.Append(ctx, f.d.secret, f.version, audit.Sighting{
		Party: f.name, Digest: f.version, By: "its own report", Proof: int(rotation.Loaded), At: time.Now(),
	}); err != nil && ctx.Err() == nil {
		f.d.t.Errorf("%s can't report: %v", f.name, err)
	}
}
