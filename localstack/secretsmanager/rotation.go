package secretsmanager

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

// rotation is how and when a secret rotates, and what is going on.
type rotation struct {
	configured bool
	enabled    bool
	function   string
	rules      rotationRules
	next       time.Time // NextRotationDate
	leftover   time.Time // the date of a replaced rate(), which may fire once more
	last       time.Time

	unfinished map[string]bool   // versions that a rotation made and that never became current
	issued     map[string]string // RotationToken to the version it was issued for
	run        *run              // the latest process; nil when none runs
}

// run is one process of rotating to a token, with its repetitions.
type run struct {
	token         string
	rotationToken string
	testOnly      bool
	ctx           context.Context // ends when no further step may start
	stop          context.CancelFunc
	wake          context.CancelFunc // ends the pause before a repetition
}

// stop lets no further step start; one that runs is not recalled.
func (r *rotation) stop() {
	if r.run != nil {
		r.run.stop()
		r.run = nil
	}
}

// checkToken validates the RotationToken of a PutSecretValue: a token that was
// issued for another version, or by nobody, proves no identity.
func (r *rotation) checkToken(token *string, version string) error {
	switch {
	case token == nil:
		return nil
	case !rotationTokenPattern.MatchString(*token):
		return awsproto.Errorf("InvalidParameterException",
			"RotationToken must be 36-256 characters long and consist of letters, digits and hyphens.")
	case r.issued[*token] != version:
		return awsproto.Errorf("AccessDeniedException", "The RotationToken was not issued for a rotation to this version of the secret.")
	}
	return nil
}

type rotateSecretInput struct {
	SecretID           string `json:"SecretId"`
	ClientRequestToken string
	RotateImmediately  *bool
	RotationLambdaARN  string
	RotationRules      *rotationRules
}

func (s *Service) rotateSecret(in rotateSecretInput) (any, error) {
	if in.ClientRequestToken == "" {
		return nil, awsproto.Errorf("InvalidParameterException",
			"You must provide a ClientRequestToken value. We recommend a UUID-type value.")
	}
	if err := checkToken(in.ClientRequestToken); err != nil {
		return nil, err
	}
	sec, err := s.findWritable(in.SecretID)
	if err != nil {
		return nil, err
	}
	function, rules, err := sec.rotation.merged(in)
	if err != nil {
		return nil, err
	}
	if err := s.mayInvoke(in.RotationLambdaARN); err != nil {
		return nil, err
	}
	if held := sec.labels[pending]; held != "" && held != sec.labels[current] {
		s.reattempt(sec, held)
		return nil, awsproto.Errorf("InvalidRequestException",
			"A previous rotation isn't complete. That rotation will be reattempted.")
	}
	immediately := in.RotateImmediately == nil || *in.RotateImmediately
	out := valueOutput{ARN: sec.arn, Name: sec.name, VersionID: in.ClientRequestToken}
	done := sec.labels[current] == in.ClientRequestToken
	if !done {
		if err := s.makePending(sec, in.ClientRequestToken, immediately); err != nil {
			return nil, err
		}
	}
	s.configure(sec, function, rules, immediately)
	if !done {
		s.start(sec, in.ClientRequestToken, !immediately)
	}
	return out, nil
}

// mayInvoke refuses a function that is named in the call and isn't there, as AWS
// does for one that it may not invoke (user guide, "Troubleshoot rotation").
func (s *Service) mayInvoke(function string) error {
	if known, ok := s.invoker.(host.Registry); ok && function != "" && !known.Has(function) {
		return awsproto.Errorf("AccessDeniedException",
			"Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants access to the principal secretsmanager.amazonaws.com.")
	}
	return nil
}

// merged is the configuration after this call: what it leaves out stays.
func (r *rotation) merged(in rotateSecretInput) (string, rotationRules, error) {
	function, rules := r.function, r.rules
	if in.RotationLambdaARN != "" {
		function = in.RotationLambdaARN
	}
	if function == "" {
		return "", rules, awsproto.Errorf("InvalidRequestException",
			"No Lambda rotation function ARN is associated with this secret.")
	}
	if !functionPattern.MatchString(function) {
		return "", rules, awsproto.Errorf("InvalidParameterException",
			"RotationLambdaARN is the ARN of a Lambda function; got %q", function)
	}
	if in.RotationRules != nil {
		rules = *in.RotationRules
		if err := rules.check(); err != nil {
			return "", rules, err
		}
	}
	return function, rules, nil
}

