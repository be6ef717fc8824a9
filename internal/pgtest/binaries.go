package pgtest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/keyturn/keyturn/fault"
)

// debianRoot holds one folder per PostgreSQL version that Debian installed.
const debianRoot = "/usr/lib/postgresql"

// cached18 is where install-postgres-18.sh puts PostgreSQL 18.
func cached18() (string, error) {
	if dir := os.Getenv("KEYTURN_POSTGRES_18"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder of PostgreSQL 18: %w", err)
	}
	return filepath.Join(cache, "keyturn", "postgres-18.4"), nil
}

// findBinaries returns the installation folder of a major version: the one
// that holds bin, lib and share. An empty version means Debian's newest.
func findBinaries(version string) (string, error) {
	if version == "" {
		version = newestDebian()
	}
	candidates := []string{filepath.Join(debianRoot, version)}
	if version == "18" {
		cached, err := cached18()
		if err != nil {
			return "", err
		}
		candidates = append([]string{cached}, candidates...)
	}
	for _, dir := range candidates {
		if _, err := os.Stat(filepath.Join(dir, "bin", "initdb")); err == nil && version != "" {
			return dir, nil
		}
	}
	name, mend := "PostgreSQL", "install it with: apt-get install postgresql"
	switch {
	case version == "18":
		mend = "install it with: make deps (it runs internal/pgtest/install-postgres-18.sh)"
	case version != "":
		mend = "install it with: apt-get install postgresql-" + version
	}
	if version != "" {
		name += " " + version
	}
	hint := "install it as said above"
	if there := installed(); len(there) > 0 {
		hint += ", or use a version that is here: " + strings.Join(there, ", ")
	}
	return "", fault.New(fault.InvalidInput, "%s isn't installed (looked in %s); %s", name, strings.Join(candidates, ", "), mend).
		WithHint("%s", hint)
}

// installed lists Debian's versions.
func installed() []string {
	found, _ := filepath.Glob(filepath.Join(debianRoot, "*", "bin", "initdb")) // the pattern is well formed
	for i, path := range found {
		found[i] = filepath.Base(filepath.Dir(filepath.Dir(path)))
	}
	return found
}

func newestDebian() string {
	entries, err := os.ReadDir(debianRoot)
	if err != nil {
		return ""
	}
	newest := 0
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			newest = max(newest, n)
		}
	}
	if newest == 0 {
		return ""
	}
	return strconv.Itoa(newest)
}

func findPgBouncer() (string, error) {
	for _, path := range []string{"/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("PgBouncer isn't installed; install it with: apt-get install --no-install-recommends pgbouncer")
}

// account is the operating-system user that servers run as: PostgreSQL refuses
// root. It is nil when this process isn't root.
type account struct{ uid, gid uint32 }

func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no account means: run as we are
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("reading the id of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("reading the group of user %s: %w", name, err)
		}
		return &account{uint32(uid), uint32(gid)}, nil
	}
	return nil, fmt.Errorf("neither user postgres nor nobody exists; PostgreSQL refuses to run as root")
}

// own gives a file or folder to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// attributes run a process as the account, and end it with this process.
func (a *account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// reachable reports whether the account may enter every folder above path.
func (a *account) reachable(path string) bool {
	if a == nil {
		return true
	}
	for dir := path; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

// mirror links a tree into another folder, or copies it across file systems:
// the cache of root's home is closed to the account that servers run as.
func mirror(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755) //nolint:gosec // public binaries
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target) //nolint:gosec // nobody else writes into these trees
		}
		if os.Link(path, target) == nil { //nolint:gosec // as above
			return nil
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm()|0o044)
}

// hasLibrary reports whether an installation has a loadable module.
func hasLibrary(root, name string) bool {
	for _, dir := range []string{"lib", filepath.Join("lib", "postgresql")} {
		if _, err := os.Stat(filepath.Join(root, dir, name+".so")); err == nil {
			return true
		}
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
