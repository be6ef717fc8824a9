package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/store/awssm"
)

func uninstallCommand() *cobra.Command {
	var t target
	var c consent
	var one string
	cmd := t.flags(&cobra.Command{
		Use: "uninstall", Short: "bring every secret to rest, so that cdk destroy leaves no second credential alive", Args: nothing,
		Long: "A deployment that is destroyed in the middle of a rotation leaves two credentials alive, and nobody who\n" +
			"retires one. uninstall refuses while any secret is in the middle of anything, and says what to do about\n" +
			"each. If all are stable it asks; then it switches off the rotation that Secrets Manager would start, and\n" +
			"puts the tag " + awssm.PauseTag + " on all of them, so that nothing begins before the stack is gone. No credential\n" +
			"and no label is touched. It destroys nothing: it prints what does. It may be called again.\n" +
			"With --secret it does that for one secret, before it is taken out of keyturn.yaml.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := t.rotator(cmd)
			if err != nil {
				return err
			}
			u := uninstall{t: &t, r: r, api: secretsmanager.NewFromConfig(t.cfg), secrets: r.Policies.Secrets()}
			if one != "" {
				if err := u.only(cmd.Context(), one); err != nil {
					return err
				}
			}
			return u.run(cmd, c)
		},
	})
	cmd.ValidArgsFunction = nil
	cmd.Flags().StringVar(&one, "secret", "", "this secret alone, by its name or ARN")
	_ = cmd.RegisterFlagCompletionFunc("secret", t.completeSecret) // fails only for a flag that isn't there
	return c.flag(cmd)
}

// uninstall is one call of the command.
type uninstall struct {
	t       *target
	r       *rotation.Rotator
	api     *secretsmanager.Client
	secrets []string
	single  bool
}

// resting is a secret on its way to rest, as --json prints it.
type resting struct {
	Secret string `json:"secret"`
	Name   string `json:"name"`
	// Rotation is that of Secrets Manager: "off"; "on"; "cancelled", by this
	// call; or "another's", which isn't touched.
	Rotation string     `json:"rotation"`
	Paused   bool       `json:"paused"`
	InTheWay []obstacle `json:"in_the_way"`

	seen rotation.Seen
}

// obstacle is what keeps a secret from being left alone.
type obstacle struct {
	Saw string `json:"saw"`
	Do  string `json:"do"`

	run bool // an execution, of a secret whose labels are at rest
}

// only leaves one secret.
func (u *uninstall) only(ctx context.Context, name string) error {
	desc, err := u.r.Store.Describe(ctx, name)
	if err != nil {
		return err
	}
	if _, err := u.r.Policies.Policy(desc.ARN); err != nil {
		return err
	}
	u.secrets, u.single = []string{desc.ARN}, true
	return nil
}

func (u *uninstall) run(cmd *cobra.Command, c consent) error {
	all, err := u.settled(cmd)
	if err != nil {
		return err
	}
	if busy(all) > 0 {
		return u.refuse(cmd, all)
	}
	if err := c.ask(cmd, u.question()); err != nil {
		return err
	}
	for i := range all {
		if err := u.rest(cmd.Context(), &all[i]); err != nil {
			return err
		}
	}
	// What began while somebody thought about the answer goes on, paused or not.
	again, err := u.look(cmd.Context())
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Rotation == "cancelled" && again[i].Rotation == "off" {
			again[i].Rotation = "cancelled"
		}
	}
	if busy(again) > 0 {
		return u.refuse(cmd, again)
	}
	return u.report(cmd, again, true)
}

// question is what a person has to say yes to.
func (u *uninstall) question() string {
	if u.single {
		return "let nothing rotate " + u.secrets[0] + " any more?"
	}
	return fmt.Sprintf("let deployment %s rotate none of its %d secrets any more?", u.t.name, len(u.secrets))
}

