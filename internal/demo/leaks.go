package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
)

// leaks looks for every password that there ever was in everything that was
// written: all logs (PostgreSQL's with log_statement=all), pg_stat_statements,
// the executions' histories, command lines, audit records. It returns where.
func (s *stage) leaks(ctx context.Context) ([]string, error) {
	c, err := newCanary(s.passes)
	if err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context, *canary) error{s.serverLogs, s.ownFiles, s.commandLines, s.statements, s.histories} {
		if err := read(ctx, c); err != nil {
			return nil, err
		}
	}
	slices.Sort(c.found)
	return c.found, nil
}

func (s *stage) serverLogs(_ context.Context, c *canary) error {
	for name, node := range map[string]*pgtest.Server{"primary": s.cluster.Primary, "replica": s.cluster.Replica} {
		written, err := c.lookIntoFile("the log of the "+name, node.LogFile, "LOG:  ")
		if err != nil {
			return err
		}
		if !written {
			return fault.New(fault.Internal, "the %s's log is empty: looking into it would prove nothing", name)
		}
	}
	return nil
}

// ownFiles are what functions, consumers and operator have written.
func (s *stage) ownFiles(_ context.Context, c *canary) error {
	for _, root := range []string{s.path("functions.log"), s.path("audit"), s.path("policy.json")} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = c.lookIntoFile(strings.TrimPrefix(path, s.dir+"/"), path, "")
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // never written, or another writer's temporary file
			}
			return err
		})
		if err != nil {
			return fault.Wrap(fault.Internal, err, "reading what was written")
		}
	}
	return nil
}

func (s *stage) commandLines(_ context.Context, c *canary) error {
	if s.argv.err != nil {
		return s.argv.err
	}
	ours, err := c.lookIntoFile("a command line", s.argv.file.Name(), os.Args[0])
	if err == nil && !ours {
		s.unread = append(s.unread, "command lines: this system doesn't show them in /proc")
	}
	return err
}

func (s *stage) statements(ctx context.Context, c *canary) error {
	conn, err := s.cluster.Superuser(ctx, s.cluster.Primary, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var installed bool
	if err := conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_available_extensions WHERE name = 'pg_stat_statements'").Scan(&installed); err != nil {
		return fault.Wrap(fault.Internal, err, "looking for pg_stat_statements")
	}
	if !installed {
		s.unread = append(s.unread, "pg_stat_statements: this PostgreSQL comes without it (Debian's postgresql package has it)")
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"); err != nil {
		return fault.Wrap(fault.Internal, err, "making pg_stat_statements readable")
	}
	rows, err := conn.Query(ctx, "SELECT query FROM pg_stat_statements")
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading pg_stat_statements")
	}
	var query string
	_, err = pgx.ForEachRow(rows, []any{&query}, func() error {
		_, err := c.lookInto("pg_stat_statements", strings.NewReader(query), "")
		return err
	})
	return fault.Wrap(fault.Internal, err, "reading pg_stat_statements")
}

// histories reads what Step Functions keeps for 90 days for everybody to see.
func (s *stage) histories(ctx context.Context, c *canary) error {
	if s.options.Naive {
		return nil
	}
	executions := sfn.NewListExecutionsPaginator(s.sfn, &sfn.ListExecutionsInput{StateMachineArn: &s.machine})
	for executions.HasMorePages() {
		page, err := executions.NextPage(ctx)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "listing executions")
		}
		for _, e := range page.Executions {
			history := sfn.NewGetExecutionHistoryPaginator(s.sfn, &sfn.GetExecutionHistoryInput{ExecutionArn: e.ExecutionArn, MaxResults: 1000})
			for history.HasMorePages() {
				events, err := history.NextPage(ctx)
				if err != nil {
					return fault.Wrap(fault.Internal, err, "reading a history")
				}
				body, err := json.Marshal(events.Events)
				if err == nil {
					_, err = c.lookInto("the history of "+aws.ToString(e.Name), bytes.NewReader(body), "")
				}
				if err != nil {
					return fault.Wrap(fault.Internal, err, "reading a history")
				}
			}
		}
	}
	return nil
}
