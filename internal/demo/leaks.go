package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
)

// leaks looks for every password that there ever was in everything that was
// written: all logs (PostgreSQL's with log_statement=all), pg_stat_statements,
// the executions' histories, command lines, audit records. It returns where.
func (s *stage) leaks(ctx context.Context) ([]string, error) {
	sources, err := s.written(ctx)
	if err != nil {
		return nil, err
	}
	found := []string{}
	for _, where := range slices.Sorted(maps.Keys(sources)) {
		for login, password := range s.passes {
			if password != "" && bytes.Contains(sources[where], []byte(password)) {
				found = append(found, fmt.Sprintf("the password of %s in %s", login, where))
			}
		}
	}
	return found, nil
}

func (s *stage) written(ctx context.Context) (map[string][]byte, error) {
	sources := map[string][]byte{}
	for name, node := range map[string]*pgtest.Server{"primary": s.cluster.Primary, "replica": s.cluster.Replica} {
		text, err := node.Log()
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "reading the %s's log", name)
		}
		if !strings.Contains(text, "LOG:  ") {
			return nil, fault.New(fault.Internal, "the %s's log is empty: looking into it would prove nothing", name)
		}
		sources["the log of the "+name] = []byte(text)
	}
	for _, root := range []string{s.path("functions.log"), s.path("audit"), s.path("policy.json")} {
		if err := readAll(root, sources); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	sources["a command line"] = []byte(strings.Join(slices.Collect(maps.Keys(s.argv)), "\n"))
	s.mu.Unlock()
	if err := s.statements(ctx, sources); err != nil {
		return nil, err
	}
	if s.options.Naive {
		return sources, nil
	}
	return sources, s.histories(ctx, sources)
}

// readAll reads a file, or every file below a folder.
func readAll(root string, into map[string][]byte) error {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path) //nolint:gosec // a path below our own folder
		into[filepath.Base(root)+"/"+filepath.Base(path)+" "+path[len(root):]] = body
		return err
	})
	if os.IsNotExist(err) {
		return nil
	}
	return fault.Wrap(fault.Internal, err, "reading what was written")
}

func (s *stage) statements(ctx context.Context, into map[string][]byte) error {
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
	defer rows.Close()
	var all bytes.Buffer
	for rows.Next() {
		var query string
		if err := rows.Scan(&query); err != nil {
			return fault.Wrap(fault.Internal, err, "reading pg_stat_statements")
		}
		all.WriteString(query + "\n")
	}
	into["pg_stat_statements"] = all.Bytes()
	return rows.Err()
}

// histories reads what Step Functions keeps for 90 days for everybody to see.
func (s *stage) histories(ctx context.Context, into map[string][]byte) error {
	executions := sfn.NewListExecutionsPaginator(s.sfn, &sfn.ListExecutionsInput{StateMachineArn: &s.machine})
	for executions.HasMorePages() {
		page, err := executions.NextPage(ctx)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "listing executions")
		}
		for _, e := range page.Executions {
			var all bytes.Buffer
			history := sfn.NewGetExecutionHistoryPaginator(s.sfn, &sfn.GetExecutionHistoryInput{ExecutionArn: e.ExecutionArn})
			for history.HasMorePages() {
				events, err := history.NextPage(ctx)
				if err != nil {
					return fault.Wrap(fault.Internal, err, "reading a history")
				}
				if err := json.NewEncoder(&all).Encode(events.Events); err != nil {
					return fault.Wrap(fault.Internal, err, "reading a history")
				}
			}
			into["the history of "+aws.ToString(e.Name)] = all.Bytes()
		}
	}
	return nil
}

// watchArgv notes every command line of the machine: a password in one could
// be read by any user.
func (s *stage) watchArgv() {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		body, err := os.ReadFile(path)
		if err != nil || len(body) == 0 {
			continue
		}
		s.mu.Lock()
		s.argv[string(bytes.ReplaceAll(body, []byte{0}, []byte{' '}))] = true
		s.mu.Unlock()
	}
}
