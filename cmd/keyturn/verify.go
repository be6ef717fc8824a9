package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/kmssign"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
)

// trust are the keys whose signature of a manifest counts.
type trust struct {
	keys  []string // ARNs
	files []string // public halves
}

func verifyCommand() *cobra.Command {
	var t target
	var by trust
	var known string
	cmd := t.trailFlags(&cobra.Command{
		Use: "verify SECRET-ARN", Short: "find changed, missing, reordered, truncated and foreign records", Args: exactly("SECRET-ARN"),
		Long: "The chains are checked by themselves and against the manifests that the deployment publishes each day: they\n" +
			"say where the chains ended, and a KMS key has signed them. Which key that is the deployment's audit function\n" +
			"says, or --signing-key, or --public-key for who has no right to ask KMS. A trail in a folder has no manifests,\n" +
			"unless it is a copy of a bucket. --heads checks against what was kept elsewhere, besides.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ledger, err := t.trail(cmd)
			if err != nil {
				return err
			}
			var heads []audit.Head
			if known != "" {
				if heads, err = readHeads(known); err != nil {
					return err
				}
			}
			return verifyTrail(cmd, &t, ledger, by, args[0], heads)
		},
	})
	cmd.ValidArgsFunction = t.completeARN
	cmd.Flags().StringVar(&known, "heads", "", "a file that keyturn audit heads has printed before: each of its heads has to be there still")
	return by.flags(cmd)
}

func (by *trust) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringArrayVar(&by.keys, "signing-key", nil, "ARN of the KMS key that signs manifests; again for each earlier deployment's")
	f.StringArrayVar(&by.files, "public-key", nil, "file of its public half, DER or PEM, as aws kms get-public-key returns it: KMS isn't asked then")
	return cmd
}

// verifiedTrail is what verify prints with --json.
type verifiedTrail struct {
	audit.Summary
	Manifests audit.PublishedDays `json:"manifests"`
}

// verifyTrail says that a trail is whole only if there is one: a mistyped ARN has
// no wrong record either.
func verifyTrail(cmd *cobra.Command, t *target, ledger audit.Ledger, by trust, secret string, known []audit.Head) error {
	summary, days, err := t.verified(cmd.Context(), ledger, by, secret, known...)
	var findings *audit.FindingsError
	if asJSON(cmd) && (err == nil || errors.As(err, &findings)) {
		if err := printJSON(cmd.OutOrStdout(), verifiedTrail{summary, days}); err != nil {
			return err
		}
	}
	if errors.As(err, &findings) {
		for _, f := range findings.Findings {
			if asJSON(cmd) {
				break
			}
			fmt.Fprintln(cmd.OutOrStdout(), printable(f.String()))
		}
		return errFailed{fault.New(fault.InvalidInput, "the audit trail of %s isn't whole: %d findings", secret, len(findings.Findings)).
			WithHint("compare the records above with a copy that was kept elsewhere, and find out who could write to %s", t.place())}
	}
	if err != nil {
		return err
	}
	if len(summary.Chains) == 0 {
		return errFailed{noRecord(t.place(), secret)}
	}
	if asJSON(cmd) {
		return nil
	}
	for _, chain := range summary.Chains {
		fmt.Fprintf(cmd.OutOrStdout(), "%s  %d records  %s\n", chain.RotationID, chain.Seq, chain.Hash)
	}
	return writeLines(cmd.OutOrStdout(), manifestLines(days))
}

// verified checks a trail by itself, against all manifests and against what else is
// known of it.
func (t *target) verified(ctx context.Context, ledger audit.Ledger, by trust, secret string, known ...audit.Head) (audit.Summary, audit.PublishedDays, error) {
	series, err := audit.ReadManifests(ctx, ledger)
	if err != nil {
		return audit.Summary{}, audit.PublishedDays{}, err
	}
	signed, expected, err := t.trusted(ctx, by, series.Len())
	if err != nil {
		return audit.Summary{}, audit.PublishedDays{}, err
	}
	return series.Verify(ctx, ledger, secret, signed, expected, time.Now(), known...)
}

// manifestLines say what vouches for the ends of the chains.
func manifestLines(d audit.PublishedDays) []string {
	if d.Count == 0 {
		return []string{"manifests: none; nothing that is signed says where the chains ended"}
	}
	lines := []string{printable(fmt.Sprintf("manifests: %d, of %s to %s, signed by %s; they list %d chains of this secret",
		d.Count, d.First, d.Last, strings.Join(d.Keys, " and "), d.Heads))}
	for _, day := range d.Without {
		lines = append(lines, "manifests: none of "+day+"; the one after it vouches for its records")
	}
	return lines
}

// trusted is what tells a signature that counts. expected says that a deployment
// publishes manifests to this trail. Where there are none, nobody's key is needed.
func (t *target) trusted(ctx context.Context, by trust, manifests int) (signed func(audit.Manifest) error, expected bool, err error) {
	expected = len(by.keys)+len(by.files) > 0
	if !expected {
		key, err := t.signingKey(ctx)
		switch {
		case err == nil:
			by.keys, expected = []string{key}, true
		case manifests > 0:
			return nil, false, err
		}
	}
	if manifests == 0 {
		return nil, expected, nil
	}
	var publics [][]byte
	for _, file := range by.files {
		public, err := readPublic(file)
		if err != nil {
			return nil, false, err
		}
		publics = append(publics, public)
	}
	if len(by.keys) > 0 && t.cfg.Region == "" {
		if t.cfg, err = awsConfig(ctx); err != nil {
			return nil, false, err
		}
	}
	for _, key := range by.keys {
		public, err := kmssign.Public(ctx, kms.NewFromConfig(t.cfg), key)
		if err != nil {
			return nil, false, err
		}
		publics = append(publics, public)
	}
	return func(m audit.Manifest) (err error) {
		for _, public := range publics {
			if err = kmssign.Verify(m, public); err == nil {
				return nil
			}
		}
		return err
	}, expected, nil
}

// signingKey asks the deployment's audit function, if this is the trail that it
// publishes to.
func (t *target) signingKey(ctx context.Context) (string, error) {
	const hint = "give the key by --signing-key, or its public half by --public-key"
	if t.settings.AuditBucket == "" {
		return "", fault.New(fault.InvalidInput, "there are manifests in %s, and nothing says which key signs them", t.place()).WithHint(hint)
	}
	name := t.functionName("", "audit")
	env, err := t.environment(ctx, name)
	if err != nil {
		err := fault.Wrap(fault.Unavailable, fault.New(fault.NameOf(err), "%s", err).WithHint(hint), "finding out which key signs manifests")
		return "", err
	}
	if key := env[deployment.EnvSigningKey]; key != "" && env[deployment.EnvAuditBucket] == t.settings.AuditBucket {
		return key, nil
	}
	return "", fault.New(fault.InvalidInput, "deployment %s doesn't publish to %s, so that its key says nothing of the manifests there", t.name, t.place()).
		WithHint("name the one that does by --deployment; of one that is gone: " + hint)
}

// readPublic reads the public half of a key, in DER or PEM.
func readPublic(file string) ([]byte, error) {
	body, err := os.ReadFile(file) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fault.Wrap(fault.InvalidInput, err, "reading the public key")
	}
	if block, _ := pem.Decode(body); block != nil {
		body = block.Bytes
	}
	if err := kmssign.CheckPublic(body); err != nil {
		return nil, fault.Wrap(fault.InvalidInput, err, "reading %s", file)
	}
	return body, nil
}
