// Package scratch answers: whose is this temporary folder, and does its owner
// still live?
//
// A process that is killed leaves its folders behind. So an owner keeps a file
// in each of them locked; the kernel unlocks it however the owner ends, and who
// makes the next folder of a kind removes those that nobody has locked.
package scratch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ownerFile is locked while the owner lives. It holds the owner's process id,
// for people: ids are used again and differ between containers, locks don't.
const ownerFile = ".owner"

// Dir is a folder that lasts no longer than this process, but for what is left
// of a killed one until the next Make.
type Dir struct {
	Path string // absolute

	lock int // descriptor of the owner's file; one that no finalizer closes
}

// Make makes a folder whose name begins with prefix in parent, or in the
// system's temporary folder if that is empty. It first removes the folders of
// that prefix whose owner is dead; one without an owner's file is left alone.
func Make(parent, prefix string) (*Dir, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("finding the folder %s: %w", parent, err)
	}
	sweep(parent, prefix)
	path, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return nil, fmt.Errorf("making a temporary folder (TMPDIR says where): %w", err)
	}
	d := &Dir{Path: path}
	if d.lock, err = own(path); err != nil {
		_ = os.RemoveAll(path) // nobody has used it
		return nil, fmt.Errorf("locking the temporary folder %s: %w", path, err)
	}
	return d, nil
}

// Remove removes the folder with everything in it. It may be called twice, and
// on nil.
func (d *Dir) Remove() error {
	if d == nil || d.lock < 0 {
		return nil
	}
	err := remove(d.Path)
	_ = syscall.Close(d.lock) // only a lock
	d.lock = -1
	return err
}

// Keep leaves the folder to whoever removes it by hand.
func (d *Dir) Keep() error {
	err := os.Remove(filepath.Join(d.Path, ownerFile))
	_ = syscall.Close(d.lock) // only a lock
	d.lock = -1
	return err
}

// own locks the owner's file before it gets its name, so that no file of that
// name is unlocked while its owner lives.
func own(path string) (int, error) {
	unnamed := filepath.Join(path, ownerFile+".new")
	fd, err := syscall.Open(unnamed, syscall.O_CREAT|syscall.O_EXCL|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	if err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		_, err = syscall.Write(fd, fmt.Appendf(nil, "%d\n", os.Getpid()))
	}
	if err == nil {
		err = os.Rename(unnamed, filepath.Join(path, ownerFile))
	}
	if err != nil {
		_ = syscall.Close(fd) // it owns nothing
		return -1, err
	}
	return fd, nil
}

// sweep removes what killed processes have left. What can't be removed harms
// nobody.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		fd, ok := inherit(filepath.Join(path, ownerFile))
		if !ok {
			continue
		}
		_ = remove(path)
		_ = syscall.Close(fd)
	}
}

// inherit takes the lock of a dead owner's file. It refuses what isn't a plain
// file of this user's: in a shared folder, anybody may have put it there.
func inherit(path string) (fd int, ok bool) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return -1, false
	}
	var stat syscall.Stat_t
	ours := syscall.Fstat(fd, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFREG && int(stat.Uid) == os.Geteuid()
	if !ours || syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = syscall.Close(fd)
		return -1, false
	}
	return fd, true
}

// remove leaves the owner's file to the last: a removal that is cut short can
// be finished by the next sweep.
func remove(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("removing a temporary folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == ownerFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return fmt.Errorf("removing a temporary folder: %w", err)
		}
	}
	return os.RemoveAll(path)
}