// look describes every secret afresh: a page of the list may be minutes old. Runs
// are looked up afterwards: one that begins meanwhile is seen.
func (u *uninstall) look(ctx context.Context) ([]resting, error) {
	all, arns := make([]resting, 0, len(u.secrets)), []string{}
	for _, secret := range u.secrets {
		s := resting{Secret: secret, Name: secret, seen: u.r.See(ctx, secret), Rotation: "off", InTheWay: []obstacle{}}
		if s.seen.Err != nil {
			return nil, s.seen.Err
		}
		if d := s.seen.Description; d.ARN != "" {
			arns = append(arns, d.ARN)
			s.Secret, s.Name, s.Paused, s.InTheWay = d.ARN, d.Name, d.Paused, inTheWay(s.seen)
			var err error
			if s.Rotation, err = u.rotatedBy(ctx, d); err != nil {
				return nil, err
			}
		}
		all = append(all, s)
	}
	going, err := u.running(ctx, arns)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if len(all[i].InTheWay) == 0 {
			all[i].InTheWay = append(all[i].InTheWay, going[all[i].Secret]...)
		}
	}
	if others := going[unlisted]; len(others) > 0 && !u.single {
		all = append(all, resting{Name: "a secret that isn't listed", Rotation: "off", InTheWay: others})
	}
	return all, nil
}

// rotatedBy tells whose function Secrets Manager calls.
func (u *uninstall) rotatedBy(ctx context.Context, d rotation.Description) (string, error) {
	if d.RotationEnabled == nil || !*d.RotationEnabled {
		return "off", nil
	}
	out, err := u.api.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &d.ARN})
	if err != nil {
		return "", tagging(err, "DescribeSecret")
	}
	zone, err := u.t.policies.Zone(d.ARN)
	if err != nil {
		return "", err
	}
	ours := ":function:" + u.t.functionName(zone, "rotateSecret")
	if arn := aws.ToString(out.RotationLambdaARN); strings.HasSuffix(arn, ours) || strings.Contains(arn, ours+":") {
		return "on", nil
	}
	return "another's", nil
}

// rest lets nothing begin on a secret: first no watchdog, then no schedule.
func (u *uninstall) rest(ctx context.Context, s *resting) error {
	d := s.seen.Description
	if d.ARN == "" || d.Deleted || d.ReplicaOf != "" || d.OwningService != "" {
		return nil // nothing of ours rotates it
	}
	if !d.Paused {
		_, err := u.api.TagResource(ctx, &secretsmanager.TagResourceInput{
			SecretId: &d.ARN, Tags: []types.Tag{{Key: aws.String(awssm.PauseTag), Value: aws.String("by keyturn uninstall")}},
		})
		if err != nil {
			return tagging(err, "TagResource")
		}
	}
	if s.Rotation != "on" {
		return nil
	}
	if _, err := u.api.CancelRotateSecret(ctx, &secretsmanager.CancelRotateSecretInput{SecretId: &d.ARN}); err != nil {
		return tagging(err, "CancelRotateSecret")
	}
	s.Rotation = "cancelled"
	return nil
}

func busy(all []resting) (n int) {
	for _, s := range all {
		if len(s.InTheWay) > 0 {
			n++
		}
	}
	return n
}

// refuse names what is in the way, and how each of it ends.
func (u *uninstall) refuse(cmd *cobra.Command, all []resting) error {
	if err := u.report(cmd, all, false); err != nil {
		return err
	}
	return errFailed{fault.New(fault.Blocked, "%d of %d secrets can't be left alone: they are in the middle of something", busy(all), len(all)).
		WithHint("do what is said above, wait until keyturn status says stable, then call it again; destroy nothing before that")}
}

// uninstalled is what --json prints.
type uninstalled struct {
	Deployment string    `json:"deployment"`
	Ready      bool      `json:"ready"` // nothing rotates any more, and nothing is left half done
	Secrets    []resting `json:"secrets"`
	Left       []string  `json:"left_to_do"`
	Stays      []string  `json:"stays"`
}

func (u *uninstall) report(cmd *cobra.Command, all []resting, ready bool) error {
	answer := uninstalled{Deployment: u.t.name, Ready: ready, Secrets: all, Left: []string{}, Stays: []string{}}
	if ready {
		answer.Left, answer.Stays = u.left(), u.stays(cmd.Context())
	}
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	return writeUninstalled(cmd.OutOrStdout(), answer)
}

