package audit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Refusals keeps which logins a server has refused, so that nobody's account is
// locked by repetition. It lies in the ledger because neither processes nor
// rotations nor secrets share a memory, and a login may be several secrets'
// (an admin's). It is no part of any chain:
//
//	refusals/<server>/<UTC day>/<login>-<nanoseconds>-<random>.json
//
// Server and login are digests. What is older than two days is never read.
type Refusals struct{ Ledger Ledger }

// Refusal is one login that a server refused.
type Refusal struct {
	Server string    `json:"server"` // host:port, as the secret names it
	Login  string    `json:"login"`
	At     time.Time `json:"at"` // UTC
}

const dayForm = "2006-01-02"

func refusalsPrefix(server string, day time.Time) string {
	return "refusals/" + SecretKey(server) + "/" + day.UTC().Format(dayForm) + "/"
}

// Note keeps one refusal, also when ctx has ended: it has happened. It waits no
// longer than NoteTimeout. Two calls are two refusals.
func (r Refusals) Note(ctx context.Context, server, login string, at time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), NoteTimeout)
	defer cancel()
	at = at.UTC()
	body, err := json.Marshal(Refusal{Server: server, Login: login, At: at})
	if err != nil {
		return fmt.Errorf("marshalling a refusal: %w", err)
	}
	key := fmt.Sprintf("%s%s-%d-%s.json", refusalsPrefix(server, at), SecretKey(login), at.UnixNano(), rand.Text()[:8])
	if err := r.Ledger.Put(ctx, key, body); err != nil {
		return fmt.Errorf("keeping the refusal of a login: %w", err)
	}
	return nil
}

// Within lists, for each login of a server, when it was refused since a time,
// oldest first. A refusal after until, by a clock that is ahead, counts if it is
// on the same day. It costs one listing, or two around midnight, and reads no
// record.
func (r Refusals) Within(ctx context.Context, server string, since, until time.Time) (of func(login string) []time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, RecordTimeout)
	defer cancel()
	times := map[string][]time.Time{}
	last := refusalsPrefix(server, until)
	for day := since; ; day = day.Add(24 * time.Hour) {
		prefix := refusalsPrefix(server, day)
		if prefix > last {
			break
		}
		keys, err := r.Ledger.List(ctx, prefix)
		if err != nil {
			return nil, fmt.Errorf("listing the refused logins of %s: %w", server, err)
		}
		for _, key := range keys {
			login, at, ok := readRefusal(strings.TrimPrefix(key, prefix))
			if ok && !at.Before(since) {
				times[login] = append(times[login], at)
			}
		}
		if prefix == last {
			break
		}
	}
	for _, t := range times {
		slices.SortFunc(t, time.Time.Compare)
	}
	return func(login string) []time.Time { return slices.Clone(times[SecretKey(login)]) }, nil
}

// readRefusal reads a key's last part; one that isn't ours says nothing.
func readRefusal(name string) (login string, at time.Time, ok bool) {
	parts := strings.Split(strings.TrimSuffix(name, ".json"), "-")
	if len(parts) != 3 {
		return "", time.Time{}, false
	}
	nanos, err := strconv.ParseInt(parts[1], 10, 64)
	return parts[0], time.Unix(0, nanos).UTC(), err == nil
}
