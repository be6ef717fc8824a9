package keyturn

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// zoneFunctions reach targets: they are deployed once per zone, into its
// network, or once and into none if there are no zones.
var zoneFunctions = []string{
	"createSecret", "setSecret", "testSecret", "finishSecret", "rotateSecret",
	"adoptSecret", "drainCheck", "disableSecret", "revokeSecret", "rollback", "cutSecret",
}

// controlFunctions reach AWS's own services only: they are deployed once, into
// no network.
var controlFunctions = []string{"watchdog", "emergency", "abortSecret", "audit"}

// headFunctions make a new credential; the other zone functions retire one.
var headFunctions = zoneFunctions[:5]

// descriptions stand in Lambda's console.
var descriptions = map[string]string{
	"createSecret":  "Makes the new version of a secret, or starts the rotation that Secrets Manager drives",
	"setSecret":     "Makes the acceptors take the new version beside the old one",
	"testSecret":    "Proves that the acceptors take the new version",
	"finishSecret":  "Moves AWSCURRENT to the new version",
	"rotateSecret":  "The rotation function that Secrets Manager calls",
	"adoptSecret":   "Lets the consumers follow to the new version",
	"drainCheck":    "Reports who still uses the version that goes",
	"disableSecret": "Makes the acceptors refuse the version that goes, reversibly",
	"revokeSecret":  "Makes the acceptors forget the version that goes",
	"rollback":      "Exchanges old and new, so that the new version is retired",
	"cutSecret":     "What an emergency does at the target",
	"watchdog":      "Sees that every secret has the run that its labels ask for",
	"emergency":     "Labels and runs of an emergency",
	"abortSecret":   "Ends a rotation that failed before promotion",
	"audit":         "Watches the audit trail and signs its daily manifest",
	LogFunction:     "Lets a login in again that is held and that somebody has tried",
}

// ZoneFunctions lists the folders of the functions that every zone has.
func ZoneFunctions() []string { return slices.Clone(zoneFunctions) }

// ControlFunctions lists the folders of those that are deployed once.
func ControlFunctions() []string { return slices.Clone(controlFunctions) }

// functionName is what Lambda calls a function; it has 64 characters at most
// (Lambda API reference, CreateFunction), which the bounds of keyturn.yaml keep.
func functionName(deployment, zone, folder string) string {
	if zone == "" {
		return deployment + "-" + folder
	}
	return deployment + "-" + zone + "-" + folder
}

// bundle puts a function's package together in a folder of its own: the built
// bootstrap, the policy document, and the files that secrets name. Equal content
// gives an equal asset, wherever it was put together.
func bundle(into, built string, policy []byte, folder string, files []string) error {
	if err := copyFile(filepath.Join(built, "bootstrap"), filepath.Join(into, "bootstrap"), 0o755); err != nil {
		return fmt.Errorf("%w; make functions builds it", err)
	}
	if err := os.WriteFile(filepath.Join(into, "policy.json"), policy, 0o644); err != nil { //nolint:gosec // Lambda's user has to read it
		return fmt.Errorf("writing the policy document: %w", err)
	}
	for _, f := range files {
		if !filepath.IsLocal(f) {
			return fmt.Errorf("file %s lies outside keyturn.yaml's folder, and so can't be in the functions' package; put it beside keyturn.yaml", f)
		}
		if f == "bootstrap" || f == "policy.json" {
			return fmt.Errorf("file %s has a name that the functions' package needs; call it otherwise", f)
		}
		if err := copyFile(filepath.Join(folder, f), filepath.Join(into, f), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string, mode os.FileMode) error {
	body, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("reading what goes into a function's package: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // as in the package
		return fmt.Errorf("making a function's package: %w", err)
	}
	if err := os.WriteFile(to, body, mode); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(to), err)
	}
	return nil
}
