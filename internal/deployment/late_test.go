package deployment_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
)

const (
	lateGroup   = "/aws/rds/instance/orders/postgresql"
	lateVersion = "22222222-2222-4222-8222-222222222222"
)

// held is a secret in the local Secrets Manager and its login at a real server,
// whose log is as RDS writes it.
type held struct {
	t       *testing.T
	server  *pgtest.Cluster
	app     pgtest.Login
	parts   lambdaentry.Lateness
	arn     string
	shipped int // bytes of the log
	events  int
}

// newHeld lists the secret by this name in its policy, or by its ARN if that is empty.
func newHeld(t *testing.T, listed string) *held {
	t.Helper()
	h := &held{t: t}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var err error
	if h.server, err = pgtest.Start(ctx, pgtest.Options{TLS: true, Config: map[string]string{"log_line_prefix": "%t:%r:%u@%d:[%p]:"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.server.Stop)
	admin, err := h.server.CreateAdmin(ctx, "rotator")
	if err != nil {
		t.Fatal(err)
	}
	if h.app, err = h.server.CreateLogin(ctx, "orders", "postgres"); err != nil {
		t.Fatal(err)
	}
	local, err := localstack.Start(t.Context(), localstack.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	cfg, err := deployment.AWSConfig(with(map[string]string{"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": local.Endpoint}))
	if err != nil {
		t.Fatal(err)
	}
	adminARN := h.secret(cfg, "admin", map[string]any{"username": admin.User, "password": admin.Password})
	h.arn = h.secret(cfg, "orders/db", map[string]any{
		"engine": "postgres", "host": h.server.Primary.Host, "port": h.server.Primary.Port, "dbname": h.app.Database,
		"username": h.app.User, "password": h.app.Password, "masterarn": adminARN,
	})
	dir := t.TempDir()
	doc, err := compile.Source("keyturn.yaml", fmt.Appendf(nil, `version: 1
secrets:
- secret: %s
  kind: postgres
  driver: machine
  postgres:
    hosts: [%q]
    admin: %s
    root_ca_file: %s
    log_groups: [%s]
`, cmp.Or(listed, h.arn), h.server.Primary.Address(), adminARN, h.server.CAFile, lateGroup), deployment.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(path, doc.JSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	h.parts, err = deployment.AssembleLateness(cfg, deployment.Settings{Policy: path, AuditDir: dir},
		deployment.Actor{Name: "lateLogin", Type: audit.Controller, Lines: &bytes.Buffer{}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *held) secret(cfg aws.Config, name string, value map[string]any) (arn string) {
	h.t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		h.t.Fatal(err)
	}
	made, err := secretsmanager.NewFromConfig(cfg).CreateSecret(h.t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(string(text))})
	if err != nil {
		h.t.Fatal(err)
	}
	return aws.ToString(made.ARN)
}

type stepOf func(context.Context, rotation.Request) (rotation.Result, error)

func (h *held) step(d rotation.Direction, do stepOf, want rotation.Outcome) rotation.Result {
	h.t.Helper()
	res, err := do(h.t.Context(), rotation.Request{Secret: h.arn, Token: lateVersion, Direction: d, Generation: 1})
	if err != nil || res.Outcome != want {
		h.t.Fatalf("%s %q, %v (%s); want %s", res.Outcome, res.Missing, err, fault.HintOf(err), want)
	}
	return res
}

// login tries the credential that goes.
func (h *held) login() error {
	conn, err := pgx.Connect(h.t.Context(), h.server.DSN(h.server.Primary, h.app))
	if err == nil {
		err = conn.Close(h.t.Context())
	}
	return err
}

// ship sends what the server has logged since, as CloudWatch Logs would.
func (h *held) ship(group string) (answer string, err error) {
	h.t.Helper()
	text, err := h.server.Primary.Log()
	if err != nil {
		h.t.Fatal(err)
	}
	fresh := text[h.shipped:]
	h.shipped = len(text)
	return h.send(group, strings.Split(strings.TrimSuffix(fresh, "\n"), "\n"))
}

func (h *held) send(group string, lines []string) (answer string, err error) {
	h.t.Helper()
	var events []map[string]any
	for _, line := range lines {
		h.events++
		events = append(events, map[string]any{"id": fmt.Sprintf("%056d", h.events), "timestamp": time.Now().UnixMilli(), "message": line})
	}
	text, err := json.Marshal(map[string]any{
		"messageType": "DATA_MESSAGE", "owner": "000000000000", "logGroup": group, "logStream": "orders.0",
		"subscriptionFilters": []string{"f"}, "logEvents": events,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(text)
	_ = z.Close()
	got, err := lambdaentry.LateLogin(h.parts)(h.t.Context(), fmt.Appendf(nil, `{"awslogs":{"data":%q}}`, base64.StdEncoding.EncodeToString(packed.Bytes())))
	body, marshalErr := json.Marshal(got)
	if marshalErr != nil {
		h.t.Fatal(marshalErr)
	}
	return string(body), err
}

// measures looks at the drain once more, by its function, with sessions of the
// login that goes.
func (h *held) measures(sessions int) {
	h.t.Helper()
	for range sessions {
		conn, err := pgx.Connect(h.t.Context(), h.server.DSN(h.server.Primary, h.app))
		if err != nil {
			h.t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(h.t.Context())) }()
	}
	var lines bytes.Buffer
	answer, err := lambdaentry.Drain(h.parts.Rotator, metrics.Writer{To: &lines, Deployment: "shop"})(h.t.Context(),
		fmt.Appendf(nil, `{"secret":%q,"token":%q,"direction":"forward","generation":1,"cursor":"","polls":0}`, h.arn, lateVersion))
	if err != nil || !strings.Contains(lines.String(), fmt.Sprintf(`"OldConnections":%d`, sessions)) || strings.Count(lines.String(), "\n") != 1 {
		h.t.Errorf("measured %s, %v", lines.String(), err)
	}
	if text, err := json.Marshal(answer); err != nil || strings.Contains(strings.ToLower(string(text)), `"sessions"`) {
		h.t.Errorf("the execution's state holds %s, %v", text, err)
	}
}

func (h *held) findings() (all []rotation.Finding) {
	h.t.Helper()
	records, err := audit.Records(h.t.Context(), h.parts.Ledger, h.arn)
	if err != nil {
		h.t.Fatal(err)
	}
	policy, err := h.parts.Rotator.Policies.Policy(h.arn)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range records {
		j, err := detect.Record(h.t.Context(), h.parts.Ledger, policy, r)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range j.Findings {
			if f.Name == detect.LateLogin {
				all = append(all, f)
			}
		}
	}
	return all
}

// A consumer that no drain has seen comes while the old login is held. The server's
// own log tells it from Keyturn's proof of the refusal; the login works again, the
// run goes back to draining and waits for as long as that consumer stayed away.
func TestALoginThatIsTriedWhileItIsHeldWorksAgain(t *testing.T) {
	t.Parallel()
	h := newHeld(t, "orders/db")
	r := h.parts.Rotator
	for _, do := range []stepOf{r.Create, r.Set, r.Test, r.Finish} {
		h.step(rotation.Head, do, rotation.Done)
	}
	if _, err := h.ship(lateGroup); err != nil {
		t.Fatal(err)
	}
	h.step(rotation.Forward, r.Disable, rotation.Done)
	if answer, err := h.ship(lateGroup); err != nil || !strings.Contains(answer, `"whose":"ours"`) {
		t.Fatalf("Keyturn's own proof: %s, %v", answer, err)
	}
	var answer string
	var err error
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(answer, `"outcome":"done"`) {
		if time.Now().After(deadline) {
			t.Fatalf("it isn't let in again: %s, %v", answer, err)
		}
		if h.login() == nil {
			t.Fatal("the login works before it was tried")
		}
		time.Sleep(200 * time.Millisecond) // the server's log is written after the answer
		if answer, err = h.ship("/aws/rds/instance/other/postgresql"); err != nil || strings.Contains(answer, "whose") {
			t.Fatalf("another group: %s, %v", answer, err)
		}
		_ = h.login()
		time.Sleep(200 * time.Millisecond)
		if answer, err = h.ship(lateGroup); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.login(); err != nil {
		t.Fatalf("after the try: %v", err)
	}
	found := h.findings()
	if len(found) != 1 || !strings.Contains(found[0].Saw, "login "+h.app.User+" was tried") || !strings.Contains(found[0].Saw, "from 127.0.0.1") ||
		!strings.Contains(found[0].Saw, "let in again") {
		t.Errorf("found %+v", found)
	}
	if answer, err = h.ship(lateGroup); err != nil || strings.Contains(answer, "whose") { // its own tries of the closed login
		t.Errorf("afterwards: %s, %v", answer, err)
	}
	h.step(rotation.Forward, r.Revoke, rotation.Reopened)
	res := h.step(rotation.Forward, r.Drain, rotation.Wait)
	if !strings.Contains(strings.Join(res.Missing, " "), h.app.User+" was tried at") {
		t.Errorf("the drain waits for %q", res.Missing)
	}
	h.measures(1)
	if _, err := audit.Verify(t.Context(), h.parts.Ledger, h.arn); err != nil {
		t.Error(err)
	}
}

// What was declared stolen stays refused and is reported, once an hour.
func TestAStolenLoginThatIsTriedStaysRefused(t *testing.T) {
	t.Parallel()
	h := newHeld(t, "")
	r := h.parts.Rotator
	for _, do := range []stepOf{r.Create, r.Set, r.Test, r.Finish} {
		h.step(rotation.Head, do, rotation.Done)
	}
	desc, err := r.Store.Describe(t.Context(), h.arn)
	if err != nil {
		t.Fatal(err)
	}
	goes := desc.Versions.Holder(rotation.Retiring)
	h.step(rotation.Forward, r.Disable, rotation.Done)
	if err := r.Store.Attach(t.Context(), h.arn, rotation.Stolen(goes), goes); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		line := time.Now().Add(time.Minute).UTC().Format("2006-01-02 15:04:05 UTC") + `:192.0.2.7(4711):orders@postgres:[1]:FATAL:  role "orders" is not permitted to log in`
		if answer, err := h.send(lateGroup, []string{line}); err != nil || !strings.Contains(answer, `"outcome":"Keyturn.TooLate"`) {
			t.Errorf("%s, %v", answer, err)
		}
	}
	if h.login() == nil {
		t.Error("a stolen login works again")
	}
	if found := h.findings(); len(found) != 1 || !strings.Contains(found[0].Saw, "from 192.0.2.7; it stays refused: Keyturn.TooLate") {
		t.Errorf("found %+v", found)
	}
}
