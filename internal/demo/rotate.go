package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// turn is one rotation as it was played.
type turn struct {
	Token    string
	By       string // "RotateSecret" or "state machine"
	From, To credential
	Started  time.Time
	Promoted time.Time
	Ended    time.Time
	Back     bool // turned back
}

// gone is the login that the turn has killed.
func (t turn) gone() credential {
	if t.Back {
		return t.To
	}
	return t.From
}

// kept is the login that is current after the turn.
func (t turn) kept() credential {
	if t.Back {
		return t.From
	}
	return t.To
}

// longestTurn is when a rotation of the demo is given up, with what it waits for.
const longestTurn = 10 * time.Minute

// rotate plays one rotation, alternately by Secrets Manager's own schedule call
// and by the state machine, and waits until the labels say that it is over.
func (s *stage) rotate(ctx context.Context, i int) error {
	from, err := s.current(ctx)
	if err != nil {
		return err
	}
	t := turn{Token: uuid.NewString(), By: "RotateSecret", From: from, Started: time.Now()}
	if i%2 == 1 {
		t.By = "state machine"
	}
	ctx, cancel := context.WithTimeoutCause(ctx, longestTurn, fault.New(fault.Unavailable, "rotation %d isn't over after %s", i+1, longestTurn))
	defer cancel()
	s.begin(t)
	if err := s.start(ctx, t); err != nil {
		return err
	}
	for {
		over, err := s.look(ctx, &t)
		if err != nil {
			return err
		}
		s.progress(t)
		if over {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fault.Wrap(fault.Unavailable, context.Cause(ctx), "waiting for rotation %d: %s", i+1, s.waiting(t))
		}
	}
	t.Ended = time.Now()
	heap := heapMiB()
	s.mu.Lock()
	s.turns = append(s.turns, t)
	s.heap = append(s.heap, heap)
	s.mu.Unlock()
	s.progress(t)
	return nil
}

func (s *stage) start(ctx context.Context, t turn) error {
	if t.By == "state machine" {
		_, err := s.rotator.StartHead(ctx, s.appARN, t.Token)
		return err
	}
	_, err := s.secrets.RotateSecret(ctx, &secretsmanager.RotateSecretInput{SecretId: &s.appARN, ClientRequestToken: &t.Token})
	return fault.Wrap(fault.Internal, err, "calling RotateSecret")
}

// look reads the labels, which are all the state there is, and plays the
// operator: what the watchdog's schedule does each minute happens here each look.
func (s *stage) look(ctx context.Context, t *turn) (over bool, err error) {
	desc, err := s.rotator.Store.Describe(ctx, s.appARN)
	if err != nil {
		return false, err
	}
	v := desc.Versions
	if t.To.Username == "" && len(v[t.Token]) > 0 {
		if value, err := s.rotator.Store.Value(ctx, s.appARN, t.Token); err == nil {
			t.To = s.remember(value)
		}
	}
	if t.Promoted.IsZero() && v.Has(t.Token, rotation.Current) {
		t.Promoted = time.Now()
	}
	if s.options.Rollback && !t.Back && !t.Promoted.IsZero() && time.Since(t.Promoted) > 2*time.Second {
		t.Back = true
		s.load.Mark(intervalReverse)
		if _, err := s.rotator.RequestRollback(ctx, s.appARN); err != nil {
			return false, err
		}
		return false, nil
	}
	if !s.chaos.due() {
		return s.settled(v, *t), nil
	}
	if err := s.invoke(ctx, "watchdog", []byte(`{}`)); err != nil {
		s.logs.line("demo", err.Error())
	}
	return s.settled(v, *t), nil
}

// settled reports that one credential is current and alone: the new one, or
// the old one after a rollback.
func (s *stage) settled(v rotation.Versions, t turn) bool {
	if rotation.Read(v, rotation.DriverSecretsManager).Need != rotation.NeedNothing || v.Holder(rotation.Retiring) != "" {
		return false
	}
	if t.Back {
		return v.Has(t.Token, rotation.Rejected) && !v.Has(t.Token, rotation.Current)
	}
	return v.Has(t.Token, rotation.Current) || v.Has(t.Token, rotation.Rejected)
}

// heapMiB is what is reachable on this process's heap, without what pools hold:
// they give it up at the second collection.
func heapMiB() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return math.Round(float64(m.HeapAlloc)/(1<<20)*10) / 10
}

func (s *stage) waiting(t turn) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spans {
		if sp.to.IsZero() && sp.token == t.Token {
			return "it is in state " + sp.name
		}
	}
	return "no state is active"
}

func (s *stage) current(ctx context.Context) (credential, error) {
	value, _, err := s.rotator.Store.Current(ctx, s.appARN)
	if err != nil {
		return credential{}, err
	}
	return s.remember(value), nil
}

// remember keeps every password that there ever was, to look for it afterwards
// where it must not be.
func (s *stage) remember(v rotation.Value) credential {
	var c credential
	if err := json.Unmarshal([]byte(v.Reveal()), &c); err != nil {
		return credential{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passes[c.Username] = c.Password
	return c
}

// rotateInPlace is how it is done without Keyturn: the password is changed in
// place, then the secret. Consumers fail until they have read it again.
func (s *stage) rotateInPlace(ctx context.Context) error {
	value, err := s.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.appARN})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the secret")
	}
	var c credential
	if err := json.Unmarshal([]byte(aws.ToString(value.SecretString)), &c); err != nil {
		return fault.New(fault.Internal, "the secret isn't the demo's JSON")
	}
	t := turn{Token: uuid.NewString(), By: "ALTER PASSWORD in place", From: c, Started: time.Now()}
	c.Password = uuid.NewString()
	sql := fmt.Sprintf("ALTER ROLE %s PASSWORD %s", pgtest.Ident(c.Username), pgtest.Literal(pgtest.Verifier(c.Password)))
	if err := s.cluster.Exec(ctx, "postgres", sql); err != nil {
		return err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := s.secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &s.appARN, SecretString: aws.String(string(text))}); err != nil {
		return fault.Wrap(fault.Internal, err, "storing the new password")
	}
	t.To, t.Promoted, t.Ended = c, time.Now(), time.Now()
	s.mu.Lock()
	s.turns = append(s.turns, t)
	s.mu.Unlock()
	// Connections are recycled after 15 s: then the last consumer has noticed.
	return pause(ctx, 17*time.Second)
}
