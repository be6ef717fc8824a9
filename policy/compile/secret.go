package compile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/account"
	"github.com/keyturn/keyturn/rotation"
)

// common is what the file's defaults say.
type common struct {
	settle    func(*policy.Entry) // overlays them on an entry
	followKey string              // of consumers that are told and name no key
}

func (r *reader) defaults(f field) common {
	top := r.mapping(f, "window", "poll", "quiet_polls", "max_overlap", "on_drain_timeout", "hold", "head_limit", "stuck", "emergency", "failed_logins_per_hour", "follow_key")
	// Read once, so that what is wrong is told once; then again for each entry.
	read := func(r *reader, e *policy.Entry) {
		r.drain(top, "on_drain_timeout", e)
		r.duration(top["hold"], &e.Hold)
		r.duration(top["head_limit"], &e.HeadLimit)
		r.stuck(top["stuck"], e)
		r.duration(top["emergency"], &e.Emergency)
		r.integer(top["failed_logins_per_hour"], &e.FailedLogins)
	}
	read(r, &policy.Entry{})
	c := common{settle: func(e *policy.Entry) {
		read(&reader{places: map[string]place{}, faulty: map[string]bool{}}, e)
	}}
	r.followKey(top["follow_key"], &c.followKey)
	return c
}

// followKey reads the ARN of a signing key's secret, and checks it here: what is
// wrong with the defaults' is told once.
func (r *reader) followKey(f field, into *string) {
	arn := ""
	r.text(f, &arn)
	if f.node == nil || r.faulty[f.path] {
		return
	}
	if p, ok := policy.CheckFollowKey(f.path, arn); !ok || arn == "" {
		r.fail(p.Path, p.What, p.Mend)
		return
	}
	*into = arn
}

// drain reads how an entry drains; the defaults name what to do after it
// otherwise.
func (r *reader) drain(fields map[string]field, onTimeout string, e *policy.Entry) {
	r.duration(fields["window"], &e.Drain.Window)
	r.duration(fields["poll"], &e.Drain.Poll)
	r.integer(fields["quiet_polls"], &e.Drain.QuietPolls)
	r.duration(fields["max_overlap"], &e.Drain.MaxOverlap)
	r.text(fields[onTimeout], (*string)(&e.Drain.OnTimeout))
}

// stuck reads the limits of the phases. What isn't said is left open here.
func (r *reader) stuck(f field, e *policy.Entry) {
	fields := r.mapping(f, "head", "drain", "revoke")
	for _, limit := range []struct {
		name string
		into *policy.Duration
	}{{"head", &e.Stuck.Head}, {"drain", &e.Stuck.Drain}, {"revoke", &e.Stuck.Revoke}} {
		at := fields[limit.name]
		r.duration(at, limit.into)
		if at.node != nil && *limit.into == 0 && !r.faulty[at.path] {
			r.fail(at.path, "every rotation would be stuck at once", "leave it out, or say how long this phase may take")
		}
	}
}

