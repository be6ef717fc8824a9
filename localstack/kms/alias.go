package kms

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

type alias struct {
	target           string // a key's id
	created, changed time.Time
}

var aliasName = regexp.MustCompile(`^alias/[A-Za-z0-9/_-]{1,250}$`)

func checkAlias(name string) error {
	if !aliasName.MatchString(name) || strings.HasPrefix(name, "alias/aws/") {
		return awsproto.Errorf("InvalidAliasNameException", "an alias is alias/ and then letters, digits, slashes, underscores and hyphens, not AWS's alias/aws/: %q", name)
	}
	return nil
}

type aliasInput struct {
	AliasName   string
	TargetKeyID string `json:"TargetKeyId"`
}

// target returns the key that an alias is to name.
func (s *Service) target(in aliasInput) (*key, error) {
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	if strings.HasPrefix(strings.TrimPrefix(in.TargetKeyID, arnPrefix), "alias/") {
		return nil, invalid("Aliases must refer to keys. Not aliases")
	}
	k, err := s.findKey(in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	return k, k.changeable()
}

func (s *Service) createAlias(in aliasInput) (any, error) {
	k, err := s.target(in)
	if err != nil {
		return nil, err
	}
	if s.aliases[in.AliasName] != nil {
		return nil, awsproto.Errorf("AlreadyExistsException", "An alias with the name %s%s already exists", arnPrefix, in.AliasName)
	}
	now := s.clock.Now()
	s.aliases[in.AliasName] = &alias{k.id, now, now}
	return nil, nil
}

// updateAlias moves an alias to another key of the same kind and usage.
func (s *Service) updateAlias(in aliasInput) (any, error) {
	k, err := s.target(in)
	if err != nil {
		return nil, err
	}
	a := s.aliases[in.AliasName]
	if a == nil {
		return nil, notFound("Alias %s%s is not found.", arnPrefix, in.AliasName)
	}
	if old := s.keys[a.target]; old.usage != k.usage {
		return nil, invalid("an alias moves between keys of one usage, not from %s to %s", old.usage, k.usage)
	}
	a.target, a.changed = k.id, s.clock.Now()
	return nil, nil
}

type deleteAliasInput struct{ AliasName string }

func (s *Service) deleteAlias(in deleteAliasInput) (any, error) {
	if s.aliases[in.AliasName] == nil {
		return nil, notFound("Alias %s%s is not found.", arnPrefix, in.AliasName)
	}
	delete(s.aliases, in.AliasName)
	return nil, nil
}

type listAliasesInput struct {
	KeyID  string `json:"KeyId"`
	Limit  *int
	Marker string
}

type aliasEntry struct {
	AliasArn        string
	AliasName       string
	CreationDate    awsproto.Time
	LastUpdatedDate awsproto.Time
	TargetKeyID     string `json:"TargetKeyId"`
}

type listAliasesOutput struct {
	Aliases    []aliasEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// listAliases pages by name; the marker is the last name of the page before.
// AWS's own aliases aren't there.
func (s *Service) listAliases(in listAliasesInput) (any, error) {
	limit := 50
	if in.Limit != nil {
		limit = *in.Limit
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("Limit is 1 to 100")
	}
	only := ""
	if in.KeyID != "" {
		k, err := s.findKey(in.KeyID)
		if err != nil {
			return nil, err
		}
		only = k.id
	}
	out := listAliasesOutput{Aliases: []aliasEntry{}}
	for name, a := range s.aliases {
		if name > in.Marker && (only == "" || only == a.target) {
			out.Aliases = append(out.Aliases, aliasEntry{arnPrefix + name, name, awsproto.Time(a.created), awsproto.Time(a.changed), a.target})
		}
	}
	slices.SortFunc(out.Aliases, func(a, b aliasEntry) int { return cmp.Compare(a.AliasName, b.AliasName) })
	if len(out.Aliases) > limit {
		out.Aliases, out.Truncated = out.Aliases[:limit], true
		out.NextMarker = out.Aliases[limit-1].AliasName
	}
	return out, nil
}