// makePending makes the version that the function will fill, or that it will
// only test, and gives it AWSPENDING.
func (s *Service) makePending(sec *secret, token string, empty bool) error {
	switch {
	case sec.versions[token] == nil:
		if err := s.makeRoom(sec); err != nil {
			return err
		}
	case !empty:
		return awsproto.Errorf("InvalidRequestException",
			"You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", token, sec.arn)
	}
	if err := sec.fits(token, pending); err != nil {
		return err
	}
	s.remember(sec)
	if sec.versions[token] == nil {
		v := &version{id: token, created: s.clock.Now()}
		if now := sec.versions[sec.labels[current]]; !empty && !s.behaviour.EmptyTestVersion && now != nil {
			v.text, v.binary = now.text, now.binary
		}
		sec.versions[token] = v
	}
	sec.labels[pending] = token
	return nil
}

func (s *Service) configure(sec *secret, function string, rules rotationRules, immediately bool) {
	r := &sec.rotation
	now := s.clock.Now()
	changed := r.configured && rules != r.rules
	if changed && !immediately && s.behaviour.OldRateFires && r.enabled && !r.rules.isCron() {
		r.leftover = r.next
	}
	if !r.configured || !r.enabled || changed || immediately {
		r.next = rules.next(now, now)
	}
	r.configured, r.enabled, r.function, r.rules = true, true, function, rules
	s.alarm.Reset()
}

type cancelRotateSecretInput struct {
	SecretID string `json:"SecretId"`
}

// cancelRotateSecret leaves every label where it is.
func (s *Service) cancelRotateSecret(in cancelRotateSecretInput) (any, error) {
	sec, err := s.findWritable(in.SecretID)
	if err != nil {
		return nil, err
	}
	out := valueOutput{ARN: sec.arn, Name: sec.name}
	r := &sec.rotation
	if r.run != nil {
		out.VersionID = r.run.token
	}
	r.stop()
	r.enabled, r.next, r.leftover = false, time.Time{}, time.Time{}
	sec.changed = s.clock.Now()
	s.alarm.Reset()
	return out, nil
}

// reattempt runs the rotation again that left AWSPENDING behind, or ends its
// pause. A pending version without a rotation function stays as it is.
func (s *Service) reattempt(sec *secret, token string) {
	r := &sec.rotation
	switch {
	case !r.enabled || r.function == "":
	case r.run != nil && r.run.token == token:
		r.run.wake()
	default:
		s.start(sec, token, false)
	}
}

// abandonUnless gives a rotation up whose version lost its turn to another one:
// AWSPENDING is taken off its version so that later rotations can start (user
// guide, RotationAbandoned). The loser is the one that runs, or whoever had
// AWSPENDING before.
func (s *Service) abandonUnless(sec *secret, winner, loser string) {
	r := &sec.rotation
	if r.run != nil && r.run.testOnly {
		return // a test takes its version away itself
	}
	if r.run != nil && sec.labels[current] != r.run.token {
		loser = r.run.token
	}
	if loser == winner || !r.unfinished[loser] {
		return
	}
	if sec.labels[pending] == loser {
		delete(sec.labels, pending)
	}
	s.giveUp(sec, loser)
}

// giveUp ends a rotation for good.
func (s *Service) giveUp(sec *secret, token string) {
	r := &sec.rotation
	delete(r.unfinished, token)
	if r.run != nil && r.run.token == token {
		r.stop()
	}
	s.publishService("RotationAbandoned", sec.arn)
}

// countAsRotated moves the schedule on after a value was set by hand: that
// counts as a rotation (API reference, AutomaticallyAfterDays).
func (s *Service) countAsRotated(sec *secret, id string) {
	r := &sec.rotation
	if !r.enabled || r.unfinished[id] {
		return
	}
	now := s.clock.Now()
	r.next = r.rules.next(now, now)
	s.alarm.Reset()
}