// secret reads one item of the list.
func (r *reader) secret(f field, defaults common, kinds map[string]Kind) account.Secret {
	s := account.Secret{Entry: policy.Entry{Settings: json.RawMessage("{}")}}
	e := &s.Entry
	name := peek(f.node, "kind")
	keys := []string{"secret", "kind", "driver", "drain", "hold", "head_limit", "stuck", "emergency", "failed_logins_per_hour", "schedule",
		"schedule_window", "zone", "kms_key", "create", "consumers"}
	if _, known := kinds[name]; known || name != "" && peekBlock(f.node, name) {
		keys = append(keys, name)
	} else { // the kind is what is wrong, not the block of the right one
		keys = append(keys, slices.Sorted(maps.Keys(kinds))...)
	}
	fields := r.mapping(f, keys...)
	r.text(fields["secret"], &e.Secret)
	r.text(fields["kind"], &e.Kind)
	kind, known := kinds[e.Kind]
	if e.Kind != "" && !known {
		r.fail(f.path+".kind", fmt.Sprintf("%q is no kind of credential", e.Kind),
			suggest(e.Kind, slices.Sorted(maps.Keys(kinds))))
	}
	fill(e, kind.Defaults)
	defaults.settle(e)
	r.text(fields["driver"], (*string)(&e.Driver))
	r.drain(r.mapping(fields["drain"], "window", "poll", "quiet_polls", "max_overlap", "on_timeout"), "on_timeout", e)
	r.duration(fields["hold"], &e.Hold)
	r.duration(fields["head_limit"], &e.HeadLimit)
	r.stuck(fields["stuck"], e)
	r.duration(fields["emergency"], &e.Emergency)
	r.integer(fields["failed_logins_per_hour"], &e.FailedLogins)
	r.schedule(fields["schedule"], e)
	r.duration(fields["schedule_window"], &e.ScheduleWindow)
	r.text(fields["zone"], &e.Zone)
	r.text(fields["kms_key"], &s.Key)
	r.boolean(fields["create"], &s.Create)
	for _, c := range r.list(fields["consumers"]) {
		e.Consumers = append(e.Consumers, r.consumer(c, defaults.followKey))
	}
	if known {
		r.settings(f.path, fields[e.Kind], kind, e)
	}
	return s
}

// fill sets what the kind says, or else what this package says.
func fill(e *policy.Entry, kind rotation.Policy) {
	e.Driver = either(kind.Driver, base.Driver)
	e.Drain = policy.Drain{
		Window: seconds(kind.Window, base.Window), Poll: seconds(kind.Poll, base.Poll),
		QuietPolls: either(kind.QuietPolls, base.QuietPolls), MaxOverlap: seconds(kind.MaxOverlap, base.MaxOverlap),
		OnTimeout: either(kind.OnTimeout, base.OnTimeout),
	}
	e.Hold = seconds(kind.Hold, base.Hold)
	e.HeadLimit = seconds(kind.HeadLimit, base.HeadLimit)
	e.Stuck = policy.Stuck{Head: seconds(kind.Stuck.Head, 0), Drain: seconds(kind.Stuck.Drain, 0), Revoke: seconds(kind.Stuck.Revoke, 0)}
	e.Emergency = seconds(kind.Emergency, base.Emergency)
	e.FailedLogins = either(kind.FailedLogins, base.FailedLogins)
}

func either[T comparable](first, second T) T {
	var zero T
	if first == zero {
		return second
	}
	return first
}

// seconds rounds up: a default is never shorter than its kind means it.
func seconds(first, second time.Duration) policy.Duration {
	d := either(first, second)
	return policy.Duration((d + time.Second - 1).Truncate(time.Second))
}

func (r *reader) consumer(f field, followKey string) policy.Consumer {
	var c policy.Consumer
	fields := r.mapping(f, "name", "cadence", "cache", "follow", "follow_key", "wave")
	r.text(fields["name"], &c.Name)
	r.duration(fields["cadence"], &c.Cadence)
	r.duration(fields["cache"], &c.Cache)
	r.texts(fields["follow"], &c.Follow)
	if len(c.Follow) > 0 {
		c.Wave, c.FollowKey = 1, followKey
	}
	r.followKey(fields["follow_key"], &c.FollowKey)
	r.integer(fields["wave"], &c.Wave)
	return c
}

// peek reads a text below a key, without complaining.
func peek(n ast.Node, key string) string {
	m, ok := n.(ast.MapNode)
	if !ok {
		return ""
	}
	for it := m.MapRange(); it.Next(); {
		k, isText := it.Key().(*ast.StringNode)
		v, hasText := it.Value().(*ast.StringNode)
		if isText && hasText && k.Value == key {
			return v.Value
		}
	}
	return ""
}

// peekBlock reports whether there is a mapping below a key.
func peekBlock(n ast.Node, key string) bool {
	m, ok := n.(ast.MapNode)
	if !ok {
		return false
	}
	for it := m.MapRange(); it.Next(); {
		_, isBlock := it.Value().(ast.MapNode)
		if k, isText := it.Key().(*ast.StringNode); isText && k.Value == key {
			return isBlock
		}
	}
	return false
}