func writeUninstalled(w io.Writer, answer uninstalled) error {
	var lines []string
	for _, s := range answer.Secrets {
		for _, o := range s.InTheWay {
			lines = append(lines, s.Name+": "+o.Saw, "  to do: "+o.Do)
		}
		if answer.Ready {
			lines = append(lines, s.Name+": at rest; rotation "+s.Rotation)
		}
	}
	for _, list := range []struct {
		title string
		texts []string
	}{{"left to do:", answer.Left}, {"what stays:", answer.Stays}} {
		if len(list.texts) > 0 {
			lines = append(lines, list.title)
		}
		for _, text := range list.texts {
			lines = append(lines, "  "+text)
		}
	}
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return writeLines(w, lines)
}

func (u *uninstall) left() []string {
	if u.single {
		return []string{"take it out of keyturn.yaml, then make deploy YAML=…: its resource policy and its schedule go with that"}
	}
	return []string{
		"aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name " + u.t.name,
		"npx aws-cdk destroy in infra/cdk, with the KEYTURN_YAML that was deployed (docs/deploying.md, Uninstalling)",
	}
}

func (u *uninstall) stays(ctx context.Context) []string {
	key, _ := u.t.signingKey(ctx) // a person finds it in KMS else
	stays := []string{
		"each secret's current credential, which nobody rotates any more",
		"the tag " + awssm.PauseTag + ": should Keyturn come back, keyturn resume SECRET takes it off",
		"the labels KEYTURN_LIVE_…: should Keyturn come back, they say which credentials it has made",
	}
	if u.single {
		return append(stays, "its audit trail in "+u.t.place())
	}
	return append(stays,
		"the audit trail in "+u.t.place()+", the keys, the log groups, and the secrets that the stack has made",
		"to verify the trail then: keyturn audit verify, with --audit-bucket and --signing-key "+cmp.Or(key, "ARN"),
	)
}

// halfDone are the labels that say so, wherever they are; V stands for the version
// and SECRET for the secret's name.
var halfDone = []struct {
	holds   func(v rotation.Versions, id string) bool
	saw, do string
}{
	{
		func(v rotation.Versions, id string) bool { return v.Has(id, rotation.Stolen(id)) },
		"version V is declared stolen (KEYTURN_STOLEN)", "keyturn status SECRET says what goes on; keyturn emergency ends it",
	},
	{
		func(v rotation.Versions, id string) bool { return v.Has(id, rotation.Retiring) },
		"version V retires (KEYTURN_RETIRING): its credential may be alive",
		"wait; keyturn status SECRET says for whom; after RotationStuck keyturn resume SECRET or keyturn rollback SECRET",
	},
	{
		func(v rotation.Versions, id string) bool { return v.Has(id, rotation.Disabled) },
		"version V is disabled and not revoked (KEYTURN_DISABLED)", "wait; keyturn status SECRET says what for, or what to do",
	},
	{
		func(v rotation.Versions, id string) bool {
			return v.Has(id, rotation.Pending) && !v.Has(id, rotation.Current)
		},
		"version V is AWSPENDING and not current: its credential may be alive",
		"wait, or keyturn rollback SECRET; keyturn status SECRET says if the label is left over",
	},
}

// inTheWay is what a secret's labels say.
func inTheWay(seen rotation.Seen) []obstacle {
	found := []obstacle{}
	v, name := seen.Description.Versions, seen.Description.Name
	if v.Holder(rotation.Current) == "" {
		found = append(found, obstacle{Saw: "no version is AWSCURRENT", Do: "label the version that works, or store one"})
	}
	for _, kind := range halfDone {
		for _, id := range slices.Sorted(maps.Keys(v)) {
			if kind.holds(v, id) {
				found = append(found, obstacle{Saw: strings.Replace(kind.saw, "V", id, 1), Do: strings.ReplaceAll(kind.do, "SECRET", name)})
			}
		}
	}
	if s := seen.Situation; s.Need != rotation.NeedNothing && len(found) == 0 {
		found = append(found, obstacle{Saw: "the labels ask for " + asked(s), Do: "wait; keyturn status " + name + " says what for"})
	}
	if len(found) > 0 && seen.Description.Paused {
		found = append(found, obstacle{Saw: "it is paused in the middle of that", Do: "keyturn resume " + name + " takes the pause off and goes on"})
	}
	return found
}
