package secretsmanager

import (
	"maps"
	"slices"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const (
	maxLabels       = 20
	maxVersions     = 100
	versionsKeptFor = 24 * time.Hour
)

// give puts a label on a version, whoever holds it. Moving AWSCURRENT moves
// AWSPREVIOUS to the version it left; nothing else moves by itself.
func (v view) give(label, id string) {
	from, held := v.labels[label]
	if held && from == id {
		return
	}
	v.labels[label] = id
	if label == current && held {
		v.labels[previous] = from
	} else if label == current && v.labels[previous] == id {
		delete(v.labels, previous)
	}
}

func checkLabel(label string) error {
	if n := len([]rune(label)); n < 1 || n > 256 {
		return awsproto.Errorf("ValidationException",
			"1 validation error detected: Value at 'versionStage' failed to satisfy constraint: Member must have length between 1 and 256")
	}
	return nil
}

// fits reports whether a version may be given these labels. All versions share
// the quota, and AWSPREVIOUS that follows AWSCURRENT counts (user guide, "Secrets
// Manager quotas").
func (v view) fits(id string, labels ...string) error {
	after := view{labels: maps.Clone(v.labels)}
	for _, label := range labels {
		after.give(label, id)
	}
	if len(after.labels) > max(maxLabels, len(v.labels)) {
		return awsproto.Errorf("LimitExceededException",
			"You exceeded the maximum of %d staging labels on all versions of a secret.", maxLabels)
	}
	return nil
}

// makeRoom deletes the oldest versions that nothing labels and that are older
// than a day, and refuses when all that is left must be kept.
func (s *Service) makeRoom(sec *secret) error {
	labelled := sec.stages()
	byAge := make([]*version, 0, len(sec.versions))
	for id, v := range sec.versions {
		if _, ok := labelled[id]; !ok && s.clock.Now().Sub(v.created) >= versionsKeptFor {
			byAge = append(byAge, v)
		}
	}
	slices.SortFunc(byAge, func(a, b *version) int { return a.created.Compare(b.created) })
	for _, v := range byAge {
		if len(sec.versions) < maxVersions {
			break
		}
		sec.drop(v.id)
		s.publishService("StartSecretVersionDelete", sec.arn)
		s.publishService("EndSecretVersionDelete", sec.arn)
	}
	if len(sec.versions) >= maxVersions {
		return awsproto.Errorf("LimitExceededException",
			"You have reached the limit of %d versions for this secret; Secrets Manager keeps versions for 24 hours.", maxVersions)
	}
	return nil
}

// drop deletes a version and whatever is known of it, so that a secret which
// rotates for years takes no more room than its versions.
func (sec *secret) drop(id string) {
	delete(sec.versions, id)
	delete(sec.readVersions, id)
	delete(sec.rotation.unfinished, id)
	maps.DeleteFunc(sec.rotation.issued, func(_, version string) bool { return version == id })
}

type updateSecretVersionStageInput struct {
	SecretID            string `json:"SecretId"`
	VersionStage        string
	MoveToVersionID     *string `json:"MoveToVersionId"`
	RemoveFromVersionID *string `json:"RemoveFromVersionId"`
}

type nameOutput struct {
	ARN  string
	Name string
}

func (s *Service) updateSecretVersionStage(in updateSecretVersionStageInput) (any, error) {
	sec, err := s.findWritable(in.SecretID)
	if err != nil {
		return nil, err
	}
	if err := checkLabel(in.VersionStage); err != nil {
		return nil, err
	}
	for _, id := range []*string{in.MoveToVersionID, in.RemoveFromVersionID} {
		if id == nil {
			continue
		}
		if err := checkToken(*id); err != nil {
			return nil, err
		}
		if _, ok := sec.versions[*id]; !ok {
			return nil, awsproto.Errorf("ResourceNotFoundException",
				"Secrets Manager can't find the specified secret value for VersionId: %s", *id)
		}
	}
	switch {
	case in.MoveToVersionID != nil:
		err = s.moveLabel(sec, in.VersionStage, *in.MoveToVersionID, in.RemoveFromVersionID)
	case in.RemoveFromVersionID != nil:
		err = s.removeLabel(sec, in.VersionStage, *in.RemoveFromVersionID)
	default:
		err = awsproto.Errorf("InvalidParameterException",
			"You must specify MoveToVersionId, RemoveFromVersionId, or both.")
	}
	return nameOutput{sec.arn, sec.name}, err
}

// moveLabel is set-if-absent without from, and compare-and-swap with it.
func (s *Service) moveLabel(sec *secret, label, to string, from *string) error {
	holder, held := sec.labels[label]
	switch {
	case from != nil && (!held || holder != *from):
		return mismatch(label)
	case held && holder == to:
		return nil
	case held && from == nil:
		return awsproto.Errorf("InvalidParameterException",
			"The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.",
			label, holder)
	}
	if err := sec.fits(to, label); err != nil {
		return err
	}
	s.remember(sec)
	stranded := sec.labels[pending]
	sec.give(label, to)
	if label == current || label == pending {
		s.abandonUnless(sec, to, stranded)
	}
	return nil
}

func (s *Service) removeLabel(sec *secret, label, from string) error {
	if label == current {
		return awsproto.Errorf("InvalidParameterException",
			"You can only move staging label AWSCURRENT to a different secret version. It can’t be completely removed.")
	}
	if sec.labels[label] != from {
		return mismatch(label)
	}
	s.remember(sec)
	delete(sec.labels, label)
	return nil
}

func mismatch(label string) error {
	return awsproto.Errorf("InvalidParameterException",
		"When you move staging label %s, if you specify RemoveFromVersionId, it must be set to the version that currently has the staging label %s.",
		label, label)
}
