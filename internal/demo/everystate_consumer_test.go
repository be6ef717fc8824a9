package demo

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/pgtest"
)

// refuses reports the class of the SQLSTATE by which the server refuses a login,
// or "" if it takes it.
func (l *lane) refuses(ctx context.Context, c credential) (class string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, l.cluster.DSN(l.cluster.Primary, pgtest.Login{User: c.Username, Password: c.Password, Database: c.DBName}))
	if err == nil {
		_ = conn.Close(ctx)
		return ""
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code[:2]
	}
	return "other"
}

// consume is the lane's consumer: it reads the secret, logs in anew with what it
// reads and with what it has read within its cache's age, and stays connected.
func (l *lane) consume(ctx context.Context) {
	var kept *pgx.Conn
	var keptUser string
	type reading struct {
		c  credential
		at time.Time
	}
	var cached reading
	for pause(ctx, 150*time.Millisecond) == nil {
		out, err := l.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &l.arn})
		var c credential
		if err != nil || json.Unmarshal([]byte(aws.ToString(out.SecretString)), &c) != nil {
			continue
		}
		if time.Since(cached.at) > time.Second {
			cached = reading{c, time.Now()}
		}
		for _, used := range []credential{c, cached.c} {
			if l.refuses(ctx, used) == "28" {
				l.mu.Lock()
				if !l.excused {
					l.refused = append(l.refused, used.Username)
				}
				l.mu.Unlock()
			}
		}
		if kept == nil || keptUser != c.Username || kept.Ping(ctx) != nil {
			config, err := pgx.ParseConfig(l.cluster.DSN(l.cluster.Primary, pgtest.Login{User: c.Username, Password: c.Password, Database: c.DBName}))
			if err != nil {
				continue
			}
			config.RuntimeParams["application_name"] = "consumer"
			if conn, err := pgx.ConnectConfig(ctx, config); err == nil {
				if kept != nil {
					_ = kept.Close(ctx)
				}
				kept, keptUser = conn, c.Username
			}
		}
	}
	if kept != nil {
		_ = kept.Close(context.WithoutCancel(ctx))
	}
}
