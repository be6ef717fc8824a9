package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"
)

// ask runs a query as pgx does it by default, and reads every row.
func (b *bare) ask(conn *pgx.Conn, sql string, args ...any) [][]any {
	b.tb.Helper()
	rows, err := conn.Query(b.ctx, sql, args...)
	if err != nil {
		b.tb.Fatalf("%s: %v", sql, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		b.tb.Fatalf("%s: %v", sql, err)
	}
	return all
}

func (b *bare) do(conn *pgx.Conn, sql string) {
	b.tb.Helper()
	if _, err := conn.Exec(b.ctx, sql); err != nil {
		b.tb.Fatalf("%s: %v", sql, err)
	}
}

// refused tries a login that must not work.
func (b *bare) refused(v value) {
	b.tb.Helper()
	if conn, err := b.dial("bare", v); err == nil {
		b.close(conn)
		b.tb.Fatalf("%s was accepted", v.Username)
	}
}

func (b *bare) asAdmin() *pgx.Conn {
	b.tb.Helper()
	out, err := b.secrets.GetSecretValue(b.ctx, &secretsmanager.GetSecretValueInput{SecretId: &b.admin})
	if err != nil {
		b.tb.Fatal(err)
	}
	var v value
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &v); err != nil {
		b.tb.Fatal(err)
	}
	return b.connect("bare", v)
}

func (b *bare) close(conns ...*pgx.Conn) {
	for _, c := range conns {
		_ = c.Close(context.WithoutCancel(b.ctx))
	}
}

func (b *bare) describe() {
	b.tb.Helper()
	out, err := b.secrets.DescribeSecret(b.ctx, &secretsmanager.DescribeSecretInput{SecretId: &b.ARN})
	if err != nil {
		b.tb.Fatal(err)
	}
	b.versions = out.VersionIdsToStages
}

func (b *bare) holder(label string) string {
	for id, labels := range b.versions {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

func (b *bare) both() (from, to value) {
	from, _ = b.get(b.old)
	to, _ = b.get(b.token)
	return from, to
}

func (b *bare) get(version string) (v value, there bool) {
	b.tb.Helper()
	out, err := b.secrets.GetSecretValue(b.ctx, &secretsmanager.GetSecretValueInput{SecretId: &b.ARN, VersionId: &version})
	if err != nil {
		return v, false
	}
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &v); err != nil {
		b.tb.Fatal(err)
	}
	return v, true
}

func (b *bare) put(v value) {
	b.tb.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		b.tb.Fatal(err)
	}
	if _, err := b.secrets.PutSecretValue(b.ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &b.ARN, ClientRequestToken: &b.token, SecretString: aws.String(string(text)),
		VersionStages: []string{"KEYTURN_CANDIDATE_" + b.token},
	}); err != nil {
		b.tb.Fatal(err)
	}
}

func (b *bare) label(label, to, from string) {
	b.tb.Helper()
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &b.ARN, VersionStage: &label}
	if to != "" {
		in.MoveToVersionId = &to
	}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	if _, err := b.secrets.UpdateSecretVersionStage(b.ctx, in); err != nil {
		b.tb.Fatal(err)
	}
}

// record puts as many bytes as a record has, into a ledger of the same kind.
func (b *bare) record(phase string) {
	b.tb.Helper()
	body := make([]byte, 900)
	for i := range body {
		body[i] = '.'
	}
	folder := "records"
	if phase == "announce" {
		b.puts, folder = 0, "heads"
	} else {
		b.puts++
	}
	if err := b.ledger.Put(b.ctx, fmt.Sprintf("%s/%s/%s/%08d.json", folder, b.Name, b.token, b.puts), body); err != nil {
		b.tb.Fatal(err)
	}
}

func (b *bare) http(method, body string) {
	b.tb.Helper()
	req, err := http.NewRequestWithContext(b.ctx, method, b.Instance.URL, strings.NewReader(body))
	if err != nil {
		b.tb.Fatal(err)
	}
	resp, err := b.web.Do(req)
	if err != nil {
		b.tb.Fatal(err)
	}
	var answer map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&answer) // an order has no answer
	_ = resp.Body.Close()
}
