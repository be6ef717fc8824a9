package kms

import (
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const day = 24 * time.Hour

// The waiting period of a deletion, in days (API reference, ScheduleKeyDeletion).
const (
	shortestWindow = 7
	longestWindow  = 30
)

func (s *Service) enableKey(in keyInput) (any, error)  { return s.setState(in, stateEnabled) }
func (s *Service) disableKey(in keyInput) (any, error) { return s.setState(in, stateDisabled) }

// setState succeeds without a change for a key that is in the state already.
func (s *Service) setState(in keyInput, state string) (any, error) {
	k, err := s.findKey(in.KeyID)
	if err == nil {
		err = k.changeable()
	}
	if err != nil {
		return nil, err
	}
	k.state = state
	return nil, nil
}

type scheduleInput struct {
	KeyID               string `json:"KeyId"`
	PendingWindowInDays *int
}

type scheduleOutput struct {
	DeletionDate        awsproto.Time
	KeyID               string `json:"KeyId"` // the ARN
	KeyState            string
	PendingWindowInDays int
}

func (s *Service) scheduleKeyDeletion(in scheduleInput) (any, error) {
	k, err := s.findKey(in.KeyID)
	if err == nil {
		err = k.changeable()
	}
	if err != nil {
		return nil, err
	}
	days := longestWindow
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < shortestWindow || days > longestWindow {
		return nil, invalid("PendingWindowInDays is %d to %d", shortestWindow, longestWindow)
	}
	k.state, k.deletion = stateDeleting, s.clock.Now().Add(time.Duration(days)*day)
	return scheduleOutput{awsproto.Time(k.deletion), k.arn(), k.state, days}, nil
}

type keyIDOutput struct {
	KeyID string `json:"KeyId"`
}

// cancelKeyDeletion leaves the key disabled.
func (s *Service) cancelKeyDeletion(in keyInput) (any, error) {
	k, err := s.findKey(in.KeyID)
	if err != nil {
		return nil, err
	}
	if k.state != stateDeleting {
		return nil, awsproto.Errorf("KMSInvalidStateException", "%s is not pending deletion.", k.arn())
	}
	k.state, k.deletion = stateDisabled, time.Time{}
	return keyIDOutput{k.arn()}, nil
}

// removeDue removes the keys whose waiting period is over, with their aliases.
func (s *Service) removeDue() {
	now := s.clock.Now()
	for id, k := range s.keys {
		if k.deletion.IsZero() || now.Before(k.deletion) {
			continue
		}
		delete(s.keys, id)
		for name, a := range s.aliases {
			if a.target == id {
				delete(s.aliases, name)
			}
		}
	}
}
