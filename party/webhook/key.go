package webhook

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

const (
	// keyAge is how long a key is used before it is read again. A receiver takes
	// the key before for that long, and its own tolerance, when the key changes.
	keyAge = 5 * time.Minute
	// shortest is the least length of a key in bytes: that of the hash, below
	// which RFC 2104 section 3 sees its strength go down.
	shortest = 32
)

// Keys reads the secrets that hold signing keys; any rotation.Values does.
type Keys interface {
	// Current reads the version that holds AWSCURRENT, and its id.
	Current(ctx context.Context, secret string) (rotation.Value, string, error)
}

// keyring keeps the keys that this process has read, for a while.
type keyring struct {
	source Keys
	now    func() time.Time

	mu   sync.Mutex
	kept map[string]keptKey
}

type keptKey struct {
	key  rotation.Value
	read time.Time
}

// of returns a party's key, empty if its policy names none. The key is the whole
// SecretString, byte for byte. One that can't be had is a fault: whoever asks
// for signatures gets no order without one.
func (k *keyring) of(ctx context.Context, party rotation.Party) (rotation.Value, error) {
	arn := party.FollowKey
	if arn == "" {
		return rotation.Value{}, nil
	}
	k.mu.Lock()
	have := k.kept[arn]
	k.mu.Unlock()
	if age := k.now().Sub(have.read); !have.key.Empty() && age >= 0 && age < keyAge {
		return have.key, nil
	}
	key, err := k.fetch(ctx, party.Name, arn)
	if err != nil {
		return rotation.Value{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		k.kept = map[string]keptKey{}
	}
	k.kept[arn] = keptKey{key: key, read: k.now()}
	return key, nil
}

// fetch reads a key from its secret and checks that it can be one.
func (k *keyring) fetch(ctx context.Context, party, arn string) (rotation.Value, error) {
	refuse := func(name fault.Name, format string, args ...any) (rotation.Value, error) {
		return rotation.Value{}, fault.New(name, "party %s isn't told anything unsigned, and its follow_key %s "+format, append([]any{party, arn}, args...)...).
			WithHint("store a random text of 64 characters as SecretString in the secret that follow_key names, " +
				"let the function's role read it (secretsmanager:GetSecretValue, kms:Decrypt), then run the step again")
	}
	if k.source == nil {
		return refuse(fault.Internal, "can't be read here: nothing reads secrets")
	}
	key, _, err := k.source.Current(ctx, arn)
	switch text := key.Reveal(); {
	case fault.Is(err, fault.InvalidStage): // how a store says that there is no such secret or value
		return refuse(fault.InvalidInput, "doesn't exist or has no value: %v", err)
	case err != nil:
		return refuse(fault.NameOf(err), "can't be read: %v", err)
	case len(text) < shortest:
		return refuse(fault.InvalidInput, "holds only %d bytes; a key has %d or more", len(text), shortest)
	case strings.TrimSpace(text) != text:
		return refuse(fault.InvalidInput, "begins or ends with white space, which no two programs treat alike")
	}
	return key, nil
}

// refused forgets a key that an instance didn't take: it may have changed.
func (k *keyring) refused(arn string, status int) {
	if arn == "" || status != http.StatusUnauthorized && status != http.StatusForbidden {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, arn)
}
