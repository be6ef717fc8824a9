package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/rotation"
)

// Quoting, for tests against a real server, and waiting, for tests on a clock of
// their own.
var (
	Ident     = ident
	Literal   = literal
	SplitList = splitList
	FreshName = freshName
	Password  = newPassword
	Verifier  = verifier

	Eventually = eventually
	IdleLimit  = idleLimit
)

// Document is a secret's value as ParseDocument has read it.
type Document struct {
	Engine, Host, Username, Database, MasterARN, Password, Address string
	Port                                                           int
	Plaintext                                                      bool
}

func exported(d *document) *Document {
	if d == nil {
		return nil
	}
	return &Document{d.engine, d.host, d.username, d.dbname, d.masterARN, d.password.Reveal(), d.address(), d.port, d.plaintext}
}

// ParseDocument reads an application's secret.
func ParseDocument(text string) (*Document, error) {
	d, err := parseDocument(rotation.NewValue(text))
	return exported(d), err
}

// ParseAdmin reads an admin's secret.
func ParseAdmin(text string) (*Document, error) {
	d, err := parseAdmin(rotation.NewValue(text))
	return exported(d), err
}

// WithLogin is the value that Create stores beside a current one.
func WithLogin(text, username, password string) (string, error) {
	d, err := parseDocument(rotation.NewValue(text))
	if err != nil {
		return "", err
	}
	v, err := d.with(username, rotation.NewValue(password))
	return v.Reveal(), err
}

// Allows compares an application's secret with settings.
func Allows(s Settings, text string) error {
	d, err := parseDocument(rotation.NewValue(text))
	if err != nil {
		return err
	}
	return s.allows(d)
}

// CopySettings gives a login the settings of another one.
func CopySettings(ctx context.Context, tx pgx.Tx, from, to string) error {
	r, err := readRole(ctx, tx, from)
	if err != nil || r == nil {
		return fmt.Errorf("reading role %s (%v): %w", from, r, err)
	}
	return copySettings(ctx, tx, r.oid, to)
}
