package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
)

// envUpAddr is where the local AWS listens, unless --addr says it.
const envUpAddr = "KEYTURN_UP_ADDR"

// up is one local AWS in the foreground.
type up struct {
	addr     string
	env      string // file; "" is stdout
	postgres bool
	version  string
	logs     io.Writer
}

func upCommand() *cobra.Command {
	var u up
	cmd := &cobra.Command{
		Use: "up", Short: "run the local AWS in the foreground, to deploy into and to try commands on", Args: nothing,
		Long: `up serves Secrets Manager, Lambda, Step Functions, EventBridge, S3, KMS, SNS and
SQS on one port of this machine until it is interrupted. What a terminal needs
to reach them is printed, or written to the file of --env: read it with
". FILE". Then aws, keyturn and make deploy work on it. With --postgres it
starts a PostgreSQL with TLS, too, and sets psql's variables to its superuser.
Nothing is kept; functions' logs go to stderr.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			u.logs = cmd.ErrOrStderr()
			return u.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	addr := os.Getenv(envUpAddr)
	if addr == "" {
		addr = localstack.DefaultAddr
	}
	f := cmd.Flags()
	f.StringVar(&u.addr, "addr", addr, "where to listen; port 0 picks a free one ($"+envUpAddr+")")
	f.StringVar(&u.env, "env", "", "write what a shell has to export into this file, when all is ready")
	f.BoolVar(&u.postgres, "postgres", false, "start a PostgreSQL, too")
	f.StringVar(&u.version, "postgres-version", "", "its major version, 15 or 18 (default: the newest of Debian's)")
	return cmd
}

// run serves until the context ends, which is how it is meant to end.
func (u *up) run(ctx context.Context, out io.Writer) error {
	log := slog.New(slog.NewJSONHandler(u.logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cloud, err := localstack.Start(ctx, localstack.Options{
		Addr: u.addr, Logger: log,
		Lambda: lambda.Config{LogSink: func(function, line string) { fmt.Fprintln(u.logs, function, line) }},
	})
	if err != nil {
		return fault.Wrap(fault.InvalidInput, err, "starting the local AWS")
	}
	defer func() { _ = cloud.Close() }() // its services have nothing to lose
	exports := awsExports(cloud.Endpoint)
	if u.postgres {
		cluster, err := pgtest.Start(ctx, pgtest.Options{Version: u.version, TLS: true})
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "starting PostgreSQL")
		}
		defer cluster.Stop()
		more, err := postgresExports(cluster)
		if err != nil {
			return err
		}
		exports = append(exports, more...)
	}
	if err := u.tell(out, exports); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// tell writes the exports all at once: whoever waits for the file finds it whole.
func (u *up) tell(out io.Writer, exports []string) error {
	text := strings.Join(exports, "\n") + "\n"
	if u.env == "" {
		_, err := io.WriteString(out, text)
		return fault.Wrap(fault.Unavailable, err, "printing what to export")
	}
	part := filepath.Join(filepath.Dir(u.env), "."+filepath.Base(u.env)+".part")
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		return fault.Wrap(fault.InvalidInput, err, "writing what to export")
	}
	if err := os.Rename(part, u.env); err != nil {
		return fault.Wrap(fault.InvalidInput, err, "writing what to export")
	}
	fmt.Fprintf(out, "the local AWS is up until you interrupt it; in another terminal: . %s\n", u.env)
	return nil
}

// awsExports point the SDKs and the CLI at the local AWS, whatever profile a
// shell has.
func awsExports(endpoint string) []string {
	return []string{
		"unset AWS_PROFILE AWS_SESSION_TOKEN",
		export("AWS_ENDPOINT_URL", endpoint), export("AWS_REGION", awsproto.Region), export("AWS_DEFAULT_REGION", awsproto.Region),
		export("AWS_ACCESS_KEY_ID", "operator"), export("AWS_SECRET_ACCESS_KEY", "local"),
		export("AWS_CONFIG_FILE", os.DevNull), export("AWS_SHARED_CREDENTIALS_FILE", os.DevNull),
	}
}

// postgresExports are psql's own variables (PostgreSQL's libpq, "Environment
// Variables").
func postgresExports(c *pgtest.Cluster) ([]string, error) {
	dsn, err := url.Parse(c.SuperuserDSN("postgres"))
	if err != nil {
		return nil, fault.New(fault.Internal, "the superuser's connection string can't be read")
	}
	password, _ := dsn.User.Password()
	return []string{
		export("PGHOST", dsn.Hostname()), export("PGPORT", dsn.Port()), export("PGDATABASE", "postgres"),
		export("PGUSER", dsn.User.Username()), export("PGPASSWORD", password),
		export("PGSSLMODE", dsn.Query().Get("sslmode")), export("PGSSLROOTCERT", dsn.Query().Get("sslrootcert")),
	}, nil
}

// export is a line for a POSIX shell.
func export(name, value string) string {
	return "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
