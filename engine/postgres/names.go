package postgres

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/xdg-go/scram"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

const (
	passwordLength = 32
	iterations     = 4096 // PostgreSQL's default for scram-sha-256
)

// passwordAlphabet is ASCII without the characters that break connection
// strings, .pgpass files and shells: : / @ " ' \ and space (AWS's samples
// exclude the same ones; pgx can't log in with some non-ASCII passwords).
var passwordAlphabet = func() string {
	var b strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		if !strings.ContainsRune(`:/@"'\`, rune(c)) {
			b.WriteByte(c)
		}
	}
	return b.String()
}()

// newPassword draws a password; every character is equally likely.
func newPassword(random io.Reader) (rotation.Value, error) {
	limit := 256 / len(passwordAlphabet) * len(passwordAlphabet)
	out := make([]byte, 0, passwordLength)
	draw := make([]byte, 2*passwordLength)
	for len(out) < passwordLength {
		if _, err := io.ReadFull(random, draw); err != nil {
			return rotation.Value{}, fault.Wrap(fault.Unavailable, err, "drawing a password")
		}
		for _, b := range draw {
			if int(b) < limit && len(out) < passwordLength {
				out = append(out, passwordAlphabet[int(b)%len(passwordAlphabet)])
			}
		}
	}
	return rotation.NewValue(string(out)), nil
}

// verifier is what the server stores of a password (RFC 5802, RFC 7677). It is
// sent instead of the password, which would stand in the server's log, in
// pg_stat_statements and in pg_stat_activity.
func verifier(user string, password rotation.Value) (string, error) {
	client, err := scram.SHA256.NewClient(user, password.Reveal(), "")
	if err != nil {
		// A password that SASLprep refuses is used as it is, on both sides.
		client, err = scram.SHA256.NewClientUnprepped(user, password.Reveal(), "")
	}
	if err != nil {
		return "", fault.New(fault.InvalidInput, "the password of %s can't be used with SCRAM", user)
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return "", fault.New(fault.Internal, "deriving the verifier of %s", user)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(keys.StoredKey), b64(keys.ServerKey)), nil
}

// freshName is the login of one version: the same for every attempt of one
// rotation, and never a cut name.
func freshName(identity, version string) (string, error) {
	sum := sha256.Sum256([]byte(version))
	suffix := "_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
	return checkedName(identity, suffix)
}

// checkedName refuses a name that PostgreSQL would cut.
func checkedName(base, suffix string) (string, error) {
	if len(base)+len(suffix) > maxName {
		return "", fault.New(fault.InvalidInput, "login %q with %q behind it is longer than %d bytes", base, suffix, maxName).
			WithHint("give the application a login of at most %d bytes; nothing was changed", maxName-len(suffix))
	}
	return base + suffix, nil
}

// ident quotes an identifier; literal quotes a string constant. DDL can't bind
// parameters.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

func literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
