package pgxauth_test

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/consumer/pgxauth"
	"github.com/keyturn/keyturn/consumer/pgxauth/pgxauthtest"
	"github.com/keyturn/keyturn/internal/pgtest"
)

// A service opens its pool once. What it does with the pool doesn't change.
func Example() {
	ctx := context.Background()
	// In a service: secretsmanager.NewFromConfig(cfg).
	client := pgxauthtest.NewSecret("shop/db")
	prepare(ctx, client)

	credentials, err := pgxauth.New(pgxauth.Config{
		Secrets:  client,
		SecretID: "shop/db",
		TTL:      100 * time.Millisecond, // in a service: at most half the drain window
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer credentials.Close()

	cfg, err := pgxpool.ParseConfig(address()) // no user, no password
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg.MinConns = 2
	pool, err := pgxauth.NewPool(ctx, credentials, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()

	user := func() (name string) {
		if err := pool.QueryRow(ctx, "SELECT session_user").Scan(&name); err != nil {
			return err.Error()
		}
		return name
	}
	fmt.Println("before:", user())
	client.Put("version-2", "shop_v2", "second") // a rotation
	for user() != "shop_v2" {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("after:", user())
	fmt.Println("refused logins:", credentials.Stats().AuthRetries)

	// Output:
	// before: shop
	// after: shop_v2
	// refused logins: 0
}

// prepare makes the two logins of the example on a real server.
func prepare(ctx context.Context, client *pgxauthtest.Secret) {
	for role, password := range map[string]string{"shop": "first", "shop_v2": "second"} {
		if err := cluster.Exec(ctx, "postgres", "CREATE ROLE "+role+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(password))); err != nil {
			fmt.Println(err)
		}
	}
	client.Put("version-1", "shop", "first")
}
