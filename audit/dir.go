package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// scratch holds files that are being written; List doesn't see it.
const scratch = ".tmp"

// Dir is a Ledger in a folder of a file system that has hard links. A body is
// written and synced under another name and then linked, so that a reader, or a
// crash, never sees half a record; of two writers of one key the second gets
// ErrExists.
type Dir struct {
	Root string // made when missing
}

// Put implements Ledger. It returns after the file and its folder are synced.
func (d Dir) Put(ctx context.Context, key string, body []byte) error {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("putting %s: %w", key, err)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("putting %s: %w", key, ErrExists)
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("putting %s: %w", key, err)
	}
	temp, err := d.write(body)
	if err != nil {
		return fmt.Errorf("putting %s: %w", key, err)
	}
	err = os.Link(temp, path)
	_ = os.Remove(temp) // what stays behind is never listed
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("putting %s: %w", key, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("putting %s: %w", key, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("putting %s: %w", key, err)
	}
	return nil
}

// Get implements Ledger.
func (d Dir) Get(ctx context.Context, key string) ([]byte, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, err)
	}
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("getting %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, err)
	}
	return body, nil
}

// List implements Ledger. A folder that isn't there is an empty one.
func (d Dir) List(ctx context.Context, prefix string) ([]string, error) {
	start := d.Root
	if i := strings.LastIndexByte(prefix, '/'); i > 0 {
		path, err := d.path(prefix[:i])
		if err != nil {
			return nil, err
		}
		start = path
	}
	var keys []string
	err := filepath.WalkDir(start, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.IsDir() {
			if e.Name() == scratch {
				return fs.SkipDir
			}
			return ctx.Err()
		}
		rel, err := filepath.Rel(d.Root, path)
		if err != nil {
			return err
		}
		if key := filepath.ToSlash(rel); strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", prefix, err)
	}
	slices.Sort(keys)
	return keys, nil
}

func (d Dir) path(key string) (string, error) {
	if !fs.ValidPath(key) || strings.HasPrefix(key, ".") || strings.Contains(key, "/.") {
		return "", fmt.Errorf("%q is not a ledger key", key)
	}
	return filepath.Join(d.Root, filepath.FromSlash(key)), nil
}

// write puts body into a synced file under the scratch folder.
func (d Dir) write(body []byte) (string, error) {
	folder := filepath.Join(d.Root, scratch)
	if err := makeFolder(folder); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(folder, "put-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// makeFolder makes a folder and its parents, each synced into the one above.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
