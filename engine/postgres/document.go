package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// maxName is the longest identifier that PostgreSQL keeps, in bytes.
const maxName = 63

// document is a secret's value: AWS's documented JSON fields and no others.
type document struct {
	engine, host, username, dbname, masterARN string
	port                                      int
	password                                  rotation.Value
	plaintext                                 bool // "ssl": false
	fields                                    map[string]json.RawMessage
}

// fieldReader decodes one field after the other and keeps every complaint.
type fieldReader struct {
	fields map[string]json.RawMessage
	errs   []error
}

func (r *fieldReader) complain(field, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("field %q: %s", field, fmt.Sprintf(format, args...)))
}

// text reads a string; a missing optional one is "".
func (r *fieldReader) text(field string, required bool) string {
	raw, ok := r.fields[field]
	var s *string
	switch {
	case !ok && required:
		r.complain(field, "is missing; add it as a string")
		return ""
	case !ok:
		return ""
	case json.Unmarshal(raw, &s) != nil || s == nil:
		r.complain(field, "must be a string")
		return ""
	case required && *s == "":
		r.complain(field, "is empty")
	case strings.ContainsRune(*s, 0):
		r.complain(field, "holds a zero byte")
	}
	return *s
}

// port accepts a number or a numeric string, as AWS's samples do.
func (r *fieldReader) port(fallback int) int {
	raw, ok := r.fields["port"]
	if !ok {
		return fallback
	}
	text := strings.Trim(string(raw), `"`)
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != text {
		r.complain("port", "must be a number from 1 to 65535, or such a number as a string")
		return fallback
	}
	return n
}

// plaintext reads "ssl": a bool, or "true" or "false"; missing means TLS.
func (r *fieldReader) plaintext() bool {
	raw, ok := r.fields["ssl"]
	if !ok {
		return false
	}
	switch strings.ToLower(strings.Trim(string(raw), `"`)) {
	case "true":
		return false
	case "false":
		return true
	}
	r.complain("ssl", `must be true, false, "true" or "false"`)
	return false
}

var documentFields = []string{
	"engine", "host", "port", "username", "password", "dbname", "masterarn", "ssl",
	"dbInstanceIdentifier", "dbClusterIdentifier",
}

func readFields(v rotation.Value) (*fieldReader, error) {
	r := &fieldReader{}
	err := strictjson.Decode([]byte(v.Reveal()), &r.fields)
	var wrong *strictjson.Error
	if errors.As(err, &wrong) && wrong.Field != "" {
		// What stands below a field is a part of its value.
		field, _, _ := strings.Cut(wrong.Field, ".")
		field, _, _ = strings.Cut(field, "[")
		r.complain(field, "%s", wrong.Problem)
		return nil, r.fault()
	}
	if err != nil || r.fields == nil {
		// The decoder's own words may quote the value.
		return nil, fault.New(fault.InvalidInput, "the secret's value isn't a JSON object").
			WithHint(`store {"engine":"postgres","host":…,"port":…,"username":…,"password":…,"dbname":…}`)
	}
	for _, name := range slices.Sorted(maps.Keys(r.fields)) {
		if !slices.Contains(documentFields, name) {
			r.complain(name, "isn't one of AWS's documented fields (%s); remove it", strings.Join(documentFields, ", "))
		}
	}
	return r, nil
}

func (r *fieldReader) fault() error {
	if len(r.errs) == 0 {
		return nil
	}
	return fault.Wrap(fault.InvalidInput, errors.Join(r.errs...), "the secret's value is malformed")
}

// parseDocument decodes strictly. Its errors name fields, never values.
func parseDocument(v rotation.Value) (*document, error) {
	r, err := readFields(v)
	if err != nil {
		return nil, err
	}
	d := &document{
		engine: r.text("engine", true), host: strings.ToLower(r.text("host", true)), port: r.port(5432),
		username: r.text("username", true), password: rotation.NewValue(r.text("password", true)),
		dbname: r.text("dbname", false), masterARN: r.text("masterarn", false),
		plaintext: r.plaintext(), fields: r.fields,
	}
	r.text("dbInstanceIdentifier", false)
	r.text("dbClusterIdentifier", false)
	if d.engine != "" && d.engine != "postgres" && d.engine != "aurora-postgresql" {
		r.complain("engine", "must be postgres or aurora-postgresql")
	}
	r.names(d)
	return d, r.fault()
}

// names refuses what PostgreSQL would cut; a missing database is its usual one.
func (r *fieldReader) names(d *document) {
	for field, name := range map[string]string{"username": d.username, "dbname": d.dbname} {
		if len(name) > maxName {
			r.complain(field, "is longer than %d bytes, PostgreSQL would cut it", maxName)
		}
	}
	if d.dbname == "" {
		d.dbname = "postgres"
	}
}

// parseAdmin decodes the admin's secret. One that RDS manages has a user name
// and a password only (rule C4.8); the host is then the target's.
func parseAdmin(v rotation.Value) (*document, error) {
	r, err := readFields(v)
	if err != nil {
		return nil, err
	}
	d := &document{
		host: strings.ToLower(r.text("host", false)), port: r.port(5432),
		username: r.text("username", true), password: rotation.NewValue(r.text("password", true)),
		dbname: r.text("dbname", false), plaintext: r.plaintext(),
	}
	r.names(d)
	return d, r.fault()
}

func (d *document) address() string { return net.JoinHostPort(d.host, strconv.Itoa(d.port)) }

// with returns the value that has another login and password, and every other
// field as it was (rule C3.7).
func (d *document) with(username string, password rotation.Value) (rotation.Value, error) {
	fields := maps.Clone(d.fields)
	for name, text := range map[string]string{"username": username, "password": password.Reveal()} {
		raw, err := json.Marshal(text)
		if err != nil {
			return rotation.Value{}, fault.New(fault.Internal, "encoding field %q", name)
		}
		fields[name] = raw
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return rotation.Value{}, fault.New(fault.Internal, "encoding the new value")
	}
	return rotation.NewValue(string(text)), nil
}

func (d *document) login() credential {
	return credential{user: d.username, password: d.password, database: d.dbname}
}
