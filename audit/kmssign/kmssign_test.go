package kmssign_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/audit/kmssign"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
)

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	secrets = []string{"arn:b", "arn:a"}
)

// setup makes a key that signs, and its public half.
func setup(t *testing.T) (*kmssign.Signer, []byte) {
	t.Helper()
	running, err := localstack.Start(t.Context(), localstack.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	api := kms.NewFromConfig(aws.Config{
		Region: awsproto.Region, BaseEndpoint: &running.Endpoint, Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	key, err := api.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	public, err := kmssign.Public(t.Context(), api, *key.KeyMetadata.Arn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kmssign.Public(t.Context(), api, *key.KeyMetadata.Arn+"0"); !fault.Is(err, fault.InvalidInput) || fault.HintOf(err) == "" {
		t.Errorf("a key that isn't there: %v", err)
	}
	return &kmssign.Signer{API: api, Key: *key.KeyMetadata.Arn}, public
}

// rotate records one step of a rotation.
func rotate(t *testing.T, l audit.Ledger, secret, rotation string, at time.Time) {
	t.Helper()
	j := audit.Journal{Ledger: l, Actor: "a", ActorType: audit.Controller}
	if err := j.Record(t.Context(), audit.Record{Time: at, SecretID: secret, RotationID: rotation, Step: "create", Phase: audit.Intent}); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, l audit.Ledger, s audit.Signer, at time.Time) audit.Manifest {
	t.Helper()
	m, err := audit.Publish(t.Context(), l, s, secrets, at)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAManifestIsSignedAndFollowsTheOneBefore(t *testing.T) {
	t.Parallel()
	signer, public := setup(t)
	ledger := &audittest.Memory{}
	rotate(t, ledger, "arn:a", "r1", noon)
	rotate(t, ledger, "arn:b", "r1", noon)
	first := publish(t, ledger, signer, noon.Add(2*time.Hour))
	if first.Day != "2026-03-01" || first.Before != "" || first.KeyID != signer.Key || len(first.Secrets) != 2 || first.Secrets[0].SecretID != "arn:a" {
		t.Errorf("the first: %+v", first)
	}
	if again := publish(t, ledger, signer, noon.Add(3*time.Hour)); !cmp.Equal(first, again) {
		t.Errorf("again on its day:\n%s", cmp.Diff(first, again))
	}
	rotate(t, ledger, "arn:a", "r2", noon.Add(20*time.Hour))
	second := publish(t, ledger, signer, noon.Add(24*time.Hour))
	if second.Before != first.Hash || len(second.Secrets) != 1 || len(second.Of("arn:a")) != 1 || second.Of("arn:a")[0].RotationID != "r2" || second.Of("arn:b") != nil {
		t.Errorf("the second lists what hasn't grown, or not what has: %+v", second)
	}
	for _, day := range []string{first.Day, second.Day} {
		m, err := audit.Published(t.Context(), ledger, day)
		if err != nil {
			t.Fatal(err)
		}
		if err := kmssign.Verify(m, public); err != nil {
			t.Errorf("%s: %v", day, err)
		}
	}
	if late := publish(t, ledger, signer, noon.Add(-24*time.Hour)); late.Day != second.Day {
		t.Errorf("a clock that is behind published %+v", late)
	}
}

// The one who can write the whole ledger rebuilds a chain: the manifest tells.
func TestARebuiltChainIsFound(t *testing.T) {
	t.Parallel()
	signer, _ := setup(t)
	ledger := &audittest.Memory{}
	rotate(t, ledger, "arn:a", "r1", noon)
	m := publish(t, ledger, signer, noon.Add(time.Hour))
	rebuilt := &audittest.Memory{}
	rotate(t, rebuilt, "arn:a", "r1", noon.Add(time.Minute))
	if _, err := audit.Verify(t.Context(), rebuilt, "arn:a"); err != nil {
		t.Fatalf("the rebuilt chain isn't whole: %v", err)
	}
	var findings *audit.FindingsError
	if _, err := audit.Verify(t.Context(), rebuilt, "arn:a", m.Of("arn:a")...); !errors.As(err, &findings) {
		t.Errorf("with the manifest: %v", err)
	}
}

func TestAManifestThatWasChanged(t *testing.T) {
	t.Parallel()
	signer, public := setup(t)
	other, foreign := setup(t)
	ledger := &audittest.Memory{}
	rotate(t, ledger, "arn:a", "r1", noon)
	good := publish(t, ledger, signer, noon.Add(time.Hour))
	changes := map[string]func(*audit.Manifest){
		"a head":      func(m *audit.Manifest) { m.Secrets[0].Heads[0].Seq++ },
		"the day":     func(m *audit.Manifest) { m.Day = "2026-03-02" },
		"its hash":    func(m *audit.Manifest) { m.Hash = strings.Repeat("0", 64) },
		"a signature": func(m *audit.Manifest) { m.Signature[10] ^= 1 },
		"none":        func(m *audit.Manifest) { m.Signature = nil },
		"signed anew by another key": func(m *audit.Manifest) {
			digest, err := m.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if _, m.Signature, err = other.Sign(t.Context(), digest); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, change := range changes {
		m := copied(t, good)
		change(&m)
		if err := kmssign.Verify(m, public); !fault.Is(err, fault.InvalidInput) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, key := range map[string][]byte{"another key": foreign, "no key": []byte("key")} {
		if err := kmssign.Verify(good, key); !fault.Is(err, fault.InvalidInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func copied(t *testing.T, m audit.Manifest) audit.Manifest {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var c audit.Manifest
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Nothing is published unsigned, and what somebody else put there isn't taken for one.
func TestWhatIsNoManifest(t *testing.T) {
	t.Parallel()
	signer, _ := setup(t)
	ledger := &audittest.Memory{}
	rotate(t, ledger, "arn:a", "r1", noon)
	if _, err := audit.Publish(t.Context(), ledger, mute{}, secrets, noon); !fault.Is(err, fault.AuditUnavailable) {
		t.Errorf("a key that doesn't sign: %v", err)
	}
	if slices.ContainsFunc(ledger.Keys(), func(key string) bool { return strings.HasPrefix(key, "manifests/") }) {
		t.Error("an unsigned manifest was published")
	}
	publish(t, ledger, signer, noon)
	for _, body := range []string{"no JSON", `{"day":"2026-02-28"}`, `{"day":"2026-03-01","more":1}`} {
		bad := ledger.Clone()
		bad.Tamper("manifests/2026-03-01.json", []byte(body))
		if _, err := audit.Publish(t.Context(), bad, signer, secrets, noon.Add(24*time.Hour)); !fault.Is(err, fault.InvalidInput) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestAPublicKeyThatIsNone(t *testing.T) {
	t.Parallel()
	_, public := setup(t)
	if err := kmssign.CheckPublic(public); err != nil {
		t.Error(err)
	}
	for _, no := range [][]byte{nil, []byte("key"), public[1:]} {
		if err := kmssign.CheckPublic(no); !fault.Is(err, fault.InvalidInput) || fault.HintOf(err) == "" {
			t.Errorf("%q: %v", no, err)
		}
	}
}

type mute struct{}

func (mute) Sign(context.Context, []byte) (string, []byte, error) {
	return "", nil, errors.New("DisabledException")
}
