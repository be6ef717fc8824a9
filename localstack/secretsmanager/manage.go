package secretsmanager

import (
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const maxTags = 50

// mergeTags adds tags to a list; a key that is there gets the new value.
func mergeTags(have, more []tag) ([]tag, error) {
	out := slices.Clone(have)
	for _, t := range more {
		if len(t.Key) < 1 || len(t.Key) > 128 || len(t.Value) > 256 || strings.HasPrefix(t.Key, "aws:") {
			return nil, awsproto.Errorf("InvalidParameterException",
				"a tag has a key of 1 to 128 characters that doesn't begin with aws:, and a value of at most 256")
		}
		i := slices.IndexFunc(out, func(o tag) bool { return o.Key == t.Key })
		if i >= 0 {
			out[i] = t
		} else {
			out = append(out, t)
		}
	}
	if len(out) > maxTags {
		return nil, awsproto.Errorf("InvalidParameterException", "a secret has at most %d tags", maxTags)
	}
	return out, nil
}

type tagResourceInput struct {
	SecretID string `json:"SecretId"`
	Tags     []tag
}

func (s *Service) tagResource(in tagResourceInput) (any, error) {
	sec, err := s.findLive(in.SecretID)
	if err != nil {
		return nil, err
	}
	tags, err := mergeTags(sec.tags, in.Tags)
	if err != nil {
		return nil, err
	}
	sec.tags, sec.changed = tags, s.clock.Now()
	return nil, nil
}

type untagResourceInput struct {
	SecretID string `json:"SecretId"`
	TagKeys  []string
}

func (s *Service) untagResource(in untagResourceInput) (any, error) {
	sec, err := s.findLive(in.SecretID)
	if err != nil {
		return nil, err
	}
	sec.tags = slices.DeleteFunc(slices.Clone(sec.tags), func(t tag) bool { return slices.Contains(in.TagKeys, t.Key) })
	sec.changed = s.clock.Now()
	return nil, nil
}

type deleteSecretInput struct {
	SecretID                   string `json:"SecretId"`
	ForceDeleteWithoutRecovery bool
	RecoveryWindowInDays       *int
}

type deleteSecretOutput struct {
	ARN          string
	Name         string
	DeletionDate *awsproto.Time
}

func (s *Service) deleteSecret(in deleteSecretInput) (any, error) {
	days := 30
	if in.RecoveryWindowInDays != nil {
		days = *in.RecoveryWindowInDays
		if in.ForceDeleteWithoutRecovery {
			return nil, awsproto.Errorf("InvalidParameterException",
				"You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
		}
	}
	if days < 7 || days > 30 {
		return nil, awsproto.Errorf("InvalidParameterException", "RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
	}
	now := s.clock.Now()
	if in.ForceDeleteWithoutRecovery {
		return s.deleteAtOnce(in.SecretID, now)
	}
	sec, err := s.findWritable(in.SecretID)
	if err != nil {
		return nil, err
	}
	sec.deletion = now.AddDate(0, 0, days)
	sec.rotation.stop()
	s.publishService("StartSecretVersionDelete", sec.arn)
	return deleteSecretOutput{sec.arn, sec.name, timestamp(sec.deletion)}, nil
}

// deleteAtOnce succeeds for a secret that is marked for deletion, and for one
// that isn't there (API reference, DeleteSecret).
func (s *Service) deleteAtOnce(id string, now time.Time) (any, error) {
	sec, err := s.find(id)
	if err != nil {
		if code, _ := codeOf(err); code != "ResourceNotFoundException" {
			return nil, err
		}
		name := strings.TrimPrefix(id, arnPrefix)
		return deleteSecretOutput{arnPrefix + name, name, timestamp(now)}, nil
	}
	if sec.deletion.IsZero() {
		if _, err := s.findWritable(id); err != nil {
			return nil, err
		}
	}
	sec.deletion = now
	sec.rotation.stop()
	s.purgeDeleted()
	return deleteSecretOutput{sec.arn, sec.name, timestamp(now)}, nil
}

type restoreSecretInput struct {
	SecretID string `json:"SecretId"`
}

func (s *Service) restoreSecret(in restoreSecretInput) (any, error) {
	sec, err := s.find(in.SecretID)
	if err != nil {
		return nil, err
	}
	if !sec.deletion.IsZero() {
		sec.deletion, sec.changed = time.Time{}, s.clock.Now()
		s.publishService("CancelSecretVersionDelete", sec.arn)
		s.alarm.Reset()
	}
	return nameOutput{sec.arn, sec.name}, nil
}
