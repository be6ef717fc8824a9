package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/store/awssm"
)

// verify looks at everything that a walk has left.
func (w *walk) verify(ctx context.Context, res *Result) error {
	w.consumers.look(ctx, "at the end")
	before, err := w.left(ctx)
	if err != nil {
		return err
	}
	w.repeat(ctx)
	after, err := w.left(ctx)
	if err != nil {
		return err
	}
	if res.End != "open" && !reflect.DeepEqual(before, after) {
		w.broken("repeating isn't without effect: %+v, then %+v", before, after)
	}
	w.consumers.look(ctx, "after repeating")
	w.verifyLogins(after.Roles, res.End)
	if res.End != "open" {
		w.consumers.followed()
	}
	if err := w.verifyTrail(ctx); err != nil {
		return err
	}
	return w.verifyLeaks(ctx)
}

// remains is what lasts.
type remains struct {
	Labels map[string][]rotation.Label
	Roles  []role
}

func (w *walk) left(ctx context.Context) (remains, error) {
	v, err := w.versions(ctx)
	if err != nil {
		return remains{}, err
	}
	for _, labels := range v {
		slices.Sort(labels)
	}
	roles, err := w.roles(ctx, w.name)
	return remains{w.shown(v), roles}, err
}

// repeat calls everything again that failed, and the watchdog.
func (w *walk) repeat(ctx context.Context) {
	w.functions.mu.Lock()
	failed := slices.Clone(w.functions.failed)
	w.functions.mu.Unlock()
	for i, call := range failed {
		if i < 2 && call.inv.event != nil {
			_, _ = w.functions.Invoke(ctx, functionPrefix+call.inv.function, call.inv.event) // seen in what is left
		}
	}
	for range 2 {
		_, _ = w.functions.Invoke(ctx, functionPrefix+"watchdog", []byte(`{}`))
	}
	for !w.quiet(ctx) && ctx.Err() == nil {
		continue
	}
}

// verifyLogins finds orphans: logins that work and that no consumer uses.
func (w *walk) verifyLogins(roles []role, end string) {
	if end == "open" {
		return
	}
	current := w.consumers.credential().Username
	for _, r := range roles {
		kept := r.Name == w.name || r.Name == w.name+"owner" || r.Name == w.name+"_clone"
		switch {
		case r.Name == current && !r.Login:
			w.broken("the current login can't log in")
		case r.Name == current:
		case r.Login || r.Password:
			w.broken("login %s is alive, but the current one is %s", r.Name, current)
		case !kept:
			w.broken("role %s is left over", r.Name)
		}
	}
}

func (c *consumers) credential() credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[c.current]
}

// verifyTrail checks the audit chain, and that it shows what failed after its
// intent was recorded.
func (w *walk) verifyTrail(ctx context.Context) error {
	trail := audit.Dir{Root: w.trail}
	if _, err := audit.Verify(ctx, trail, w.arn); err != nil {
		w.broken("the audit trail: %v", err)
	}
	records, err := audit.Records(ctx, trail, w.arn)
	if err != nil {
		return err
	}
	outcomes := map[string]bool{}
	for _, r := range records {
		outcomes[r.Outcome] = true
	}
	w.functions.mu.Lock()
	failed := slices.Clone(w.functions.failed)
	w.functions.mu.Unlock()
	for _, call := range failed {
		call.inv.mu.Lock()
		told := call.inv.intent && !call.inv.mute && !call.inv.dead.Load()
		call.inv.mu.Unlock()
		if told && !outcomes[call.name] {
			w.broken("%s failed with %s and the audit trail doesn't show it", call.inv.function, call.name)
		}
	}
	return nil
}

// verifyLeaks looks for every password in everything that was written.
func (w *walk) verifyLeaks(ctx context.Context) error {
	written := map[string][]byte{"the functions' log": w.log.Bytes()}
	log, err := w.serverLog()
	if err != nil {
		return err
	}
	written["the server's log"] = log
	if err := w.histories(ctx, written); err != nil {
		return err
	}
	trail := audit.Dir{Root: w.trail}
	keys, err := trail.List(ctx, "")
	if err != nil {
		return fmt.Errorf("listing the audit trail: %w", err)
	}
	for _, key := range keys {
		if written["the audit trail's "+key], err = trail.Get(ctx, key); err != nil {
			return fmt.Errorf("reading the audit trail: %w", err)
		}
	}
	values, err := w.passwords(ctx)
	if err != nil {
		return err
	}
	for where, text := range written {
		for login, password := range values {
			for _, form := range forms(password) {
				if bytes.Contains(text, []byte(form)) {
					w.broken("the password of %s is in %s", login, where)
				}
			}
		}
	}
	return nil
}

// passwords are all that there ever were in this walk.
func (w *walk) passwords(ctx context.Context) (map[string]string, error) {
	all := map[string]string{w.admin.User: w.admin.Password}
	w.consumers.mu.Lock()
	defer w.consumers.mu.Unlock()
	for _, c := range w.consumers.known {
		all[c.Username] = c.Password
	}
	if _, known := w.consumers.known[w.token]; known {
		return all, nil
	}
	value, err := w.made(ctx)
	if err == nil && value.Password != "" {
		all[value.Username+" (never current)"] = value.Password
	}
	return all, err
}

// made is the new version's value; empty if it never got one.
func (w *walk) made(ctx context.Context) (credential, error) {
	var c credential
	value, err := (&awssm.Store{API: w.plain, Region: awsproto.Region}).Value(ctx, w.arn, w.token)
	if fault.Is(err, fault.InvalidStage) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal([]byte(value.Reveal()), &c); err != nil {
		return c, errors.New("the new version isn't the JSON of a credential")
	}
	return c, nil
}

// forms are the ways in which a password may be written: as it is, in JSON with
// HTML's escapes, in JSON in JSON, and in a URL.
func forms(password string) []string {
	once, _ := json.Marshal(password)                       // a string always encodes
	twice, _ := json.Marshal(string(bytes.Trim(once, `"`))) // as that does
	return slices.Compact([]string{
		password, string(bytes.Trim(once, `"`)), string(bytes.Trim(twice, `"`)), url.QueryEscape(password), url.PathEscape(password),
	})
}

func (w *walk) serverLog() ([]byte, error) {
	f, err := os.Open(w.cluster.Primary.LogFile)
	if err != nil {
		return nil, fmt.Errorf("opening the server's log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text := make([]byte, max(0, w.logSize()-w.logFrom))
	if _, err := f.ReadAt(text, w.logFrom); err != nil {
		return nil, fmt.Errorf("reading the server's log: %w", err)
	}
	if !bytes.Contains(text, []byte("LOG:  ")) {
		return nil, errors.New("the server's log is empty: looking into it would prove nothing")
	}
	return text, nil
}

// histories are what Step Functions shows to everybody for 90 days.
func (w *walk) histories(ctx context.Context, written map[string][]byte) error {
	all, err := w.executions(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		var history json.RawMessage
		if err := w.states(ctx, "GetExecutionHistory", map[string]any{"executionArn": e.ARN, "maxResults": 1000}, &history); err != nil {
			return err
		}
		written["the history of "+e.Name] = history
	}
	return nil
}
