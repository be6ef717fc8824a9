package pgxauth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/consumer/pgxauth"
	"github.com/keyturn/keyturn/consumer/pgxauth/pgxauthtest"
)

func TestNewNamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := pgxauth.New(pgxauth.Config{TTL: time.Second, Jitter: time.Minute, Spread: -1})
	if err == nil {
		t.Fatal("New accepted an empty configuration")
	}
	for _, want := range []string{"set Secrets", "set SecretID", "Spread is negative", "jitter"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't mention %q: %v", want, err)
		}
	}
}

func TestMalformedSecret(t *testing.T) {
	t.Parallel()
	const canary = "canary-7731"
	tests := map[string]struct{ text, want string }{
		"no JSON":               {"postgres://u:" + canary + "@h/db", "isn't a JSON object"},
		"a JSON string":         {`"` + canary + `"`, "isn't a JSON object"},
		"null":                  {`null`, "isn't a JSON object"},
		"empty":                 {``, "isn't a JSON object"},
		"no user":               {`{"password":"` + canary + `"}`, `"username" is missing`},
		"no password":           {`{"username":"` + canary + `"}`, `"password" is missing`},
		"both missing":          {`{"user":"` + canary + `"}`, `"password" is missing`},
		"password is a number":  {`{"username":"u","password":7731}`, `"password" has to be a string`},
		"password is null":      {`{"username":"u","password":null}`, `"password" has to be a string`},
		"password is empty":     {`{"username":"u","password":""}`, `"password" has to be a string`},
		"password with a NUL":   {`{"username":"u","password":"` + canary + `\u0000"}`, "NUL"},
		"host is a number":      {`{"username":"u","password":"` + canary + `","host":7731}`, `"host" has to be a string`},
		"port out of range":     {`{"username":"u","password":"` + canary + `","port":77310}`, `"port" has to be a number`},
		"port is no number":     {`{"username":"u","password":"` + canary + `","port":"` + canary + `"}`, `"port" has to be a number`},
		"database is an object": {`{"username":"u","password":"` + canary + `","dbname":{}}`, `"dbname" has to be a string`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := pgxauthtest.NewSecret("shop/db")
			secret.PutText("v1", tt.text)
			_, err := pgxauth.NewPool(t.Context(), follow(t, secret, nil), poolConfig(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "7731") {
				t.Fatalf("the error shows a part of the secret: %v", err)
			}
		})
	}
}

func TestUnknownFieldsAndStringPortsAreTolerated(t *testing.T) {
	t.Parallel()
	role := newRole(t, "pw")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", role, "pw", "dbInstanceIdentifier", "x", "port", "5432", "masterarn", nil)
	pool := openPool(t, follow(t, secret, nil), poolConfig(t))
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReadsAreSharedByAllWhoAskAtTheSameTime(t *testing.T) {
	t.Parallel()
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", newRole(t, "pw"), "pw")
	release := secret.Hold()
	defer release()
	c := follow(t, secret, nil)
	var all sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		all.Go(func() {
			pool, err := pgxauth.NewPool(t.Context(), c, poolConfig(t))
			if err == nil {
				pool.Close()
			}
			errs <- err
		})
	}
	await(t, "a read", func() bool { return secret.Calls() > 0 })
	release()
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if n := secret.Calls(); n != 1 {
		t.Errorf("Secrets Manager was asked %d times, want once", n)
	}
}

func TestOlderValueIsServedWhileSecretsManagerFails(t *testing.T) {
	t.Parallel()
	clock := &manualClock{}
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", newRole(t, "pw"), "pw")
	c := follow(t, secret, func(cfg *pgxauth.Config) { cfg.Now, cfg.TTL = clock.now, time.Hour })
	pool := openPool(t, c, poolConfig(t))
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	secret.Fail(errors.New("throttled"))
	clock.advance(2 * time.Hour)
	pool.Reset()
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatalf("with an older value at hand: %v", err)
	}
	if s := c.Stats(); s.StaleServes == 0 || s.AuthRetries != 0 {
		t.Errorf("got %+v, want stale serves and no retry", s)
	}
	// A second login within MinRefresh doesn't ask again.
	asked := secret.Calls()
	pool.Reset()
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if secret.Calls() != asked {
		t.Errorf("asked %d times more within MinRefresh", secret.Calls()-asked)
	}
	secret.Fail(nil)
	clock.advance(time.Minute)
	pool.Reset()
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if secret.Calls() != asked+1 {
		t.Errorf("asked %d times after the failure was over, want once", secret.Calls()-asked)
	}
}

func TestNothingToServeIsAnError(t *testing.T) {
	t.Parallel()
	secret := pgxauthtest.NewSecret("shop/db")
	trouble := errors.New("access denied")
	secret.Fail(trouble)
	_, err := pgxauth.NewPool(t.Context(), follow(t, secret, nil), poolConfig(t))
	if !errors.Is(err, trouble) || !strings.Contains(err.Error(), secret.ARN()) {
		t.Errorf("got %v, want the cause and the secret's name", err)
	}
}

func TestClosedCredentials(t *testing.T) {
	t.Parallel()
	secret := pgxauthtest.NewSecret("shop/db")
	release := secret.Hold()
	defer release()
	c := follow(t, secret, nil)
	c.Close() // ends a read that hangs
	c.Close()
	if _, err := pgxauth.NewPool(t.Context(), c, poolConfig(t)); !errors.Is(err, pgxauth.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestCallersContextBoundsTheWait(t *testing.T) {
	t.Parallel()
	secret := pgxauthtest.NewSecret("shop/db")
	release := secret.Hold()
	defer release()
	c := follow(t, secret, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pgxauth.NewPool(ctx, c, poolConfig(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestPasswordIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const canary = "canary-7731"
	role := newRole(t, "another one")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", role, canary)
	c := follow(t, secret, nil)
	pool := openPool(t, c, poolConfig(t))
	err := pool.Ping(t.Context())
	if err == nil {
		t.Fatal("logged in with a wrong password")
	}
	for _, format := range []string{"%v", "%+v", "%#v"} {
		for what, v := range map[string]any{"error": err, "credentials": c, "stats": c.Stats()} {
			if text := fmt.Sprintf(format, v); strings.Contains(text, canary) {
				t.Errorf("%s of the %s shows the password", format, what)
			}
		}
	}
	// pgx hangs the configuration of the attempt on its error.
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) {
		t.Fatalf("got %T, want a ConnectError", err)
	}
	if failed.Config.Password != "" {
		t.Error("the error carries the password in its configuration")
	}
}

func TestStatsOfAFreshFollower(t *testing.T) {
	t.Parallel()
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", newRole(t, "pw"), "pw")
	c := follow(t, secret, func(cfg *pgxauth.Config) { cfg.TTL = time.Hour })
	pool := openPool(t, c, poolConfig(t))
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := pgxauth.Stats{Refreshes: 1, Versions: map[string]int{"v1": 1}}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Error(diff)
	}
	if c.Version() != "v1" {
		t.Errorf("got version %q, want v1", c.Version())
	}
}
