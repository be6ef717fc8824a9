package pgxauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/rotation"
)

// document is one version of the secret: its fields belong together and are
// never mixed with those of another version.
type document struct {
	version  string
	username string
	password rotation.Value
	host     string
	port     uint16
	dbname   string
}

// parse reads the JSON that AWS documents for database secrets: username and
// password are needed; host, port and dbname have to be right where they are
// given; other fields are AWS's to add. Its errors name fields, never values.
func parse(text, version string) (*document, error) {
	if version == "" {
		return nil, errors.New("the answer names no version id")
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil || fields == nil {
		// The decoder's own text would quote a part of the value.
		return nil, fmt.Errorf("version %s isn't a JSON object in SecretString; store {\"username\":…,\"password\":…}", version)
	}
	doc := &document{version: version}
	var password string
	var wrong []error
	for name, into := range map[string]*string{"username": &doc.username, "password": &password, "host": &doc.host, "dbname": &doc.dbname} {
		raw, there := fields[name]
		required := name == "username" || name == "password"
		switch {
		case !there && required:
			wrong = append(wrong, fmt.Errorf("field %q is missing", name))
		case !there:
		case json.Unmarshal(raw, into) != nil || string(raw) == "null" || *into == "":
			wrong = append(wrong, fmt.Errorf("field %q has to be a string that isn't empty", name))
		case strings.ContainsRune(*into, 0):
			wrong = append(wrong, fmt.Errorf("field %q holds a NUL character, which PostgreSQL can't take", name))
		}
	}
	if raw, there := fields["port"]; there {
		port, err := parsePort(raw)
		if err != nil {
			wrong = append(wrong, err)
		}
		doc.port = port
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("version %s: %w", version, errors.Join(wrong...))
	}
	doc.password = rotation.NewValue(password)
	return doc, nil
}

// parsePort takes a number, or a number in a string as some tools write it.
func parsePort(raw json.RawMessage) (uint16, error) {
	digits := string(raw)
	var text string
	if json.Unmarshal(raw, &text) == nil {
		digits = text
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return 0, errors.New(`field "port" has to be a number from 1 to 65535`)
	}
	return uint16(port), nil
}

// differs reports whether a login with this document would be another one.
func (d *document) differs(used *pgconn.Config) bool {
	return d.username != used.User || d.password.Reveal() != used.Password
}

// apply makes a connection log in with this version, and remember it.
func (d *document) apply(cc *pgx.ConnConfig, address bool) error {
	cc.User, cc.Password = d.username, d.password.Reveal()
	if address {
		if err := d.applyAddress(cc); err != nil {
			return err
		}
	}
	// The connection carries its own version: it can't be mixed up with that of
	// another login that runs at the same time.
	next := cc.AfterConnect
	cc.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		conn.CustomData()[sessionKey] = &session{version: d.version, login: d.username}
		if next != nil {
			return next(ctx, conn)
		}
		return nil
	}
	return nil
}

func (d *document) applyAddress(cc *pgx.ConnConfig) error {
	for _, f := range cc.Fallbacks {
		if f.Host != cc.Host || f.Port != cc.Port {
			return errors.New("the configuration names several hosts: leave Config.Address unset, or name one host")
		}
	}
	host, port := cc.Host, cc.Port
	if d.host != "" {
		host = d.host
	}
	if d.port != 0 {
		port = d.port
	}
	if d.dbname != "" {
		cc.Database = d.dbname
	}
	if cc.TLSConfig != nil && cc.TLSConfig.ServerName == cc.Host {
		cc.TLSConfig = cc.TLSConfig.Clone()
		cc.TLSConfig.ServerName = host
	}
	for i, f := range cc.Fallbacks {
		moved := *f
		moved.Host, moved.Port = host, port
		if f.TLSConfig != nil && f.TLSConfig.ServerName == cc.Host {
			moved.TLSConfig = f.TLSConfig.Clone()
			moved.TLSConfig.ServerName = host
		}
		cc.Fallbacks[i] = &moved
	}
	cc.Host, cc.Port = host, port
	return nil
}
