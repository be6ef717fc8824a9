package deployment_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/party/webhook"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
)

// instance takes orders that are signed with its key, and counts the others.
type instance struct {
	mu      sync.Mutex
	key     rotation.Value
	version string
	refused int
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || webhook.CheckSignature(i.key, r.Header.Get(webhook.SignatureHeader), time.Now(), 5*time.Minute, r.Method, body) != nil {
		i.refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodPost {
		var order struct{ Version string }
		if err := json.Unmarshal(body, &order); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		i.version = order.Version
		w.WriteHeader(http.StatusAccepted)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"version": i.version, "done": true})
}

func (i *instance) seen() (version string, refused int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.version, i.refused
}

// From keyturn.yaml to the instance: the key is read by the function's own
// client, and what it can't read is never left out.
func TestInstancesAreToldWithThePolicysKey(t *testing.T) {
	t.Parallel()
	local, err := localstack.Start(t.Context(), localstack.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	cfg, err := deployment.AWSConfig(with(map[string]string{"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": local.Endpoint}))
	if err != nil {
		t.Fatal(err)
	}
	secrets := secretsmanager.NewFromConfig(cfg)
	const canary = "follow-key-canary-0123456789abcdef0123456789abcdef"
	made, err := secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("web/follow-key"), SecretString: aws.String(canary)})
	if err != nil {
		t.Fatal(err)
	}
	web := &instance{key: rotation.NewValue(canary), version: "old"}
	server := httptest.NewServer(web)
	t.Cleanup(server.Close)

	adopt := func(followKey string) (rotation.Result, string, error) {
		var lines strings.Builder
		dir := t.TempDir()
		engine, c := engineOf(t, cfg, dir, server.URL, followKey, &lines)
		res, err := engine.Adopt(t.Context(), c)
		return res, lines.String(), err
	}
	res, log, err := adopt(aws.ToString(made.ARN))
	if err != nil || res.Outcome != rotation.Done {
		t.Fatalf("got %+v, %v", res, err)
	}
	if version, refused := web.seen(); version != "new" || refused != 0 {
		t.Errorf("the instance is on %s, after %d refusals", version, refused)
	}
	if strings.Contains(log, "canary") {
		t.Errorf("the log holds the key: %s", log)
	}
	missing := strings.Replace(aws.ToString(made.ARN), "web/follow-key", "web/other-key", 1)
	if res, _, err := adopt(missing); !fault.Is(err, fault.InvalidInput) || !strings.Contains(fault.HintOf(err), "follow_key") {
		t.Errorf("a key that isn't there: %+v, %v (%s)", res, err, fault.HintOf(err))
	}
	if _, refused := web.seen(); refused != 0 {
		t.Errorf("%d requests came without a signature", refused)
	}
	if res, _, err := adopt(""); err != nil || res.Outcome != rotation.Unknown {
		t.Errorf("unsigned: %+v, %v", res, err)
	}
	if _, refused := web.seen(); refused == 0 {
		t.Error("the policy that names no key has signed all the same")
	}
}

// engineOf assembles what a function has, from a keyturn.yaml.
func engineOf(t *testing.T, cfg aws.Config, dir, url, followKey string, log io.Writer) (rotation.Engine, rotation.Change) {
	t.Helper()
	const secret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:web/db-AbCdEf"
	consumer := "name: web, follow: [\"" + url + "\"]"
	if followKey != "" {
		consumer += ", follow_key: \"" + followKey + "\""
	}
	text := "version: 1\nsecrets:\n- secret: " + secret + "\n  kind: postgres\n  consumers: [{" + consumer + "}]\n" +
		"  postgres: {hosts: [\"db:5432\"], admin: " + strings.Replace(secret, "web/db", "web/admin", 1) + "}\n"
	doc, err := compile.Source("keyturn.yaml", []byte(text), deployment.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(path, doc.JSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := deployment.Assemble(cfg, deployment.Settings{Policy: path, StateMachine: "arn:sm", AuditDir: dir},
		deployment.Actor{Name: "adoptSecret", Type: audit.Controller, Lines: log}, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := r.Engines.Engine(postgres.Kind)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Policies.Policy(secret)
	if err != nil {
		t.Fatal(err)
	}
	return engine, rotation.Change{Secret: secret, From: "old", To: "new", Policy: p}
}
